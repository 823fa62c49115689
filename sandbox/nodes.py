# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes: what the sandbox does with every one, and node containers with a real systemd, containerd and SSH server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.network import network_name
from sandbox.settings import LABEL, SandboxPaths
from sandbox.shell import CommandFailed, Shell, wait_for

BUILDS_MOUNT = "/opt/sandbox/builds"

ISOLATION = [
    # Not --privileged: it asks for CAP_SYS_RESOURCE too, which many virtual machines and containers do not have.
    *["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"],
    *["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"],
    # Else /proc/sys is masked and cannot be made writable.
    *["--security-opt", "systempaths=unconfined"],
    *["--device-cgroup-rule", "a *:* rwm"],
    "--cgroupns=private",
]
MOUNTS = [
    *["--tmpfs", "/run", "--tmpfs", "/tmp"],
    # overlayfs does not stack on Docker's own, and a node's data must survive a restart.
    *["-v", "/var/lib/containerd", "-v", "/var/lib/kubelet", "-v", "/var/lib/etcd", "-v", "/var/log"],
    # The kubelet's OOM watcher opens it.
    *["-v", "/dev/kmsg:/dev/kmsg"],
]


@dataclass(frozen=True)
class Node(ABC):
    """A node, by its name, which is its host name and its Kubernetes name too."""

    name: str
    shell: Shell

    KIND = "node"
    BOOT_SECONDS = 60
    UNITS = ("ssh", "containerd", "sandbox-boot")

    @abstractmethod
    def command(self, *words: str, stdin: bool = False) -> list[str]:
        """The host's command that runs a command in the node."""

    @abstractmethod
    def fetch_command(self, path: str, target: Path) -> list[str]:
        """The host's command that copies a file or folder of the node, running or not, to `target`.

        `target` has the same last part as `path`; the folder above it exists.
        """

    @abstractmethod
    def state(self) -> str:
        """One word for what the node is: `running`, `missing`, or another for one that can be started."""

    @abstractmethod
    def start(self) -> None:
        """Start the node and do not wait."""

    @abstractmethod
    def host_key(self) -> str:
        """The public host key, beyond doubt."""

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float | None = None) -> str:
        """Run a command in the node."""
        words = self.command(*command, stdin=stdin is not None)
        return self.shell.run(words, stdin=stdin, check=check, timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Write a file in the running node, readable by root only."""
        self.run("sh", "-c", f'umask 077; mkdir -p "$(dirname {path})"; cat > {path}', stdin=text)

    def boot(self) -> None:
        """Start the node and wait for systemd and the SSH server."""
        self.start()
        self.wait_booted()

    def wait_booted(self) -> None:
        """Wait until systemd has started everything once."""

        def booted() -> bool:
            answer = self.run("systemctl", "is-system-running", check=False)
            # degraded: the kubelet fails until kubeadm has configured it.
            return answer.strip() in ("running", "degraded")

        wait_for(f"{self.KIND} {self.name}: systemd has booted", booted, self.BOOT_SECONDS)
        self.run("systemctl", "is-active", *self.UNITS)

    def install(self, binaries: Sequence[str], archives: Sequence[str]) -> None:
        """Copy binaries to /usr/bin and import image archives; both are paths below the mounted builds folder."""
        self.run("install", "-m755", *[f"{BUILDS_MOUNT}/{path}" for path in binaries], "/usr/bin/")
        for archive in archives:
            self.import_image(archive)

    def import_image(self, archive: str) -> None:
        """Give an image archive, by its path below the mounted builds folder, to containerd."""
        self.run("ctr", "-n", "k8s.io", "images", "import", f"{BUILDS_MOUNT}/{archive}")

    def has_image(self, name: str) -> bool:
        """Whether containerd has an image of this name, for the kubelet to use."""
        return name in self.run("ctr", "-n", "k8s.io", "images", "list", "-q").split()

    def running(self) -> bool:
        """Whether the node runs."""
        return self.state() == "running"


@dataclass(frozen=True)
class Container(Node):
    """A node that is a Docker container."""

    KIND = "container"

    def command(self, *words: str, stdin: bool = False) -> list[str]:
        """`docker exec`."""
        return ["docker", "exec", *(["-i"] if stdin else []), self.name, *words]

    def fetch_command(self, path: str, target: Path) -> list[str]:
        """`docker cp`."""
        return ["docker", "cp", f"{self.name}:{path}", str(target)]

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file into the container, running or not."""
        self.shell.run(["docker", "cp", str(source), f"{self.name}:{path}"])

    def create(self, sandbox: str, image: str, address: str | None, builds: Path) -> None:
        """Make the container without starting it; without an address, it has no network."""
        modules = Path("/lib/modules")
        # Docker would make the folder on hosts whose kernel has everything built in.
        module_mount = ["-v", f"{modules}:{modules}:ro"] if modules.exists() else []
        network = ["--network", network_name(sandbox), "--ip", address] if address else ["--network", "none"]
        self.shell.run(
            [
                *["docker", "create", "--name", self.name, "--hostname", self.name, "--label", f"{LABEL}={sandbox}"],
                *[*network, "--stop-signal", "SIGRTMIN+3"],
                *[*ISOLATION, *MOUNTS, *module_mount, "-v", f"{builds}:{BUILDS_MOUNT}:ro"],
                *["-e", "container=docker", image, "/sbin/init"],
            ]
        )

    def start(self) -> None:
        """`docker start`."""
        self.shell.run(["docker", "start", self.name])

    def host_key(self) -> str:
        """The public host key, read through the Docker engine."""
        return " ".join(self.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    def state(self) -> str:
        """Docker's word for the container's state, or `missing`."""
        try:
            return self.shell.run(["docker", "inspect", "-f", "{{.State.Status}}", self.name]).strip()
        except CommandFailed as error:
            if "no such object" in error.output.lower():
                return "missing"
            raise


def make_ssh_key(shell: Shell, paths: SandboxPaths, name: str) -> None:
    """Make the sandbox's own key pair."""
    comment = f"kubepin sandbox {name}"
    shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(paths.ssh_key)])
