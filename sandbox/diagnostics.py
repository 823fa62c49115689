# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what tells why a sandbox misbehaves. Every step may fail; its error is recorded and the next one runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.machines import Machine
from sandbox.nodes import Container, Node
from sandbox.settings import LABEL, Paths
from sandbox.shell import Log, Shell
from sandbox.state import State

TIMEOUT_SECONDS = 60
NODE_FILES = (
    "/etc/cni/net.d",
    "/etc/containerd/config.toml",
    "/etc/default/kubelet",
    "/etc/kubernetes/manifests",
    "/etc/resolv.conf",
    "/etc/sandbox",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/cpu_manager_state",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubelet/memory_manager_state",
    "/var/lib/kubepin",
    "/var/log/pods",
)
# Present only on some nodes or after some changes: their absence is no error.
OPTIONAL_FILES = ("/etc/default/kubelet", "/var/lib/kubepin", "/var/lib/kubelet/memory_manager_state")
NODE_COMMANDS = {
    "journal.log": "journalctl --no-pager -o short-precise",
    "journal-kubelet.log": "journalctl --no-pager -o short-precise -u kubelet",
    "journal-containerd.log": "journalctl --no-pager -o short-precise -u containerd",
    "units.txt": "systemctl --no-pager --all list-units",
    "failed-units.txt": "systemctl --no-pager --failed list-units",
    "kubelet-command-line.txt": 'sh -c \'tr "\\0" " " < /proc/$(pidof kubelet)/cmdline\'',
    "processes.txt": "ps axfww",
    "mounts.txt": "cat /proc/mounts",
    "addresses.txt": "ip address",
    "routes.txt": "ip route",
    "containers.txt": "crictl ps -a",
    "images.txt": "crictl images",
}
CLUSTER_COMMANDS = {
    "events.txt": "get events -A -o wide",
    "nodes.txt": "get nodes -o wide",
    "pods.txt": "get pods -A -o wide",
    "nodes-and-pods.yaml": "get nodes,pods -A -o yaml",
    "nodes-described.txt": "describe nodes",
}


@dataclass
class Collector:
    """Writes the output of commands to files and remembers what failed."""

    folder: Path
    errors: list[str]

    def run(self, command: Sequence[str], file: str | None = None) -> str:
        """Run a command, keep its output in a file if one is named, record its failure."""
        output, failure = "", ""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            output = done.stdout.decode("utf-8", errors="replace")
            failure = f"exit status {done.returncode}" if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            failure = str(error)
        if failure:
            last = (output.strip().splitlines() or ["no output"])[-1]
            self.errors.append(f"{shlex.join(command)}: {failure}: {last}")
        if file:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(output)
        return output

    def node(self, node: Node) -> None:
        """Gather from one node, running or not."""
        if node.running():
            for file, command in NODE_COMMANDS.items():
                self.run(node.command(*shlex.split(command)), f"{node.name}/{file}")
        else:
            self.errors.append(f"{node.name} is not running: its files are copied, its journal unread in journal/")
            self.run(node.fetch_command("/var/log/journal", self.folder / node.name / "journal"))
        for path in NODE_FILES:
            target = self.folder / node.name / "files" / path.strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            before = len(self.errors)
            self.run(node.fetch_command(path, target))
            if path in OPTIONAL_FILES:
                del self.errors[before:]

    def machine(self, machine: Machine) -> None:
        """Gather from one virtual machine, and what its kernel wrote to the console."""
        (self.folder / machine.name).mkdir(parents=True, exist_ok=True)
        if machine.files.console.exists():
            shutil.copyfile(machine.files.console, self.folder / machine.name / machine.files.console.name)
        if machine.state() == "missing":
            self.errors.append(f"{machine.name} has no disk: nothing is gathered from it")
        else:
            self.node(machine)


def collect(paths: Paths, name: str, to: Path | None = None) -> Path:
    """Gather everything about a sandbox into a folder and return it."""
    folder = to or paths.diagnostics / f"{name}-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    folder.mkdir(parents=True, exist_ok=True)
    collector = Collector(folder, [])
    files = paths.sandbox(name)
    for source in (files.state, files.log, files.inventory):
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    collector.run(["docker", "info"], "docker-info.txt")
    listing = ["docker", "ps", "-a", "--filter", f"label={LABEL}={name}"]
    collector.run(listing, "containers.txt")
    shell, state = Shell(Log(Path(os.devnull))), State.load(files)
    for node in sorted(collector.run([*listing, "--format", "{{.Names}}"]).split()):
        collector.run(["docker", "inspect", node], f"{node}/docker-inspect.json")
        collector.node(Container(node, shell))
    if state and state.nodes:
        for node in state.machine_names:
            collector.machine(Machine(node, shell, paths, state))
    if state and files.kubeconfig.exists():
        kubectl = [str(paths.kubernetes(state.version) / "bin" / "kubectl"), f"--kubeconfig={files.kubeconfig}"]
        for file, arguments in CLUSTER_COMMANDS.items():
            collector.run([*kubectl, "--request-timeout=15s", *arguments.split()], f"cluster/{file}")
    else:
        collector.errors.append("no kubeconfig yet: nothing gathered through the API")
    (folder / "errors.txt").write_text("".join(f"{error}\n" for error in collector.errors))
    return folder
