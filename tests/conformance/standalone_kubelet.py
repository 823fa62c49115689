# SPDX-License-Identifier: GPL-3.0-or-later
"""A node outside any cluster, in which real kubelets are started alone, one after the other, with any configuration.

A kubelet takes over the device plugins and the pods' cgroups of the machine that it finds itself on. So this is a node
container of its own, without a network and without a cluster. The kubelets have no API server: their pods are static,
and their containers need not start.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import host, node_image
from sandbox.cluster import labelled
from sandbox.gobuild import OWN_SOURCES, Go
from sandbox.nodes import BUILDS_MOUNT, Container
from sandbox.settings import Paths, SandboxError, Version
from sandbox.shell import Log, Shell

PROGRAM = Path(__file__).with_name("standalone_kubelet_node.py")
DEVICE_PLUGIN = Path(__file__).with_name("device-plugin")
SOCKET = "unix:///run/containerd/containerd.sock"
SECONDS = 30
WORK = "/var/tmp/standalone-kubelet"

Json = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One start of a kubelet; `files` go into its root directory, `pods` are admitted in their order.

    `plugins` maps resources to the arguments of their device plugin (`device-plugin/main.go`).
    """

    id: str
    config: Mapping[str, Any]
    flags: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    pods: Sequence[Mapping[str, Any]] = ()
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of a job. `exit` is None if the kubelet came to admit pods, "timeout" if it did nothing in time."""

    id: str
    exit: int | str | None
    files: Mapping[str, str]
    log: str


def base_config(version: Version) -> Json:
    """What any kubelet needs to run alone in a node."""
    config: Json = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "staticPodPath": f"{WORK}/pods",
        "port": 20250,
        "healthzPort": 20248,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "0%"},
    }
    if version.minor >= 31:
        config["failCgroupV1"] = False
    return config


def base_flags(version: Version) -> list[str]:
    """What any kubelet needs on its command line to run alone in a node."""
    remote = ["--container-runtime=remote"] if version.minor < 24 else []
    return ["--hostname-override=standalone", f"--container-runtime-endpoint={SOCKET}", "--v=3", *remote]


@dataclass(frozen=True)
class StandaloneNode:
    """The node container."""

    paths: Paths
    node: Container

    def require(self, version: Version) -> str:
        """The kubelet's path in the node; raises SandboxError if it is not built."""
        if not (self.paths.kubernetes(version) / "bin" / "kubelet").exists():
            raise SandboxError(
                f"the kubelet {version} is not built. Run `python3 -m sandbox build --k8s {version}` first."
            )
        return f"{BUILDS_MOUNT}/kubernetes-{version}/bin/kubelet"

    def put_tree(self, name: str, tree: Path) -> None:
        """Copies a machine's files into the node, for `run` to show."""
        self.node.run("mkdir", "-p", "/root/trees")
        self.node.copy_in(tree, f"/root/trees/{name}")

    def run(self, version: Version, jobs: Sequence[Job], tree: str | None = None) -> Iterator[Result]:
        """Runs jobs one after the other with the kubelet of a version, on the machine `tree` or on the real one."""
        kubelet = self.require(version)
        command = ["docker", "exec", "-i", self.node.name, "unshare", "--mount", "python3", f"/root/{PROGRAM.name}"]
        process = subprocess.Popen(
            [*command, *([f"/root/trees/{tree}"] if tree else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            for job in jobs:
                line = {
                    **{"id": job.id, "kubelet": kubelet, "config": dict(job.config), "files": dict(job.files)},
                    **{"flags": [*base_flags(version), *job.flags], "pods": list(job.pods), "seconds": SECONDS},
                    "plugins": {resource: list(arguments) for resource, arguments in job.plugins.items()},
                }
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise SandboxError(f"{self.node.name}: {PROGRAM.name} ended in job {job.id}, exit {process.wait()}")
                yield Result(**json.loads(answer))
        finally:
            process.stdin.close()
            process.wait()


def _device_plugin(go: Go, folder: Path) -> Path:
    """Compiles the device plugin with the modules of the sandbox's own programs."""
    for source in (OWN_SOURCES / "go.mod", OWN_SOURCES / "go.sum", DEVICE_PLUGIN / "main.go"):
        shutil.copy(source, folder)
    program = folder / DEVICE_PLUGIN.name
    go.build(".", program, cwd=folder, flags=["-mod=readonly"])
    return program


@contextmanager
def standalone_node(name: str) -> Iterator[StandaloneNode]:
    """A node outside any cluster, as long as the block lasts."""
    paths = Paths.from_environment()
    shell = Shell(Log(paths.cache / "standalone-kubelet.log"))
    host.require_engine(shell)
    image = node_image.image_name(paths)
    node = Container(name, shell)

    def remove() -> None:
        containers = labelled(shell, "container", name)
        if containers:
            shell.run(["docker", "rm", "--force", "--volumes", *containers])

    remove()
    try:
        node.create(name, image, None, paths.builds)
        node.boot()
        # Its own kubelet has no program and no configuration here.
        node.run("systemctl", "disable", "--now", "kubelet")
        node.copy_in(PROGRAM, f"/root/{PROGRAM.name}")
        with tempfile.TemporaryDirectory() as folder:
            node.copy_in(_device_plugin(Go(paths, shell), Path(folder)), f"/root/{DEVICE_PLUGIN.name}")
        yield StandaloneNode(paths, node)
    finally:
        remove()
