# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles for a machine without network and Docker: what `up --engine namespaces` and the playbooks need there."""

from __future__ import annotations

import hashlib
import io
import lzma
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sandbox import node_image
from sandbox.artefacts import NODE_PROGRAMS, Artefacts
from sandbox.settings import Paths, SandboxError
from sandbox.shell import Shell

BUNDLE_BYTES = 50_000_000
SUMS = "SHA256SUMS"
PROJECT = "kubepin.tar.gz"
SOURCES = Path(__file__).parents[1]
# A machine of a later distribution, not this one, runs them.
PYTHON = ("3.12", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
# In place of requirements.txt's `ansible`: the collections that the playbooks and campaigns use, from this Python's own.
COLLECTIONS = ("ansible_collections/kubernetes/core", "ansible_collections/ansible/posix")
# What real GPUs need, and, as far as the cache has it, the campaign gpu-loss and the conformance runs.
RUNTIMES = ("nvidia-*", "machine-runtime-*", "runc-*", "legacy-hook-*", "device-plugin-*")
REPLACED = ("ansible==", "numpy==", "scipy==")


class _Pieces(io.RawIOBase):
    """A stream that becomes files of at most BUNDLE_BYTES."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.files: list[Path] = []
        self._left = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            if not self._left:
                self.files.append(self._folder / f"{self._name}.tar.xz.{len(self.files):03}")
                self.files[-1].write_bytes(b"")
                self._left = BUNDLE_BYTES
            part = view[: self._left]
            with self.files[-1].open("ab") as file:
                file.write(part)
            self._left -= len(part)
            view = view[len(part) :]
        return len(data)


def contents(artefacts: Artefacts) -> dict[str, dict[str, Path]]:
    """Each part's files, by their names in the cache of the other machine."""
    cache = artefacts.paths.cache
    root = node_image.node_root(artefacts.paths).tar
    binaries = [artefacts.kubernetes.binary(name) for name in NODE_PROGRAMS]
    binaries += [path.with_name(f"{path.name}.sha256") for path in binaries]
    binaries.append(artefacts.own_programs / "crictl")
    images = [path for path in sorted(artefacts.images.rglob("*.tar")) if artefacts.dns or path.parent.name != "dns"]
    parts = {"node": [root], "programs": binaries, "images": images}
    runtimes = [path for pattern in RUNTIMES for path in sorted(cache.glob(f"builds/{pattern}"))]
    if runtimes:
        parts["runtimes"] = runtimes
    return {part: {str(path.relative_to(cache)): path for path in files} for part, files in parts.items()}


def require(artefacts: Artefacts) -> dict[str, dict[str, Path]]:
    """The contents. Raises SandboxError that names what the cache lacks."""
    parts = contents(artefacts)
    lacking = [str(path) for files in parts.values() for path in files.values() if not path.exists()]
    if lacking or not parts["images"]:
        build = f"python3 -m sandbox build --k8s {artefacts.version}"
        raise SandboxError(f"the cache lacks {', '.join(lacking) or 'the images'}. Run `{build}` or `unpack` first.")
    return parts


def write_part(folder: Path, name: str, files: Mapping[str, Path]) -> list[Path]:
    """Write one part's bundles; return them."""
    pieces = _Pieces(folder, name)
    with lzma.open(pieces, "wb", preset=2) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:  # type: ignore[call-overload]
        for inner, path in files.items():
            archive.add(path, inner)
    return pieces.files


def python_packages(shell: Shell, folder: Path) -> dict[str, Path]:
    """Fetch the control node's packages as wheels for the other machine's Python."""
    version, *platforms = PYTHON
    lines = (SOURCES / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#") and not line.startswith(REPLACED)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
    command += ["--python-version", version, *(f"--platform={platform}" for platform in platforms)]
    shell.run([*command, *wanted])
    wheels = {f"wheels/{path.name}": path for path in sorted(folder.glob("*.whl"))}
    own = Path(sysconfig.get_path("purelib"))
    return {**wheels, **{f"python/{name}": own / name for name in COLLECTIONS}}


def checksum(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pack(artefacts: Artefacts, output: Path) -> list[Path]:
    """Write all bundles and their checksums; return them.

    Raises SandboxError if the cache lacks something or the folder is not empty.
    """
    parts = require(artefacts)
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise SandboxError(f"folder {output} is not empty: bundles go to an empty one. Name another with --output.")
    written = [output / PROJECT]
    artefacts.shell.run(["git", "-C", str(SOURCES), "archive", "--output", str(output / PROJECT), "HEAD"])
    with tempfile.TemporaryDirectory(prefix="kubepin-wheels-") as scratch:
        parts["python"] = python_packages(artefacts.shell, Path(scratch))
        for name, files in parts.items():
            written += write_part(output, name, files)
    (output / SUMS).write_text("".join(f"{checksum(path)}  {path.name}\n" for path in written))
    return written


def verified(folder: Path) -> list[Path]:
    """The bundles of a folder. Raises SandboxError that names each missing or changed one."""
    if not (folder / SUMS).exists():
        raise SandboxError(f"folder {folder} has no {SUMS}: expected the folder that `python3 -m sandbox pack` wrote.")
    lines = (folder / SUMS).read_text().splitlines()
    sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    problems = []
    for name, expected in sums.items():
        if not (folder / name).exists():
            problems.append(f"bundle {name} is missing")
        elif checksum(folder / name) != expected:
            problems.append(f"bundle {name} is not as packed: its SHA-256 is not {expected}")
    if problems:
        raise SandboxError("\n".join([*problems, f"Copy them to {folder} again."]))
    return [folder / name for name in sums]


def _read(pieces: Iterable[Path]) -> Iterator[bytes]:
    decompressor = lzma.LZMADecompressor()
    for piece in pieces:
        with piece.open("rb") as file:
            while block := file.read(1 << 20):
                yield decompressor.decompress(block)


class _Stream(io.RawIOBase):
    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def unpack(folder: Path, paths: Paths, shell: Shell) -> Path:
    """Check the bundles, fill the cache from them and install the Python packages; return the packages' folder."""
    parts: dict[str, list[Path]] = {}
    for path in verified(folder):
        if path.name != PROJECT:
            parts.setdefault(path.name.partition(".")[0], []).append(path)
    for pieces in parts.values():
        stream = io.BufferedReader(_Stream(_read(sorted(pieces))), 1 << 20)  # type: ignore[type-var]
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(paths.cache, filter="tar")
    wheels, packages = paths.cache / "wheels", paths.cache / "python"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(packages)]
    shell.run([*command, *map(str, sorted(wheels.glob("*.whl")))])
    return packages
