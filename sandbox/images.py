# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes container images as docker-archive tars of one layer: no daemon, no registry."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Layer:
    """The files of an image, by their path in it. The first entry of a path wins."""

    entries: dict[str, tuple[tarfile.TarInfo, Path | None]] = field(default_factory=dict)

    def _add(self, path: str, info: tarfile.TarInfo, source: Path | None = None) -> None:
        info.name = path.strip("/")
        for parent in reversed(PurePosixPath(info.name).parents[:-1]):
            if str(parent) not in self.entries:
                self.folder(str(parent))
        self.entries.setdefault(info.name, (info, source))

    def file(self, path: str, source: Path) -> None:
        """A copy of a file, symbolic links followed."""
        info = tarfile.TarInfo()
        status = source.stat()
        info.size = status.st_size
        info.mode = 0o755 if status.st_mode & 0o111 else 0o644
        self._add(path, info, source)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder."""
        info = tarfile.TarInfo()
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._add(path, info)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        info = tarfile.TarInfo()
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._add(path, info)


def write_layer(layer: Layer, output: Path, base: Path | None = None) -> None:
    """Write a layer as a tar, after the files of an earlier one if given. The same input gives the same bytes."""
    with tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as archive:
        names: set[str] = set()
        if base:
            with tarfile.open(base) as earlier:
                for member in earlier:
                    names.add(member.name)
                    archive.addfile(member, earlier.extractfile(member) if member.isreg() else None)
        for name, (info, source) in layer.entries.items():
            if name in names:
                continue
            if source:
                with source.open("rb") as content:
                    archive.addfile(info, content)
            else:
                archive.addfile(info)


def write_image(
    output: Path,
    names: Sequence[str],
    layer: Layer,
    *,
    base: Path | None = None,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    env: Sequence[str] = (SEARCH_PATH,),
) -> None:
    """Write an archive that `ctr images import` and `docker load` take."""
    layer_file = output.with_suffix(".layer")
    write_layer(layer, layer_file, base)
    with layer_file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    machine = platform.machine()
    settings: dict[str, object] = {"Env": [*env], "WorkingDir": "/"}
    if entrypoint:
        settings["Entrypoint"] = list(entrypoint)
    if command:
        settings["Cmd"] = list(command)
    created = "1970-01-01T00:00:00Z"
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": created, "created_by": "kubepin sandbox"}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": list(names), "Layers": [layer_name]}]).encode()
    with tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo(layer_name)
        info.size = layer_file.stat().st_size
        with layer_file.open("rb") as content:
            archive.addfile(info, content)
    layer_file.unlink()
