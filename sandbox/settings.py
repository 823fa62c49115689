# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox is called, which Kubernetes it runs and where its files lie."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox.shape import Shape, read_shape

DEFAULT_NAME = "kubepin"
DEFAULT_KUBERNETES = "1.36.3"
DEFAULT_WORKERS = 2

OLDEST_KUBERNETES = (1, 20, 0)
# kubeadm patches the kubelet's configuration of a node, here its cgroup driver:
# https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/control-plane-flags/#patches
OLDEST_WITH_MACHINES = (1, 25, 0)
MAX_WORKERS = 9
DEFAULT_CONTROL_PLANES = 1
MAX_CONTROL_PLANES = 3
DEFAULT_SHAPE = Shape()
NAME_PATTERN = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?")

LABEL = "kubepin.sandbox"
TEST_IMAGE = "kubepin.local/busybox:1"
TORCH_IMAGE = "kubepin.local/torch:1"
GPU_IMAGE = "kubepin.local/gpu-stand-in:1"
GPU_RESOURCE = "nvidia.com/gpu"
GPU_DEVICE = "/dev/nvidia0"
# What stands for a GPU on a machine's PCI bus: QEMU's pci-testdev, for which Linux has no driver (QEMU docs/specs/pci-ids).
GPU_PCI = "0x1b36:0x0005"


# Who runs the nodes: Docker, or this program itself in plain namespaces.
Engine = Literal["docker", "namespaces"]


class SandboxError(Exception):
    """A failure whose text is written for the person who ran the command."""


@dataclass(frozen=True, order=True)
class Version:
    """A Kubernetes release."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `1.MINOR.PATCH`, with or without a leading `v`."""
        match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", text)
        if not match:
            raise SandboxError(
                f'Kubernetes version "{text}" is not of the form 1.MINOR.PATCH. Write for example {DEFAULT_KUBERNETES}.'
            )
        return cls(*(int(number) for number in match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Request:
    """What `up` was asked for, validated."""

    name: str
    kubernetes: Version
    workers: int
    control_planes: int = DEFAULT_CONTROL_PLANES
    torch_workers: int = 0
    dns: bool = True
    machines: int = 0
    shape: Shape = DEFAULT_SHAPE
    engine: Engine = "docker"
    gpus: int = 0


def torch_workers_problems(count: int, workers: int) -> list[str]:
    """Say what is wrong with the number of workers that are to have the benchmark's image."""
    if 0 <= count <= workers:
        return []
    return [f"{count} workers cannot get the benchmark's image: expected 0 to {workers}, the number of workers."]


def engine_problems(engine: Engine, gpus: int, machines: int, torch_workers: int) -> list[str]:
    """Say what the engine cannot do of what was asked for."""
    if engine == "docker":
        return [f"--gpus {gpus} needs --engine namespaces: Docker's nodes have the GPU stand-in only."] if gpus else []
    problems = [f"--gpus {gpus} cannot be used: expected 0 or more."] if gpus < 0 else []
    for option, count in (("--machines", machines), ("--torch-workers", torch_workers)):
        if count:
            problems.append(f"{option} {count} needs --engine docker: leave it out with --engine namespaces.")
    return problems


def name_problems(name: str) -> list[str]:
    """Say what is wrong with a sandbox name; nothing when it is fit for host names and Docker objects."""
    if NAME_PATTERN.fullmatch(name):
        return []
    return [
        f'name "{name}" cannot be used: expected 1 to 20 of a-z, 0-9 and "-", starting with a letter and not ending '
        f'with "-". Choose for example "{DEFAULT_NAME}".'
    ]


def version_problems(text: str) -> list[str]:
    """Say what is wrong with a Kubernetes version."""
    try:
        version = Version.parse(text)
    except SandboxError as error:
        return [str(error)]
    if (version.major, version.minor, version.patch) < OLDEST_KUBERNETES or version.major != 1:
        return [f'Kubernetes version "{text}" is not supported: expected 1.20.0 or newer, below 2.']
    return []


def workers_problems(workers: int, machines: int, kubernetes: str) -> list[str]:
    """Say what is wrong with the numbers of workers that are containers and of those that are machines."""
    problems = []
    if not 0 <= machines <= MAX_WORKERS:
        problems.append(f"machines {machines} cannot be used: expected 0 to {MAX_WORKERS}.")
    fewest = 0 if machines > 0 else 1
    if not fewest <= workers <= MAX_WORKERS:
        problems.append(f"workers {workers} cannot be used: expected {fewest} to {MAX_WORKERS}.")
    if not problems and workers + machines > MAX_WORKERS:
        problems.append(f"{workers} workers and {machines} machines cannot be used: expected {MAX_WORKERS} together.")
    oldest = Version(*OLDEST_WITH_MACHINES)
    if machines > 0 and not version_problems(kubernetes) and Version.parse(kubernetes) < oldest:
        problems.append(f'Kubernetes version "{kubernetes}" cannot be used with machines: expected {oldest} or newer.')
    return problems


def validate(
    name: str,
    kubernetes: str,
    workers: int,
    control_planes: int = DEFAULT_CONTROL_PLANES,
    torch_workers: int = 0,
    dns: bool = True,
    machines: int = 0,
    shape: str = "",
) -> Request:
    """Check all inputs of `up` and report every problem at once."""
    problems = name_problems(name) + version_problems(kubernetes) + workers_problems(workers, machines, kubernetes)
    if not 1 <= control_planes <= MAX_CONTROL_PLANES:
        problems.append(f"control planes {control_planes} cannot be used: expected 1 to {MAX_CONTROL_PLANES}.")
    problems += torch_workers_problems(torch_workers, workers)
    form = read_shape(shape)
    if shape and not machines:
        problems.append(f'machine shape "{shape}" is for no machine: give the number of machines too.')
    if isinstance(form, list):
        problems += form
    if problems or isinstance(form, list):
        raise SandboxError("\n".join(problems))
    version = Version.parse(kubernetes)
    return Request(name, version, workers, control_planes, torch_workers, dns, machines, form)


@dataclass(frozen=True)
class Paths:
    """The cache folder and everything in it. Nothing of a sandbox lies outside, but Docker's own objects."""

    cache: Path

    @classmethod
    def from_environment(cls) -> Paths:
        """Take KUBEPIN_CACHE, or ~/.cache/kubepin."""
        return cls(Path(os.environ.get("KUBEPIN_CACHE") or Path.home() / ".cache" / "kubepin").absolute())

    @property
    def go(self) -> Path:
        """Go's module and build caches."""
        return self.cache / "go"

    @property
    def go_toolchain(self) -> Path:
        """A Go toolchain fetched where the host has none that is new enough."""
        return self.cache / "go-toolchain"

    @property
    def builds(self) -> Path:
        """All artefacts; mounted read-only into every node."""
        return self.cache / "builds"

    def kubernetes(self, version: Version) -> Path:
        """Binaries (bin/) and image archives (images/) of one Kubernetes release."""
        return self.builds / f"kubernetes-{version}"

    @property
    def node_root(self) -> Path:
        """Root file systems for the node image, by the hash of their inputs."""
        return self.cache / "node-root"

    @property
    def locks(self) -> Path:
        """Lock files."""
        return self.cache / "locks"

    @property
    def machine_image(self) -> Path:
        """What virtual machines start from."""
        return self.cache / "machine-image"

    @property
    def durations(self) -> Path:
        """How long each step took when it last ran."""
        return self.cache / "durations.json"

    @property
    def build_log(self) -> Path:
        """Output of a `build` that belongs to no sandbox."""
        return self.cache / "build.log"

    @property
    def diagnostics(self) -> Path:
        """Where `collect` writes unless told otherwise."""
        return self.cache / "diagnostics"

    @property
    def sandboxes(self) -> Path:
        """State folders, one per sandbox."""
        return self.cache / "sandboxes"

    def sandbox(self, name: str) -> SandboxPaths:
        """State files of one sandbox."""
        return SandboxPaths(self.sandboxes / name)


@dataclass(frozen=True)
class SandboxPaths:
    """The state folder of one sandbox."""

    folder: Path

    @property
    def state(self) -> Path:
        """Name, version, subnet, nodes and phase."""
        return self.folder / "sandbox.json"

    @property
    def ssh_key(self) -> Path:
        """Private key for root on the nodes."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys: a container's read through the Docker engine, a machine's made on the host."""
        return self.folder / "known_hosts"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, usable from the host."""
        return self.folder / "admin.conf"

    @property
    def inventory(self) -> Path:
        """The Ansible inventory that inventory/sandbox/hosts.py prints."""
        return self.folder / "inventory.json"

    @property
    def resolver(self) -> Path:
        """The nodes' resolv.conf, while the sandbox is made."""
        return self.folder / "resolv.conf"

    @property
    def machines(self) -> Path:
        """A folder for each machine."""
        return self.folder / "machines"

    @property
    def machine_builds(self) -> Path:
        """The disk that machines find Kubernetes' programs and images on."""
        return self.folder / "machine-builds.raw"

    def machine(self, name: str) -> MachinePaths:
        """Files of one machine."""
        return MachinePaths(self.machines / name)

    @property
    def log(self) -> Path:
        """All commands of `up` with their complete output."""
        return self.folder / "up.log"


@dataclass(frozen=True)
class MachinePaths:
    """The folder of one virtual machine."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The kernel that belongs to the modules on its disk."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial RAM disk, with its identity."""
        return self.folder / "initrd.img"

    @property
    def disk(self) -> Path:
        """Its disk."""
        return self.folder / "disk.raw"

    @property
    def host_key(self) -> Path:
        """The private key of its SSH server."""
        return self.folder / "ssh_host_ed25519_key"

    @property
    def ssh_socket(self) -> Path:
        """The path of the socket of a persistent SSH connection."""
        return self.folder / "ssh"

    @property
    def console(self) -> Path:
        """What its kernel and systemd wrote to the serial console, of all its boots."""
        return self.folder / "console.log"

    @property
    def pid(self) -> Path:
        """The process number of its QEMU."""
        return self.folder / "qemu.pid"
