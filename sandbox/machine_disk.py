# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of virtual machines: those that they start from, one for each release of Kubernetes and Debian, and one with
later releases of Kubernetes.

The images of a release are imported on the host, by the machines' own containerd. In a machine, whose CPUs may be
emulated, that took 94 s.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandbox.artefacts import NODE_PROGRAMS
from sandbox.gobuild import discard_others
from sandbox.hashing import hash_of
from sandbox.locks import lock
from sandbox.machine_image import DISK_SIZE, MachineImage, machine_image, write_disk
from sandbox.settings import Paths, Version
from sandbox.shell import Shell

STORE = "var/lib/containerd"
# kubeadm starts the kubelet. Without a configuration it would start every 10 s until then.
KUBELET_AT_BOOT = "etc/systemd/system/multi-user.target.wants/kubelet.service"
IMPORT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
# Runs a root's containerd in separate mount and process namespaces, imports archives, and ends it.
IMPORT = """
root=$1 folder=$2
shift 2
mount -t proc proc "$root/proc"
chroot "$root" containerd --config "$folder/config.toml" &
tries=0
until chroot "$root" ctr --address "$folder/containerd.sock" version; do
    kill -0 $! || exit 1
    tries=$((tries + 1))
    [ $tries -lt 300 ] || exit 1
    sleep 0.1
done >/dev/null 2>&1
for archive; do
    chroot "$root" ctr --address "$folder/containerd.sock" --namespace k8s.io images import - < "$archive"
done
kill $!
wait $! || true
"""


def import_config(folder: str) -> str:
    """containerd's configuration while images are imported: no CRI.

    Releases from 1.6 on read version 2. Source of the names: docs/PLUGINS.md of containerd, and `containerd config
    default`.

    :param folder: for what only the import needs
    """
    return f"""version = 2
root = "/{STORE}"
state = "{folder}/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/containerd.sock"
[ttrpc]
address = "{folder}/containerd.ttrpc.sock"
"""


def import_images(shell: Shell, root: Path, archives: Sequence[Path]) -> None:
    """Import image archives into the store of a root file system, with the containerd and ctr in it."""
    with tempfile.TemporaryDirectory(prefix="import-", dir=root / "tmp") as name:
        inside = f"/{Path(name).relative_to(root)}"
        (Path(name) / "config.toml").write_text(import_config(inside))
        own_namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        words = [str(root), inside, *map(str, archives)]
        shell.run([*own_namespaces, "sh", "-ec", IMPORT, "sh", *words], timeout=600, env={"PATH": IMPORT_PATH})
    # The name of this containerd: each machine's is to have its own.
    shutil.rmtree(root / STORE / "io.containerd.grpc.v1.introspection", ignore_errors=True)


def release_disk(paths: Paths, debian: int, binaries: Sequence[Path], archives: Sequence[Path]) -> Path:
    """The disk that machines with a release of Debian and one of Kubernetes start from.

    It lies with the image that it is made of, and is discarded with it. Programs and archives are named by the folders
    that they lie in, which tell what they were made of.

    :param binaries: Kubernetes' first
    """
    release = binaries[0].relative_to(paths.builds).parts[0]
    key = hash_of(
        *(str(path.relative_to(paths.builds)) for path in (*binaries, *archives)), Path(__file__).read_bytes()
    )
    return machine_image(paths, debian).folder / f"{release}-{key}.raw"


def make_release_disk(
    paths: Paths, shell: Shell, debian: int, binaries: Sequence[Path], archives: Sequence[Path]
) -> Path:
    """Create the disk of a release, unless the cache has it: Debian, programs in /usr/bin, images in containerd's folder."""
    disk = release_disk(paths, debian, binaries, archives)
    with lock(paths.locks, "machine-disk"):
        if disk.exists():
            return disk
        with tempfile.TemporaryDirectory(prefix=".disk-", dir=paths.machine_image) as name:
            root, made = Path(name) / "root", Path(name) / disk.name
            root.mkdir()
            tar = MachineImage(disk.parent).root
            shell.run(["tar", "-C", str(root), "--numeric-owner", "-xpf", str(tar)])
            (root / KUBELET_AT_BOOT).unlink()
            for binary in binaries:
                shutil.copyfile(binary, root / "usr/bin" / binary.name)
                (root / "usr/bin" / binary.name).chmod(0o755)
            (root / STORE).mkdir(parents=True, exist_ok=True)
            import_images(shell, root, archives)
            write_disk(shell, root, "root", made, DISK_SIZE)
            made.rename(disk)
        discard_others(disk, f"{disk.name.rpartition('-')[0]}-*")
    return disk


def later_releases(builds: Path, version: Version, images: str) -> list[Path]:
    """What an upgrade to each later release in the cache needs on a worker: programs with checksums, image archives.

    A release may have several sets of images, made from different sources of the sandbox: each set would be imported.

    :param images: the name of the set to take; else it is the newest one
    """
    found = []
    for folder in sorted(builds.glob("kubernetes-*")):
        if Version.parse(folder.name.removeprefix("kubernetes-")) > version:
            programs = [folder / "bin" / f"{program}{end}" for program in NODE_PROGRAMS for end in ("", ".sha256")]
            found += [path for path in programs if path.exists()]
            sets = sorted(folder.glob("images-*"), key=lambda path: (path.name == images, path.stat().st_mtime))
            for chosen in sets[-1:]:
                found += [*sorted(chosen.glob("every-node/*.tar")), *sorted(chosen.glob("dns/*.tar"))]
    return found


def write_builds(shell: Shell, builds: Path, wanted: Iterable[Path], output: Path) -> None:
    """Write a disk with these files of the builds folder, under the paths that they have in it.

    Containers see the folder itself; Debian's cloud kernel knows no file system that a host could share.
    """
    with tempfile.TemporaryDirectory(prefix=".machine-builds-", dir=builds) as name:
        for path in wanted:
            link = Path(name) / path.relative_to(builds)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        total = sum(path.stat().st_size for path in Path(name).rglob("*"))
        output.unlink(missing_ok=True)
        write_disk(shell, Path(name), "builds", output, f"{total // 2**20 * 11 // 10 + 32}M", "-O", "^has_journal")
