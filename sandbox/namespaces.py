# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes without Docker: the node's root and its systemd in plain namespaces, joined by a bridge on the host.

What it takes on the host: root, util-linux, tar, a kernel with overlayfs, bridges and veth. Everything else, `ip` and
`ssh` too, comes from the node's own root.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from os import kill
from pathlib import Path

from sandbox import network, node_image
from sandbox.hashing import hash_of
from sandbox.nodes import BUILDS_MOUNT, Container
from sandbox.settings import Paths
from sandbox.shell import Shell, wait_for

INIT = Path(__file__).with_name("namespace-init")
CGROUPS = Path("/sys/fs/cgroup")
START_SECONDS = 20
STOP_SECONDS = 20
NAMESPACES = ("mount", "net", "uts", "ipc", "cgroup")
ENVIRONMENT = ("env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
HOST_PROGRAMS = ("ssh", "ssh-keygen")
# A program of the root with its own libraries and /etc, and the host's files elsewhere: under the host's /etc it crashes
# where the name service modules are those of another C library.
WRAPPER = """#!/bin/sh
exec unshare --mount sh -c '
root=$1
shift
for folder in /*; do
    case $folder in /bin|/sbin|/lib*|/usr|/etc) continue ;; esac
    if [ -d "$folder" ] && [ ! -L "$folder" ]; then
        mkdir -p "$root$folder" && mount --rbind "$folder" "$root$folder"
    fi
done
exec chroot "$root" /usr/bin/{program} "$@"
' sh {root} "$@"
"""


def unified_cgroups() -> bool:
    """Whether the host has cgroup v2 alone."""
    return (CGROUPS / "cgroup.controllers").exists()


def bridge_name(sandbox: str) -> str:
    """The bridge of a sandbox; Linux allows 15 characters."""
    return f"kp-{hash_of(sandbox)[:8]}"


def started_at(pid: int) -> str:
    """When a process started, in clock ticks since boot: with the PID it names the process beyond doubt; "" if none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@dataclass(frozen=True)
class NamespaceNode(Container):
    """A node in namespaces of its own; `gpus`: it gets the host's GPUs."""

    paths: Paths
    sandbox: str
    gpus: bool

    @property
    def folder(self) -> Path:
        """Where its root and its PID lie."""
        return self.paths.sandbox(self.sandbox).folder / "nodes" / self.name

    @property
    def root(self) -> Path:
        """Its root file system."""
        return self.folder / "root"

    @property
    def _cgroup(self) -> str:
        return f"kubepin-{self.name}"

    def pid(self) -> int | None:
        """The PID of its systemd on the host, while that runs."""
        try:
            pid, start = (self.folder / "init").read_text().split()
        except FileNotFoundError:
            return None
        return int(pid) if started_at(int(pid)) == start else None

    def command(self, *words: str, stdin: bool = False) -> list[str]:
        """`nsenter`."""
        del stdin
        # Without a PID nsenter fails, as does any command in a node that does not run.
        enter = ["nsenter", "--target", str(self.pid() or ""), "--pid", *(f"--{kind}" for kind in NAMESPACES)]
        return [*enter, *ENVIRONMENT, *words]

    def fetch_command(self, path: str, target: Path) -> list[str]:
        """`cp`."""
        return ["cp", "--recursive", "--no-dereference", f"{self.root}{path}", str(target)]

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file into the node, running or not."""
        shutil.copy(source, f"{self.root}{path}")

    def create(self, sandbox: str, image: str, address: str | None, builds: Path) -> None:
        """Unpack the root and write the node's name, address and cgroup driver; `image` is the root's tar.

        Without an address, it has no network.
        """
        del sandbox, builds
        self.root.mkdir(parents=True)
        self.shell.run(["tar", "-C", str(self.root), "--numeric-owner", "-xpf", image])
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address or '127.0.0.1'} {self.name}\n")
        (self.folder / "address").write_text(f"{address or ''}\n")
        if unified_cgroups():
            config = self.root / "etc/containerd/config.toml"
            config.write_text(config.read_text().replace("SystemdCgroup = false", "SystemdCgroup = true"))

    def _groups(self) -> Iterable[Path]:
        """Its cgroup in each hierarchy of the host."""
        roots = [CGROUPS] if unified_cgroups() else [path for path in CGROUPS.iterdir() if path.name != "unified"]
        return [root / self._cgroup for root in roots if not root.is_symlink()]

    def start(self) -> None:
        """Start systemd and give it its network."""
        groups = list(self._groups())
        for group in groups:
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, which then takes nobody
                if not unified_cgroups() and (group / name).exists():
                    (group / name).write_text((group.parent / name).read_text())
        join = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        unshare = ["unshare", "--pid", "--fork", *(f"--{kind}" for kind in NAMESPACES)]
        gpus = "yes" if self.gpus else "no"
        enter = [*unshare, str(INIT), str(self.root), str(self.paths.builds), gpus, BUILDS_MOUNT]
        with (self.folder / "init.log").open("ab") as log:
            parent = subprocess.Popen(
                ["sh", "-c", f'{join}exec "$@"', "sh", *enter],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_for(f"node {self.name}: namespaces", lambda: bool(children.read_text().split()), START_SECONDS, 0.1)
        pid = int(children.read_text())
        if unified_cgroups():
            # A cgroup with a process of its own passes no controllers on: "no internal processes" (cgroup-v2.rst).
            (CGROUPS / "cgroup.procs").write_text(str(parent.pid))
        (self.folder / "init").write_text(f"{pid} {started_at(pid)}\n")
        self._connect(pid)
        assert parent.stdin
        parent.stdin.write(b"go\n")
        parent.stdin.close()
        systemd = Path(f"/proc/{pid}/comm")
        wait_for(f"node {self.name}: systemd", lambda: systemd.read_text() == "systemd\n", START_SECONDS, 0.1)

    def _connect(self, pid: int) -> None:
        """Give the node its name and, with an address, eth0 on the sandbox's bridge."""
        self.shell.run(
            ["nsenter", "--target", str(pid), "--uts", "sh", "-c", f"echo {self.name} > /proc/sys/kernel/hostname"]
        )
        outer = ["chroot", str(self.root), "ip"]
        inner = ["nsenter", "--target", str(pid), "--net", *outer]
        self.shell.run([*inner, "link", "set", "lo", "up"])
        address = (self.folder / "address").read_text().strip()
        if not address:
            return
        port = f"v{hash_of(self.name)[:10]}"
        gateway = IPv4Network(f"{address}/24", strict=False)[1]
        bridge = bridge_name(self.sandbox)
        self.shell.run([*outer, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
        self.shell.run([*outer, "link", "set", port, "master", bridge, "up"])
        for words in (f"addr add {address}/24 dev eth0", "link set eth0 up"):
            self.shell.run([*inner, *words.split()])
        self.shell.run([*inner, "route", "add", "default", "via", str(gateway)])

    def state(self) -> str:
        """`running`, `exited` or `missing`, in Docker's words."""
        if self.pid():
            return "running"
        return "exited" if self.root.exists() else "missing"

    def remove(self) -> None:
        """End the node and remove what it has on the host."""
        pid = self.pid()
        if pid:
            kill(pid, signal.SIGKILL)  # and with the first process of its PID namespace all others
            wait_for(f"node {self.name} has ended", lambda: not self.pid(), STOP_SECONDS, 0.1)
        for group in filter(Path.exists, self._groups()):
            # Processes leave their cgroup a little after their end.
            wait_for(f"cgroup {group} is removed", lambda group=group: removed(group), STOP_SECONDS, 0.1)  # type: ignore[misc]


def removed(group: Path) -> bool:
    """Remove a cgroup and those below it; False while one has processes."""
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    try:
        for folder in [*folders, group]:
            folder.rmdir()
    except OSError:
        return False
    return True


def node_tar(paths: Paths) -> Path:
    """The node's root with the sandbox's own files; made anew if it is not there."""
    tar = paths.node_root / f"{node_image.image_name(paths).rpartition(':')[2]}.tar"
    if not tar.exists():
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=paths.node_root, delete=False) as combined:
            node_image.write_node_tar(node_image.node_root(paths).tar, Path(combined.name))
        Path(combined.name).rename(tar)
    return tar


def create_network(shell: Shell, tools: Path, name: str) -> IPv4Network:
    """Make the bridge of a sandbox with the `ip` of the root in the folder `tools`."""
    subnet = network.free_subnet(network.routed_subnets())
    bridge = bridge_name(name)
    ip = ["chroot", str(tools), "ip"]
    shell.run([*ip, "link", "add", bridge, "type", "bridge"])
    shell.run([*ip, "addr", "add", f"{subnet[1]}/24", "dev", bridge])
    shell.run([*ip, "link", "set", bridge, "up"])
    return subnet


def tools_root(paths: Paths, shell: Shell) -> Path:
    """A root to take programs from that the host may lack, with a wrapper for each in `tools_root/host`."""
    root = paths.node_root / "tools"
    if not root.exists():
        root.mkdir(parents=True)
        shell.run(["tar", "-C", str(root), "--numeric-owner", "-xpf", str(node_tar(paths))])
        (root / "host").mkdir()
        for name in HOST_PROGRAMS:
            wrapper = root / "host" / name
            wrapper.write_text(WRAPPER.format(root=root, program=name))
            wrapper.chmod(0o755)
    return root


def remove_network(shell: Shell, tools: Path, name: str) -> None:
    """Remove the bridge, if it is there."""
    if Path(f"/sys/class/net/{bridge_name(name)}").exists():
        shell.run(["chroot", str(tools), "ip", "link", "del", bridge_name(name)])
