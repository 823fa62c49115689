# SPDX-License-Identifier: GPL-3.0-or-later
"""The node image: a Debian root with systemd, containerd and an SSH server, made without any container registry."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.gobuild import discard_others, replacing
from sandbox.hashing import hash_of, hash_of_folder
from sandbox.images import Layer, write_layer
from sandbox.settings import Paths
from sandbox.shell import Shell

SUITE = "bookworm"
PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "openssh-server",
    "procps",
    "python3",  # the full one: Ansible's modules import what python3-minimal lacks
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
)
ROOTFS = Path(__file__).parent / "rootfs"
REPOSITORY = "kubepin/node"
MIRROR_VARIABLE = "KUBEPIN_DEBIAN_MIRROR"
HOOKS = (
    # usr-is-merged in place of usrmerge, which would bring all of Perl.
    "/usr/share/mmdebstrap/hooks/merged-usr",
    # A root that is not complete is never used, so nothing has to be on the disk before the end: a third less time.
    "/usr/share/mmdebstrap/hooks/eatmydata",
)

# What is left out: the image must be small to import, and each node must make its own identity.
TRIMMED = (
    "etc/machine-id",
    "etc/ssh/ssh_host_*",
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/lib/apt/lists/*",
    "var/log/*",
)
LINKS = {
    "etc/systemd/system/sysinit.target.wants/sandbox-boot.service": "/etc/systemd/system/sandbox-boot.service",
    "etc/systemd/system/multi-user.target.wants/kubelet.service": "/etc/systemd/system/kubelet.service",
    # kubeadm and CNI configurations expect the plugins there.
    "opt/cni/bin": "/usr/lib/cni",
    # Timers that would reach for the network or the disk at times of their own.
    "etc/systemd/system/apt-daily.timer": "/dev/null",
    "etc/systemd/system/apt-daily-upgrade.timer": "/dev/null",
    "etc/systemd/system/e2scrub_all.timer": "/dev/null",
    "etc/systemd/system/fstrim.timer": "/dev/null",
    # No console in a container: the login prompt would restart for ever.
    "etc/systemd/system/getty.target": "/dev/null",
    "etc/systemd/system/console-getty.service": "/dev/null",
}
FOLDERS = {"etc/kubernetes/manifests": 0o755, "etc/sandbox": 0o755, "root/.ssh": 0o700, "var/log/journal": 0o755}
EMPTY_FILES = ("etc/machine-id",)

XTABLES_COMMANDS = (
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
)


@dataclass(frozen=True)
class NodeRoot:
    """A root file system as a tar, and the parts of it that cluster images are made of."""

    folder: Path

    @property
    def tar(self) -> Path:
        """The whole root."""
        return self.folder / "root.tar"

    @property
    def kube_proxy_base(self) -> Path:
        """iptables, conntrack and a shell with their libraries."""
        return self.folder / "kube-proxy-base.tar"

    @property
    def busybox(self) -> Path:
        """A static busybox with links for all its applets."""
        return self.folder / "busybox.tar"


def node_root(paths: Paths) -> NodeRoot:
    """The root as this source makes it."""
    return NodeRoot(paths.node_root / hash_of(Path(__file__).read_bytes()))


def libraries(shell: Shell, root: Path, program: str) -> list[str]:
    """Paths inside the root of all shared libraries of a program, its loader included."""
    words = shell.run(["chroot", str(root), "ldd", program]).split()
    return [word for word in words if word.startswith("/")]


def kube_proxy_base(shell: Shell, root: Path) -> Layer:
    """What kube-proxy calls, taken from the node's own packages so that both write the same kind of rules."""
    layer = Layer()
    multi = "/usr/sbin/xtables-nft-multi"
    # Extensions have libraries of their own: that of `statistic`, which shares a service among endpoints, is libm.
    extensions = [f"/{path.relative_to(root)}" for path in sorted(root.glob("usr/lib/*/xtables/*.so"))]
    for program in (multi, "/usr/sbin/conntrack", "/bin/dash", *extensions):
        layer.file("/bin/sh" if program == "/bin/dash" else program, root / program.lstrip("/"))
        for library in libraries(shell, root, program):
            layer.file(library, root / os.path.realpath(root / library.lstrip("/")).removeprefix(str(root)).lstrip("/"))
    for command in XTABLES_COMMANDS:
        layer.link(f"/usr/sbin/{command}", "xtables-nft-multi")
    layer.folder("/tmp", 0o1777)
    layer.folder("/run")
    return layer


def busybox(shell: Shell, root: Path) -> Layer:
    """The image for test pods."""
    layer = Layer()
    layer.file("/bin/busybox", root / "bin/busybox")
    for applet in shell.run(["chroot", str(root), "busybox", "--list"]).split():
        if applet != "busybox":
            layer.link(f"/bin/{applet}", "busybox")
    layer.folder("/tmp", 0o1777)
    return layer


def install_debian(
    shell: Shell, packages: Sequence[str], root: Path, env: Mapping[str, str] | None = None, suite: str = SUITE
) -> None:
    """Install Debian with these packages into a folder, their scripts with these variables too."""
    # Namespaces of its own: whatever ends this run also ends mmdebstrap's children and its mounts.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command += ["mmdebstrap", "--mode=root", "--variant=minbase"]
    command += [*(f"--hook-dir={hook}" for hook in HOOKS), f"--include={','.join(packages)}", suite, str(root)]
    mirror = os.environ.get(MIRROR_VARIABLE)
    shell.run([*command, mirror] if mirror else command, env=env)


def trim(root: Path, patterns: Sequence[str]) -> None:
    """Remove the files and folders that match."""
    for pattern in patterns:
        for path in list(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # gone with its folder, if that matched too


def write_root(shell: Shell, root: Path, output: Path) -> None:
    """Write a root file system as a tar, owners by number."""
    shell.run(["tar", "-C", str(root), "--numeric-owner", "--one-file-system", "-cf", str(output), "."])


def build_node_root(paths: Paths, shell: Shell) -> None:
    """Install Debian into a folder and keep it as tars."""
    with replacing(node_root(paths).folder) as result:
        root = result / "root"
        install_debian(shell, PACKAGES, root)
        made = NodeRoot(result)
        write_layer(kube_proxy_base(shell, root), made.kube_proxy_base)
        write_layer(busybox(shell, root), made.busybox)
        trim(root, TRIMMED)
        write_root(shell, root, made.tar)
        shutil.rmtree(root)
    discard_others(node_root(paths).folder, "*")


def image_name(paths: Paths) -> str:
    """The Docker image for the current root and configuration files."""
    links = [f"{name}>{target}" for name, target in LINKS.items()]
    inputs = [node_root(paths).folder.name, hash_of_folder(ROOTFS), *links, *FOLDERS, *EMPTY_FILES]
    return f"{REPOSITORY}:{hash_of(*inputs)}"


def configuration(sources: Iterable[Path] = (ROOTFS,)) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The sandbox's own files from these folders, as entries of the image's tar."""
    entries = []

    def add(
        name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, content: bytes = b"", target: str = ""
    ) -> None:
        info = tarfile.TarInfo(f"./{name}")
        info.type, info.mode, info.size, info.linkname = kind, mode, len(content), target
        entries.append((info, content))

    for source in sources:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            mode = 0o755 if path.stat().st_mode & 0o111 else 0o644
            add(str(path.relative_to(source)), mode=mode, content=path.read_bytes())
    for name, mode in FOLDERS.items():
        add(name, tarfile.DIRTYPE, mode)
    for name in EMPTY_FILES:
        add(name)
    for name, target in LINKS.items():
        add(name, tarfile.SYMTYPE, target=target)
    return entries


def write_node_tar(root: Path, output: Path) -> None:
    """Write the root with the sandbox's own files in the place of those of the same name: Docker takes none twice."""
    entries = configuration()
    replaced = {info.name for info, _ in entries}
    with tarfile.open(root) as source, tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as archive:
        for member in source:
            if member.name not in replaced:
                archive.addfile(member, source.extractfile(member) if member.isreg() else None)
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))


def have_image(paths: Paths, shell: Shell) -> bool:
    """Whether Docker has the node image."""
    return bool(shell.run(["docker", "images", "-q", image_name(paths)]).strip())


def import_image(paths: Paths, shell: Shell) -> None:
    """Give the node image to Docker."""
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=paths.node_root) as combined:
        write_node_tar(node_root(paths).tar, Path(combined.name))
        shell.run(["docker", "import", "--change", 'CMD ["/sbin/init"]', combined.name, image_name(paths)])
    earlier = shell.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]).split()
    for name in earlier:
        if name != image_name(paths):
            shell.run(["docker", "image", "rm", name], check=False)  # refused while a sandbox runs on it
