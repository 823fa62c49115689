# SPDX-License-Identifier: GPL-3.0-or-later
"""Node containers: real systemd, containerd and SSH server in a container that is not privileged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.network import network_name
from sandbox.settings import LABEL, SandboxPaths
from sandbox.shell import CommandFailed, Shell, wait_for

BUILDS_MOUNT = "/opt/sandbox/builds"
BOOT_SECONDS = 60

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
class Node:
    """A node container, by its name; the name is its host name and its Kubernetes name too."""

    name: str
    shell: Shell

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float | None = None) -> str:
        """Run a command in the node."""
        options = ["-i"] if stdin is not None else []
        return self.shell.run(
            ["docker", "exec", *options, self.name, *command], stdin=stdin, check=check, timeout=timeout
        )

    def write(self, path: str, text: str) -> None:
        """Write a file in the running node, readable by root only."""
        self.run("sh", "-c", f'umask 077; mkdir -p "$(dirname {path})"; cat > {path}', stdin=text)

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file into the node, running or not."""
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

    def boot(self) -> None:
        """Start the container and wait for systemd and the SSH server."""
        self.shell.run(["docker", "start", self.name])
        self.wait_booted()

    def wait_booted(self) -> None:
        """Wait until systemd has started everything once."""

        def booted() -> bool:
            answer = self.run("systemctl", "is-system-running", check=False)
            # degraded: the kubelet fails until kubeadm has configured it.
            return answer.strip() in ("running", "degraded")

        wait_for(f"node {self.name}: systemd has booted", booted, BOOT_SECONDS)
        self.run("systemctl", "is-active", "ssh", "containerd", "sandbox-boot")

    def host_key(self) -> str:
        """The public host key, read through the Docker engine and so beyond doubt."""
        return " ".join(self.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

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
        """Whether the container runs."""
        return self.container_state() == "running"

    def container_state(self) -> str:
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
