# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's image: a Debian root with the distribution's PyTorch, for CPUs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandbox.cluster import in_parallel
from sandbox.gobuild import discard, discard_others, replacing
from sandbox.hashing import hash_of
from sandbox.images import Layer, write_image
from sandbox.node_image import SUITE, install_debian, trim, write_root
from sandbox.nodes import Node
from sandbox.plan import Step
from sandbox.settings import TORCH_IMAGE, Paths
from sandbox.shell import Shell

PACKAGES = ("python3", "python3-torchvision")

# What is left out: every worker keeps two copies of the rest. Debian's torch is linked with OpenCV and thereby with half a
# desktop; the libraries stay, what they would load while drawing or converting goes.
TRIMMED = (
    "dev/*",
    "usr/include/*",
    "usr/lib/*/dri",
    "usr/lib/*/libLLVM*",
    "usr/lib/*/libz3*",
    "usr/lib/*/mfx",
    "usr/lib/*/perl",
    "usr/lib/*/qt5",
    "usr/lib/libtorch-test",
    "usr/lib/python3/dist-packages/**/tests",
    "usr/lib/python3/dist-packages/torch/include",
    "usr/lib/python3/dist-packages/torch/test",
    "usr/share/X11",
    "usr/share/doc/*",
    "usr/share/fonts",
    "usr/share/gdal",
    "usr/share/gdcm-*",
    "usr/share/iso-codes",
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/mime",
    "usr/share/perl",
    "usr/share/proj",
    "usr/share/xml",
    "var/cache/apt/*",
    "var/cache/debconf/*",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/info/*",
    "var/log/*",
)


def torch_folder(paths: Paths) -> Path:
    """Where the image lies that the current package list makes."""
    return paths.builds / f"torch-{hash_of(SUITE, *PACKAGES, *TRIMMED)}"


def archive(paths: Paths) -> Path:
    """The image's archive."""
    return torch_folder(paths) / "torch.tar"


def image_names(paths: Paths) -> list[str]:
    """The name for pods, and one that tells this build from earlier ones."""
    return [TORCH_IMAGE, f"{TORCH_IMAGE}-{torch_folder(paths).name.removeprefix('torch-')}"]


def build_image(paths: Paths, shell: Shell) -> str:
    """Install Debian into a folder and keep it as an image archive; return the archive's size. Only for the holder of
    the build lock."""
    folder = torch_folder(paths)
    discard(paths.builds.glob(".torch-*"))
    with replacing(folder) as result, tempfile.TemporaryDirectory(prefix=".torch-", dir=paths.builds) as scratch:
        root, tar = Path(scratch) / "root", Path(scratch) / "root.tar"
        install_debian(shell, PACKAGES, root)
        trim(root, TRIMMED)
        write_root(shell, root, tar)
        shutil.rmtree(root)
        made = result / archive(paths).name
        write_image(made, image_names(paths), Layer(), base=tar, command=["/usr/bin/python3"])
        size = made.stat().st_size
    discard_others(folder, "torch-*")
    return f"{size / 1e6:.0f} MB"


def host_archive(paths: Paths) -> Path:
    """An image of the same name without PyTorch, for containers that get the host's in /host."""
    return paths.builds / "torch-of-host" / "torch.tar"


def host_layer(root: Path = Path("/")) -> Layer:
    """Links to what the host has in /usr and /opt, and in the places that are links to /usr there.

    /usr/local/nvidia is left out: the driver's libraries are not part of an image.
    """
    layer = Layer()
    layer.folder("/tmp", 0o1777)
    layer.folder("/etc")
    for top in sorted(path for path in root.iterdir() if path.is_symlink()):
        if top.readlink().parts[0] == "usr":
            layer.link(f"/{top.name}", str(top.readlink()))
    for folder, up, left_out in (("usr", "..", "local"), ("usr/local", "../..", "nvidia"), ("opt", "..", "")):
        layer.folder(f"/{folder}")
        for name in sorted(path.name for path in (root / folder).iterdir() if path.name != left_out):
            layer.link(f"/{folder}/{name}", f"{up}/host/{folder}/{name}")
    return layer


def write_host_image(paths: Paths) -> None:
    """Write that image. Its variables are those of NVIDIA's CUDA images, and PyTorch's path."""
    host_archive(paths).parent.mkdir(parents=True, exist_ok=True)
    env = [
        "PATH=/opt/torch/.venv/bin:/usr/local/nvidia/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    ]
    write_image(host_archive(paths), [TORCH_IMAGE], host_layer(), command=["python3"], env=env)


def missing(paths: Paths, shell: Shell) -> list[Step]:
    """The step that builds the image, unless the cache has it."""
    if archive(paths).exists():
        return []
    title = f"{TORCH_IMAGE}: installing Debian with PyTorch"
    return [Step("torch", title, lambda: build_image(paths, shell), seconds=100)]


def lacking(workers: Iterable[Node], paths: Paths) -> list[Node]:
    """The workers without this build of the image."""
    return [worker for worker in workers if not worker.has_image(image_names(paths)[-1])]


def giving(workers: Sequence[Node], paths: Paths, with_host: bool = False) -> list[Step]:
    """The step that gives the image to workers, once they run; *with_host*: the one without PyTorch."""
    if not workers:
        return []
    path = str((host_archive if with_host else archive)(paths).relative_to(paths.builds))
    title = f"{TORCH_IMAGE}: importing on {', '.join(worker.name for worker in workers)}"

    def give() -> None:
        if with_host:
            write_host_image(paths)
        in_parallel(lambda node: node.import_image(path), workers)

    # With real GPUs, the installation restarts containerd.
    before = "install-workers" if with_host else "boot"
    return [Step("torch-import", title, give, ("torch", before), seconds=12)]
