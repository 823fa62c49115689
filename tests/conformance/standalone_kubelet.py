# SPDX-License-Identifier: GPL-3.0-or-later
"""A node outside any cluster, in which real kubelets are started alone, one after the other, with any configuration.

A kubelet takes over the device plugins and the pods' cgroups of the machine that it finds itself on. So this is a node
container of its own, without a network and without a cluster, or a virtual machine of a sandbox whose own kubelet is
stopped. The kubelets have no API server: their pods are static, and their containers need not start.
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

from sandbox import host, namespaces, node_image
from sandbox.cluster import labelled
from sandbox.gobuild import OWN_SOURCES, Go, discard_others, replacing
from sandbox.hashing import hash_of, hash_of_folder
from sandbox.machines import Machine
from sandbox.namespaces import NamespaceNode
from sandbox.nodes import BUILDS_MOUNT, Container
from sandbox.settings import Paths, SandboxError, Version
from sandbox.shell import Log, Shell
from sandbox.state import State

PROGRAM = Path(__file__).with_name("standalone_kubelet_node.py")
DEVICE_PLUGIN = Path(__file__).with_name("device-plugin")
SOCKET = "unix:///run/containerd/containerd.sock"
SECONDS = 30
# An emulated one takes ten times as long as a container on the same CPUs.
MACHINE_SECONDS = 300
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
class Place:
    """Where a node outside any cluster runs; two at once need different names.

    :param engine: docker, namespaces, or machine for the virtual machine of that name, which a sandbox has
    """

    name: str
    engine: str = "docker"


@dataclass(frozen=True)
class StandaloneNode:
    """The node, and what its kubelets need."""

    paths: Paths
    node: Container | Machine
    cgroup_driver: str = "cgroupfs"
    seconds: int = SECONDS
    only: Version | None = None
    """The release in /usr/bin, the only one of the machine."""

    def require(self, version: Version) -> str:
        """The kubelet's path in the node; raises SandboxError if it is not there."""
        if self.only:
            if self.only != version:
                raise SandboxError(f"{self.node.name} has the kubelet {self.only} only: {version} cannot be run there.")
            return "/usr/bin/kubelet"
        if not (self.paths.kubernetes(version) / "bin" / "kubelet").exists():
            raise SandboxError(
                f"the kubelet {version} is not built. Run `python3 -m sandbox build --k8s {version}` first."
            )
        return f"{BUILDS_MOUNT}/kubernetes-{version}/bin/kubelet"

    def put_tree(self, name: str, tree: Path) -> None:
        """Copies a machine's files into the node, for `run` to show."""
        self.node.run("mkdir", "-p", "/root/trees")
        archive = tree.parent / f"{name}.tar"
        self.node.shell.run(["tar", "-C", str(tree), "-cf", str(archive), "."])
        self.node.copy_in(archive, f"/root/trees/{name}.tar")
        self.node.run("sh", "-c", f"mkdir /root/trees/{name} && tar -C /root/trees/{name} -xf /root/trees/{name}.tar")

    def run(self, version: Version, jobs: Sequence[Job], tree: str | None = None) -> Iterator[Result]:
        """Runs jobs one after the other with the kubelet of a version, on the machine `tree` or on the real one."""
        kubelet = self.require(version)
        command = ["unshare", "--mount", "python3", f"/root/{PROGRAM.name}", *([f"/root/trees/{tree}"] if tree else [])]
        process = subprocess.Popen(
            self.node.command(*command, stdin=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            for job in jobs:
                line = {
                    **{"id": job.id, "kubelet": kubelet, "files": dict(job.files), "pods": list(job.pods)},
                    "config": {**job.config, "cgroupDriver": self.cgroup_driver},
                    **{"flags": [*base_flags(version), *job.flags], "seconds": self.seconds},
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


def _device_plugin(paths: Paths, shell: Shell) -> Path:
    """The device plugin, compiled with the modules of the sandbox's own programs unless the cache has it."""
    modules = [OWN_SOURCES / "go.mod", OWN_SOURCES / "go.sum"]
    version = hash_of(hash_of_folder(DEVICE_PLUGIN), *(path.read_text() for path in modules))
    program = paths.builds / f"device-plugin-{version}" / "bin" / DEVICE_PLUGIN.name
    if program.exists():
        return program
    with tempfile.TemporaryDirectory() as folder, replacing(program.parents[1]) as result:
        for source in (*modules, DEVICE_PLUGIN / "main.go"):
            shutil.copy(source, folder)
        Go(paths, shell).build(".", result / "bin" / program.name, cwd=Path(folder), flags=["-mod=readonly"])
    discard_others(program.parents[1], "device-plugin-*")
    return program


@contextmanager
def standalone_node(place: Place) -> Iterator[StandaloneNode]:
    """A node outside any cluster, as long as the block lasts."""
    paths, name = Paths.from_environment(), place.name
    shell = Shell(Log(paths.cache / "standalone-kubelet.log"))
    if place.engine == "machine":
        with standalone_machine(paths, shell, name) as machine:
            yield machine
        return
    node: Container
    if place.engine == "namespaces":
        node, image = NamespaceNode(name, shell, paths, name, gpus=False), str(namespaces.node_tar(paths))
    else:
        host.require_engine(shell)
        node, image = Container(name, shell), node_image.image_name(paths)

    def remove() -> None:
        if isinstance(node, NamespaceNode):
            node.remove()
            shutil.rmtree(paths.sandbox(name).folder, ignore_errors=True)
            return
        containers = labelled(shell, "container", name)
        if containers:
            shell.run(["docker", "rm", "--force", "--volumes", *containers])

    remove()
    try:
        node.create(name, image, None, paths.builds)
        node.boot()
        # Its own kubelet has no program and no configuration here.
        node.run("systemctl", "disable", "--now", "kubelet")
        yield prepared(StandaloneNode(paths, node))
    finally:
        remove()


def prepared(node: StandaloneNode) -> StandaloneNode:
    """The same node, with the programs that run there."""
    node.node.copy_in(PROGRAM, f"/root/{PROGRAM.name}")
    node.node.copy_in(_device_plugin(node.paths, node.node.shell), f"/root/{DEVICE_PLUGIN.name}")
    return node


@contextmanager
def standalone_machine(paths: Paths, shell: Shell, name: str) -> Iterator[StandaloneNode]:
    """A virtual machine of a sandbox, with cgroup v2 and the systemd cgroup driver. Its own kubelet is stopped meanwhile."""
    sandbox = name.rpartition("-machine-")[0]
    state = State.load(paths.sandbox(sandbox)) if sandbox else None
    if state is None or name not in state.machine_names:
        raise SandboxError(
            f'node "{name}" is not a virtual machine of a sandbox: expected a name such as lab-machine-1.'
        )
    machine = Machine(name, shell, paths, state)
    machine.require_running()
    machine.run("systemctl", "stop", "kubelet")
    try:
        machine.run("rm", "-rf", "/root/trees")
        yield prepared(StandaloneNode(paths, machine, "systemd", MACHINE_SECONDS, state.version))
    finally:
        machine.run("systemctl", "start", "kubelet")
