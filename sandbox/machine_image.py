# SPDX-License-Identifier: GPL-3.0-or-later
"""What virtual machines start from: a kernel, an initial RAM disk and a disk with Debian, made once for each release and kept."""

from __future__ import annotations

import io
import lzma
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import machine_runtime, node_image
from sandbox.debian import RELEASES, Debian
from sandbox.gobuild import discard, discard_others, replacing
from sandbox.hashing import hash_of, hash_of_folder
from sandbox.host import have
from sandbox.plan import Step
from sandbox.settings import Paths, SandboxError
from sandbox.shell import CommandFailed, Shell

KERNEL_PACKAGE = "linux-image-cloud-amd64"
# libseccomp2 is what runc is linked with, udev names devices in /dev.
PACKAGES = (*node_image.PACKAGES, KERNEL_PACKAGE, "libseccomp2", "udev")
RUNTIME_PACKAGES = ("containerd", "runc")
TRIMMED = (*node_image.TRIMMED, "boot/*", "initrd.img*", "vmlinuz*", "usr/share/initramfs-tools")
ROOTFS = Path(__file__).parent / "machine-rootfs"
# In addition to ROOTFS, where containerd and runc are Debian's.
PACKAGED_RUNTIME_ROOTFS = Path(__file__).parent / "machine-rootfs-packaged-runtime"
INITRD = Path(__file__).parent / "machine-initrd"
# What the initial RAM disk loads, with all that they need, before it can mount the disk and configure the network.
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")
DISK_SIZE = "10G"
KVM = Path("/dev/kvm")
PROBE_SECONDS = 20

# What each package of the host's is needed for, by its programs.
HOST_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "qemu-system-x86": ("qemu-system-x86_64",),
    "e2fsprogs": ("mke2fs", "debugfs"),
    "cpio": ("cpio",),
    "kmod": ("modprobe",),
    "iproute2": ("ip",),
}


def missing_host_packages() -> list[str]:
    """Packages that a host without machines does not need, of which a program is missing."""
    return [package for package, programs in HOST_PACKAGES.items() if not all(map(have, programs))]


def require_host(shell: Shell, cpu: str) -> None:
    """Stop with a way out unless this host can run machines with this CPU model."""
    if platform.machine() != "x86_64":
        raise SandboxError(f"machines: this host is {platform.machine()}; they are made for x86_64 hosts only.")
    lacking = missing_host_packages()
    if lacking:
        raise SandboxError(
            f"machines: this host lacks {' '.join(lacking)}. Run `python3 -m sandbox host-setup --machines` to install "
            f"what is missing."
        )
    models = shell.run(["qemu-system-x86_64", "-cpu", "help"]).partition("Recognized CPUID flags")[0].split()
    if cpu not in models:
        raise SandboxError(
            f'machine shape: cpu="{cpu}" is no CPU model of this QEMU. `qemu-system-x86_64 -cpu help` lists them.'
        )


@dataclass(frozen=True)
class MachineImage:
    """What all machines share."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk without a machine's identity."""
        return self.folder / "initrd.img"

    @property
    def disk(self) -> Path:
        """A disk with one ext4 file system, without Kubernetes."""
        return self.folder / "disk.raw"

    @property
    def root(self) -> Path:
        """The same files as a tar, of which the disks of Kubernetes releases are made."""
        return self.folder / "root.tar"

    @property
    def accelerator_file(self) -> Path:
        """`kvm` or `tcg`: what this host can run the kernel with."""
        return self.folder / "accelerator"

    @property
    def accelerator(self) -> str:
        """KVM where it ran the kernel when the image was made and is there now; else TCG, QEMU's emulator."""
        return "kvm" if KVM.exists() and self.accelerator_file.read_text() == "kvm" else "tcg"


def machine_image(paths: Paths, release: int) -> MachineImage:
    """The image with a release of Debian, as this source makes it."""
    debian = RELEASES[release]
    sources = [Path(__file__).read_bytes(), Path(node_image.__file__).read_bytes()]
    folders = [hash_of_folder(folder) for folder in (*rootfs(debian), INITRD)]
    runtime = "packaged" if debian.packaged_runtime else machine_runtime.runtime_folder(paths).name
    return MachineImage(paths.machine_image / f"{_prefix(release)}{hash_of(*sources, *folders, debian.suite, runtime)}")


def _prefix(release: int) -> str:
    return f"debian{release}-"


def packages(debian: Debian) -> tuple[str, ...]:
    """What is installed."""
    left_out = () if debian.packaged_runtime else RUNTIME_PACKAGES
    return tuple(package for package in PACKAGES if package not in left_out)


def rootfs(debian: Debian) -> tuple[Path, ...]:
    """The folders with the sandbox's own files, a later one before an earlier one."""
    own = (node_image.ROOTFS, ROOTFS)
    return (*own, PACKAGED_RUNTIME_ROOTFS) if debian.packaged_runtime else own


def kernel_version(root: Path) -> str:
    """The version of the one kernel in a root."""
    versions = sorted(path.name for path in (root / "lib/modules").iterdir())
    if len(versions) != 1:
        raise SandboxError(f"{KERNEL_PACKAGE} brought the kernels {versions}: expected one")
    return versions[0]


def module_files(listings: Iterable[str]) -> list[Path]:
    """The files in the output of `modprobe --show-depends`, in the order in which they can be loaded, each once."""
    words = [line.split() for listing in listings for line in listing.splitlines()]
    return [Path(name) for name in dict.fromkeys(line[1] for line in words if line[0] == "insmod")]


def unpack_module(module: Path, folder: Path) -> Path:
    """Copy a module into a folder, uncompressed: busybox loads no other. Debian compresses them from release 13 on."""
    if module.suffix != ".xz":
        return Path(shutil.copy(module, folder / module.name))
    unpacked = folder / module.stem
    unpacked.write_bytes(lzma.decompress(module.read_bytes()))
    return unpacked


def write_initrd(shell: Shell, root: Path, output: Path) -> None:
    """Write the initial RAM disk: a static busybox, drivers and the init script."""
    version = kernel_version(root)

    def needed(driver: str) -> str:
        return shell.run(["modprobe", "-d", str(root), "-S", version, "--show-depends", driver])

    modules = module_files(map(needed, DRIVERS))
    with tempfile.TemporaryDirectory(dir=output.parent) as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        (folder / "modules").mkdir()
        shutil.copy(root / "bin/busybox", folder / "bin/busybox")
        shutil.copy(INITRD / "init", folder / "init")
        unpacked = [unpack_module(module, folder / "modules") for module in modules]
        (folder / "modules/order").write_text("".join(f"{module.name}\n" for module in unpacked))
        write_cpio(shell, folder, output)


def write_cpio(shell: Shell, folder: Path, output: Path) -> None:
    """Write a folder as a compressed cpio archive, all files root's. The kernel unpacks several that follow each other."""
    script = 'find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > "$1"'
    shell.run(["sh", "-ec", script, "sh", str(output)], cwd=folder)


def lay_over(shell: Shell, root: Path, sources: Iterable[Path]) -> None:
    """Put the sandbox's own files over a root."""
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=root.parent) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for info, content in node_image.configuration(sources):
                archive.addfile(info, io.BytesIO(content))
        file.flush()
        shell.run(["tar", "-C", str(root), "--numeric-owner", "-xpf", file.name])


def write_disk(shell: Shell, folder: Path, label: str, output: Path, size: str, *options: str) -> None:
    """Write a file system with a folder's files into a sparse file, without mounting it."""
    shell.run(["truncate", "-s", size, str(output)])
    shell.run(["mke2fs", "-q", "-t", "ext4", *options, "-F", "-L", label, "-d", str(folder), str(output)])


def usable_accelerator(shell: Shell, image: MachineImage) -> str:
    """`kvm` if it can boot the kernel into the initial RAM disk, which then powers off; else `tcg`.

    That /dev/kvm is there says little: some virtual machines have one that runs adapted kernels only.
    """
    if not KVM.exists():
        return "tcg"
    command = ["qemu-system-x86_64", "-accel", "kvm", "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none"]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", "sandbox.probe panic=-1"]
    try:
        shell.run([*command, "-no-reboot"], timeout=PROBE_SECONDS)
    except CommandFailed:
        return "tcg"
    return "kvm"


def build(paths: Paths, shell: Shell, release: int) -> str:
    """Install Debian with a kernel and keep it as a disk; return how this host will run it."""
    debian, target = RELEASES[release], machine_image(paths, release).folder
    discard(paths.machine_image.glob(".*"))
    with replacing(target) as folder:
        made, root = MachineImage(folder), folder / "root"
        # The kernel's own initial RAM disk would be made by a hook that this variable is for; ours is smaller.
        node_image.install_debian(shell, packages(debian), root, {"INITRD": "No"}, debian.suite)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        shutil.copyfile(kernel, made.kernel)
        write_initrd(shell, root, made.initrd)
        node_image.trim(root, TRIMMED)
        if not debian.packaged_runtime:
            machine_runtime.install(paths, root)
        lay_over(shell, root, rootfs(debian))
        node_image.write_root(shell, root, made.root)
        write_disk(shell, root, "root", made.disk, DISK_SIZE)
        shutil.rmtree(root)
        made.accelerator_file.write_text(usable_accelerator(shell, made))
    discard_others(target, f"{_prefix(release)}*")
    return f"accelerator {machine_image(paths, release).accelerator}"


def missing(paths: Paths, shell: Shell, release: int) -> list[Step]:
    """The steps that make the image with a release of Debian, unless the cache has it."""
    if machine_image(paths, release).folder.exists():
        return []
    title = f"machine: installing Debian {release} with a kernel"
    made = Step("machine-image", title, lambda: build(paths, shell, release), ("machine-runtime",), seconds=90)
    return [*([] if RELEASES[release].packaged_runtime else machine_runtime.missing(paths, shell)), made]
