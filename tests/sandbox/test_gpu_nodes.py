# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes with real GPUs: NVIDIA's handler, its device plugin, and what comes from the host."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import tomllib

from sandbox import cli, containerd, gpu_nodes, host, node_image, nvidia, pack, torch_image
from sandbox.artefacts import Artefacts
from sandbox.images import write_layer
from sandbox.inventory import Hardware
from sandbox.nodes import BUILDS_MOUNT, Container
from sandbox.plan import Step
from sandbox.settings import GPU_RESOURCE, Paths, SandboxError
from sandbox.shell import Log, Shell

SANDBOX = Path(gpu_nodes.__file__).parent
VERSION_2 = (SANDBOX / "rootfs/etc/containerd/config.toml").read_text()
VERSION_3 = (SANDBOX / "machine-rootfs/etc/containerd/config.toml").read_text()


def gpu_host(tmp_path: Path, gpus: int) -> tuple[Path, Path]:
    """The device files and NVML of a host with this number of GPUs."""
    devices, nvml = tmp_path / "dev", tmp_path / "libnvidia-ml.so.1"
    devices.mkdir()
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(gpus))):
        (devices / name).touch()
    nvml.touch()
    return devices, nvml


def test_a_host_whose_gpus_are_all_offered_is_accepted(tmp_path: Path) -> None:
    assert gpu_nodes.host_problems(2, *gpu_host(tmp_path, 2)) == []


def test_all_that_the_host_lacks_is_named_at_once(tmp_path: Path) -> None:
    devices, nvml = gpu_host(tmp_path, 2)
    nvml.unlink()
    number, driver = gpu_nodes.host_problems(1, devices, nvml)
    assert "--gpus 1" in number
    assert "expected 2" in number
    assert str(nvml) in driver


@pytest.mark.parametrize(
    ("config", "plugin", "systemd"),
    [
        (VERSION_2, "io.containerd.grpc.v1.cri", False),
        (VERSION_2.replace("SystemdCgroup = false", "SystemdCgroup = true"), "io.containerd.grpc.v1.cri", True),
        (VERSION_3, "io.containerd.cri.v1.runtime", True),
    ],
)
def test_a_handler_joins_those_of_the_node_and_has_their_cgroup_driver(config: str, plugin: str, systemd: bool) -> None:
    text = config + gpu_nodes.handler(config, "nvidia") + gpu_nodes.handler(config, "nvidia-old", "/opt/old")
    runtimes = tomllib.loads(text)["plugins"][plugin]["containerd"]["runtimes"]
    assert set(runtimes) == {"runc", "nvidia", "nvidia-old"}
    assert runtimes["nvidia"]["options"] == {"BinaryName": gpu_nodes.PROGRAM, "SystemdCgroup": systemd}
    assert runtimes["nvidia-old"]["options"]["BinaryName"] == "/opt/old"
    assert "base_runtime_spec" not in runtimes["runc"]


class FilesOnly(Container):
    """A node that keeps what is written to it, and every command."""

    files: dict[str, str]
    commands: list[str]

    def __init__(self, config: str) -> None:
        super().__init__("lab-worker-1", Shell(Log(Path(os.devnull))))
        object.__setattr__(self, "files", {containerd.CONFIGURATION: config})
        object.__setattr__(self, "commands", [])

    def write(self, path: str, text: str) -> None:
        self.files[path] = text

    def run(self, *command: str, **_: Any) -> str:
        self.commands.append(" ".join(command))
        if command[0] == "cat":
            return self.files[command[1]]
        return '{"process": {}, "mounts": []}' if command == ("ctr", "oci", "spec") else "answer"


def test_a_prepared_node_has_the_handler_when_containerd_starts_and_the_image_after_that(tmp_path: Path) -> None:
    node = FilesOnly(VERSION_2)
    gpu_nodes.prepare(node, Paths(tmp_path))
    config = tomllib.loads(node.files[containerd.CONFIGURATION])
    runtime = config["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]["nvidia"]
    assert json.loads(node.files[runtime["base_runtime_spec"]])["mounts"]
    restart = node.commands.index("systemctl restart containerd")
    assert (
        f"ctr -n k8s.io images import {BUILDS_MOUNT}/{nvidia.folder(Paths(tmp_path)).name}/device-plugin.tar"
        in (node.commands[restart:])
    )


def test_another_runc_has_a_configuration_of_its_own_beside_the_program() -> None:
    """Where kubepin looks for it, too, as the GPU Operator leaves it."""
    node = FilesOnly(VERSION_2)
    program = Path(gpu_nodes.runtime_with(node, "old", "/opt/runc-1.0.0/runc"))
    (written,) = (command for command in node.commands if command.startswith("nvidia-ctk"))
    assert f"--config-file={program.parent}/.config/nvidia-container-runtime/config.toml" in written
    assert "--set=nvidia-container-runtime.runtimes=/opt/runc-1.0.0/runc" in written
    assert f"XDG_CONFIG_HOME={program.parent}/.config exec {gpu_nodes.PROGRAM}" in node.files[str(program)]


def test_containers_get_the_hosts_folders_read_only_beside_their_own() -> None:
    default = {"process": {"rlimits": [{"type": "RLIMIT_NOFILE"}]}, "mounts": [{"destination": "/proc"}]}
    content = json.loads(gpu_nodes.specification(json.dumps(default)))
    assert "rlimits" not in content["process"]
    mounts = {mount["destination"]: mount.get("options") for mount in content["mounts"]}
    assert mounts == {"/proc": None, "/host/usr": ["rbind", "ro"], "/host/opt": ["rbind", "ro"]}


def plugin_container(daemon_set: dict[str, Any]) -> dict[str, Any]:
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_the_device_plugin_passes_device_nodes_and_runs_under_nvidias_handler() -> None:
    (daemon_set,) = gpu_nodes.device_plugin()
    env = {item["name"]: item["value"] for item in plugin_container(daemon_set)["env"]}
    assert env["PASS_DEVICE_SPECS"] == "true"
    assert "CONFIG_FILE" not in env
    assert daemon_set["spec"]["template"]["spec"]["runtimeClassName"] == gpu_nodes.runtime_class()["handler"]


def test_shared_gpus_come_from_the_plugins_own_configuration() -> None:
    config_map, daemon_set = gpu_nodes.device_plugin(60)
    (volume,) = (it for it in daemon_set["spec"]["template"]["spec"]["volumes"] if "configMap" in it)
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    (mount,) = (it for it in plugin_container(daemon_set)["volumeMounts"] if it["name"] == volume["name"])
    env = {item["name"]: item["value"] for item in plugin_container(daemon_set)["env"]}
    file = Path(env["CONFIG_FILE"])
    assert str(file.parent) == mount["mountPath"]
    sharing = json.loads(config_map["data"][file.name])["sharing"]["timeSlicing"]
    assert sharing == {"resources": [{"name": GPU_RESOURCE, "replicas": 60}]}


def test_another_number_of_replicas_starts_the_plugin_again() -> None:
    assert gpu_nodes.device_plugin(2)[-1] != gpu_nodes.device_plugin(3)[-1] != gpu_nodes.device_plugin()[-1]


def test_the_benchmarks_image_finds_the_hosts_programs_and_no_driver(tmp_path: Path) -> None:
    root, container = tmp_path / "host-root", tmp_path / "container"
    for folder in (
        "usr/bin",
        "usr/lib/x86_64-linux-gnu",
        "usr/local/bin",
        "usr/local/nvidia/lib64",
        "opt/torch",
        "etc",
    ):
        (root / folder).mkdir(parents=True)
    (root / "usr/bin/python3").write_text("program")
    (root / "usr/local/bin/tool").write_text("tool")
    (root / "opt/torch/torch.py").write_text("torch")
    (root / "usr/lib/x86_64-linux-gnu/libc.so.6").write_text("library")
    for name, target in (("bin", "usr/bin"), ("lib", "usr/lib"), ("initrd", "boot/initrd")):
        (root / name).symlink_to(target)
    write_layer(torch_image.host_layer(root), tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as layer:
        layer.extractall(container, filter="tar")
    (container / "host").symlink_to(root)  # as the handler mounts it
    assert (container / "bin/python3").read_text() == "program"
    assert (container / "lib/x86_64-linux-gnu/libc.so.6").read_text() == "library"
    assert (container / "usr/local/bin/tool").read_text() == "tool"
    assert (container / "opt/torch/torch.py").read_text() == "torch"
    assert not (container / "usr/local/nvidia").exists()
    assert not (container / "initrd").is_symlink()
    # A pod mounts something there, and NVIDIA's hooks write there.
    for own in ("opt", "etc", "usr/local"):
        assert (container / own).is_dir()
        assert not (container / own).is_symlink()


def test_inventory_says_that_gpus_are_real() -> None:
    stand_in = Hardware(frozenset({0, 1}), frozenset({0}), "systemd").variables()
    real = Hardware(frozenset({0, 1}), frozenset({0}), "systemd", gpus=2, real=True).variables()
    assert real["gpu_benchmark_runtime_class"] == real["cpu_manager_probe_runtime_class"] == gpu_nodes.RUNTIME_CLASS
    assert real["gpu_benchmark_device"] == "cuda"
    assert real["sandbox_gpus"] == 2
    assert "gpu_benchmark_runtime_class" not in stand_in


def test_the_plugins_image_has_its_program_and_the_nodes_libraries(tmp_path: Path) -> None:
    paths, scratch = Paths(tmp_path / "cache"), tmp_path / "scratch"
    libraries = tmp_path / "root/usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for name in (nvidia.LOADER, *nvidia.LIBRARIES):
        (libraries / name).write_text(name)
    node_image.node_root(paths).folder.mkdir(parents=True)
    with tarfile.open(node_image.node_root(paths).tar, "w") as root:
        root.add(tmp_path / "root", ".")
    (scratch / "bin").mkdir(parents=True)
    (scratch / "bin" / nvidia.PLUGIN_PROGRAM).write_text("plugin")
    nvidia.write_plugin_image(paths, scratch, tmp_path / "image.tar")
    container = tmp_path / "container"
    with tarfile.open(tmp_path / "image.tar") as image:
        (manifest,) = json.load(image.extractfile("manifest.json") or pytest.fail("no manifest"))
        (layer,) = manifest["Layers"]
        tarfile.open(fileobj=image.extractfile(layer)).extractall(container, filter="tar")  # noqa: SIM115
    assert manifest["RepoTags"] == [nvidia.PLUGIN_IMAGE]
    assert (container / "usr/bin/nvidia-device-plugin").read_text() == "plugin"
    # Where the kernel looks for the loader, and the loader for a library.
    assert (container / "lib64/ld-linux-x86-64.so.2").read_text() == nvidia.LOADER
    assert (container / "lib/x86_64-linux-gnu/libc.so.6").read_text() == "libc.so.6"


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    shell = Shell(Log(tmp_path / "log"))
    assert [step.name for step in nvidia.missing(paths, shell)] == ["nvidia"]
    with pytest.raises(SandboxError, match=r"lacks .*nvidia.*sandbox pack.*unpack"):
        nvidia.require(paths)
    nvidia.folder(paths).mkdir(parents=True)
    assert nvidia.missing(paths, shell) == []
    nvidia.require(paths)


def test_pack_builds_them_before_it_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def missing(paths: Paths, shell: Shell) -> list[Step]:
        return [] if done else [Step("nvidia", "NVIDIA: building", lambda: done.append("built"))]

    def packed(artefacts: Artefacts, output: Path) -> list[Path]:
        done.append("packed")
        return [output]

    monkeypatch.setattr(nvidia, "missing", missing)
    monkeypatch.setattr(pack, "require", lambda artefacts: done.clear())
    monkeypatch.setattr(pack, "pack", packed)
    (tmp_path / "bundle").touch()
    options = cli.parser().parse_args(["pack", "--output", str(tmp_path / "bundle")])
    assert cli.write_bundles(Paths(tmp_path), options) == 0
    assert done == ["built", "packed"]


def test_a_host_without_docker_is_made_ready_for_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs `host-setup` there, and the eighth kubelet would not start."""
    raised: list[str] = []
    monkeypatch.setattr(host, "allows_many_nodes", lambda: False)
    monkeypatch.setattr(host, "allow_many_nodes", lambda: raised.append("raised"))
    monkeypatch.setattr(cli, "tear_down", lambda paths, shell, name: False)
    monkeypatch.setattr(cli, "create", lambda paths, request: None)
    assert cli.up(Paths(tmp_path), cli.parser().parse_args(["up", "--engine", "namespaces"])) == 0
    assert raised == ["raised"]


def test_up_refuses_gpus_that_the_host_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_nodes, "host_gpus", lambda devices: 1)
    options = cli.parser().parse_args(["up", "--engine", "namespaces", "--gpus", "3"])
    with pytest.raises(SandboxError, match="--gpus 3 cannot be used: expected 1"):
        cli.up(Paths(tmp_path), options)
    assert not (tmp_path / "sandboxes").exists()
