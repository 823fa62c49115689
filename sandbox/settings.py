# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox is called, which Kubernetes it runs and where its files lie."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = "kubepin"
DEFAULT_KUBERNETES = "1.36.3"
DEFAULT_WORKERS = 2

OLDEST_KUBERNETES = (1, 20, 0)
MAX_WORKERS = 9
DEFAULT_CONTROL_PLANES = 1
MAX_CONTROL_PLANES = 3
NAME_PATTERN = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?")

LABEL = "kubepin.sandbox"
TEST_IMAGE = "kubepin.local/busybox:1"
TORCH_IMAGE = "kubepin.local/torch:1"
GPU_IMAGE = "kubepin.local/gpu-stand-in:1"
GPU_RESOURCE = "nvidia.com/gpu"
GPU_DEVICE = "/dev/nvidia0"


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


def torch_workers_problems(count: int, workers: int) -> list[str]:
    """Say what is wrong with the number of workers that are to have the benchmark's image."""
    if 0 <= count <= workers:
        return []
    return [f"{count} workers cannot get the benchmark's image: expected 0 to {workers}, the number of workers."]


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


def validate(
    name: str,
    kubernetes: str,
    workers: int,
    control_planes: int = DEFAULT_CONTROL_PLANES,
    torch_workers: int = 0,
    dns: bool = True,
) -> Request:
    """Check all inputs of `up` and report every problem at once."""
    problems = name_problems(name) + version_problems(kubernetes)
    if not 1 <= workers <= MAX_WORKERS:
        problems.append(f"workers {workers} cannot be used: expected 1 to {MAX_WORKERS}.")
    if not 1 <= control_planes <= MAX_CONTROL_PLANES:
        problems.append(f"control planes {control_planes} cannot be used: expected 1 to {MAX_CONTROL_PLANES}.")
    problems += torch_workers_problems(torch_workers, workers)
    if problems:
        raise SandboxError("\n".join(problems))
    return Request(name, Version.parse(kubernetes), workers, control_planes, torch_workers, dns)


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
        """The nodes' host keys, read through the Docker engine."""
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
    def log(self) -> Path:
        """All commands of `up` with their complete output."""
        return self.folder / "up.log"
