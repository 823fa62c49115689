# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes with real GPUs: NVIDIA's container runtime on them, and NVIDIA's device plugin in the cluster.

What a registry would serve comes from the host, at /host of each container under NVIDIA's handler: an image of gigabytes
with Python and PyTorch. The driver's libraries and device nodes come from NVIDIA's runtime.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox import containerd, nvidia
from sandbox.manifests import PLUGIN_FOLDER, worker_daemon_set
from sandbox.nodes import BUILDS_MOUNT, Node
from sandbox.settings import GPU_RESOURCE, Paths

RUNTIME_CLASS = "nvidia"
DRIVER = Path("/usr/local/nvidia")
NVML = DRIVER / "lib64/libnvidia-ml.so.1"
PROGRAM = "/usr/bin/nvidia-container-runtime"
BASE_SPECIFICATION = "/etc/containerd/nvidia.json"
NVIDIA_CONFIGURATION = "nvidia-container-runtime/config.toml"
RUNTIMES = "/opt/nvidia-container-runtimes"

HOST_FOLDERS: Mapping[str, str] = {"/host/usr": "/host/usr", "/host/opt": "/host/opt"}
"""What the benchmark's image has links into: paths in a container -> on a node."""
HOST_VOLUMES: Mapping[str, str] = {**HOST_FOLDERS, str(DRIVER): str(DRIVER)}
"""What a container mounts that NVIDIA's handler does not start, to have Python, PyTorch and the driver's libraries."""

# So that the runtime finds nvidia-smi, which it mounts where it is on the host.
SERVICE_PATH = f"""[Service]
Environment=PATH={DRIVER}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
# The GPU Operator's containers start the runtime like this (nvidia-container-toolkit, cmd/nvidia-ctk-installer).
WRAPPER = """#!/bin/sh
XDG_CONFIG_HOME={folder}/.config exec {program} "$@"
"""


def host_gpus(devices: Path = Path("/dev")) -> int:
    """How many GPUs the host has."""
    return sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in devices.iterdir())


def host_problems(gpus: int, devices: Path = Path("/dev"), nvml: Path = NVML) -> list[str]:
    """Say why the host cannot offer this number of GPUs."""
    problems = []
    found = host_gpus(devices)
    if found != gpus:
        problems.append(
            f"--gpus {gpus} cannot be used: expected {found}, the number of GPUs of this host. NVIDIA's device plugin offers all."
        )
    if not nvml.exists():
        problems.append(f"the host has no {nvml}: expected the GPU's driver in {DRIVER}. Mount or link it there.")
    return problems


def prepare(node: Node, paths: Paths) -> None:
    """Give a node NVIDIA's container runtime and its handler in containerd, and the image of the device plugin."""
    builds = [f"{BUILDS_MOUNT}/{path.relative_to(paths.builds)}" for path in nvidia.programs(paths)]
    node.run("install", "-m755", *builds, "/usr/bin/")
    node.write("/etc/ld.so.conf.d/nvidia.conf", f"{DRIVER}/lib64\n")
    node.run("ldconfig", "-X")  # the links in the driver's folder, which is the host's, stay as they are
    write_configuration(node, "/etc")
    node.write(BASE_SPECIFICATION, specification(node.run("ctr", "oci", "spec")))
    node.write("/etc/systemd/system/containerd.service.d/nvidia.conf", SERVICE_PATH)
    config = node.run("cat", containerd.CONFIGURATION)
    node.write(containerd.CONFIGURATION, config + handler(config, RUNTIME_CLASS))
    node.run("systemctl", "daemon-reload")
    containerd.restart(node)
    node.import_image(str(nvidia.plugin_archive(paths).relative_to(paths.builds)))


def write_configuration(node: Node, folder: str, *settings: str) -> None:
    """Write the configuration of NVIDIA's runtime below a folder: its defaults, and settings such as `KEY=VALUE`."""
    path = f"{folder}/{NVIDIA_CONFIGURATION}"
    sets = [f"--set={setting}" for setting in settings]
    node.run("nvidia-ctk", "--quiet", "config", f"--config-file={path}", "--in-place", *sets)


def specification(default: str) -> str:
    """What containerd starts from for each container of the handler: its default, with the host's folders."""
    content = json.loads(default)
    content["process"].pop("rlimits", None)  # a container without CAP_SYS_RESOURCE may not raise them
    content["mounts"] += [
        {"destination": path, "source": source, "type": "bind", "options": ["rbind", "ro"]}
        for path, source in HOST_FOLDERS.items()
    ]
    return json.dumps(content)


def handler(config: str, name: str, program: str = PROGRAM) -> str:
    """The lines that add a handler with NVIDIA's runtime and the host's folders to a configuration of containerd."""
    return containerd.handler(config, name, program, BASE_SPECIFICATION)


def runtime_with(node: Node, name: str, runc: str) -> str:
    """Put NVIDIA's runtime with a configuration of its own that names this runc on a node; return the program's path.

    Programs and configuration lie beside each other, as the GPU Operator leaves them.
    """
    folder = f"{RUNTIMES}/{name}"
    program = f"{folder}/{Path(PROGRAM).name}"
    write_configuration(node, f"{folder}/.config", f"nvidia-container-runtime.runtimes={runc}")
    node.write(program, WRAPPER.format(folder=folder, program=PROGRAM))
    node.run("chmod", "755", program)
    node.run("ln", "-sf", "/usr/bin/nvidia-ctk", f"{folder}/nvidia-ctk")
    return program


def runtime_class(name: str = RUNTIME_CLASS) -> dict[str, Any]:
    """The RuntimeClass for the handler of the same name."""
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}


def sharing(replicas: int) -> dict[str, Any]:
    """The device plugin's configuration that offers each GPU several times (its README, "With CUDA Time-Slicing")."""
    resource = {"name": GPU_RESOURCE, "replicas": replicas}
    return {"version": "v1", "sharing": {"timeSlicing": {"resources": [resource]}}}


def device_plugin(replicas: int = 1) -> list[dict[str, Any]]:
    """NVIDIA's device plugin on all workers, and its configuration if it offers each GPU several times.

    As the project's deployments/static/nvidia-device-plugin-compat-with-cpumanager.yml, which nodes with the static policy
    need. The image is compiled; NVIDIA's own has NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES in its environment.
    """
    name = "nvidia-device-plugin"
    env = {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "PASS_DEVICE_SPECS": "true",
    }
    mounts = {"plugins": PLUGIN_FOLDER}
    volumes: list[dict[str, Any]] = [{"name": "plugins", "hostPath": {"path": PLUGIN_FOLDER}}]
    objects: list[dict[str, Any]] = []
    if replicas > 1:
        metadata = {"name": f"{name}-{replicas}", "namespace": "kube-system"}
        data = {"config.yaml": json.dumps(sharing(replicas))}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        env["CONFIG_FILE"] = "/config/config.yaml"
        mounts["config"] = "/config"
        volumes.append({"name": "config", "configMap": {"name": metadata["name"]}})
    container = {
        "name": "nvidia-device-plugin-ctr",
        "image": nvidia.PLUGIN_IMAGE,
        "imagePullPolicy": "Never",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }
    daemon_set = worker_daemon_set(name, container, volumes)
    daemon_set["spec"]["template"]["spec"]["runtimeClassName"] = RUNTIME_CLASS
    return [*objects, daemon_set]
