# SPDX-License-Identifier: GPL-3.0-or-later
"""Image archives have the form that containerd and Docker import."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from sandbox.artefacts import ImageName, etcd_version
from sandbox.images import Layer, write_image, write_layer
from sandbox.settings import SandboxError


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF")
    path.chmod(0o700)
    return path


def test_archive(tmp_path: Path, program: Path) -> None:
    layer = Layer()
    layer.file("/usr/bin/program", program)
    layer.link("/usr/bin/other", "program")
    layer.folder("/tmp", 0o1777)
    output = tmp_path / "image.tar"
    write_image(output, ["example.org/program:1"], layer, entrypoint=["/usr/bin/program"])

    with tarfile.open(output) as archive:
        contents = {member.name: archive.extractfile(member) for member in archive}
        files = {name: handle.read() for name, handle in contents.items() if handle}
    (manifest,) = json.loads(files["manifest.json"])
    assert manifest["RepoTags"] == ["example.org/program:1"]
    config = json.loads(files[manifest["Config"]])
    assert config["config"]["Entrypoint"] == ["/usr/bin/program"]
    (layer_name,) = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(files[layer_name]).hexdigest()}"]

    (tmp_path / "layer.tar").write_bytes(files[layer_name])
    with tarfile.open(tmp_path / "layer.tar") as inner:
        modes = {member.name: member.mode for member in inner}
        assert inner.getmember("usr/bin/other").linkname == "program"
    assert modes["usr/bin/program"] == 0o755
    assert modes["tmp"] == 0o1777
    assert {"usr", "usr/bin"} <= set(modes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "layer.tar", "program"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, program: Path) -> None:
    outputs = []
    for name in ("one.tar", "two.tar"):
        layer = Layer()
        layer.file("/program", program)
        write_image(tmp_path / name, ["example.org/program:1"], layer)
        outputs.append((tmp_path / name).read_bytes())
        program.touch()
    assert outputs[0] == outputs[1]


def test_a_layer_continues_an_earlier_one(tmp_path: Path, program: Path) -> None:
    base = Layer()
    base.file("/bin/base", program)
    write_layer(base, tmp_path / "base.tar")
    more = Layer()
    more.file("/bin/more", program)
    write_layer(more, tmp_path / "both.tar", tmp_path / "base.tar")
    with tarfile.open(tmp_path / "both.tar") as archive:
        assert sorted(archive.getnames()) == ["bin", "bin/base", "bin/more"]


def test_image_names_cover_both_registries() -> None:
    image = ImageName.parse("registry.k8s.io/coredns/coredns:v1.8.4")
    assert image.program == "coredns"
    assert image.names == ["k8s.gcr.io/coredns/coredns:v1.8.4", "registry.k8s.io/coredns/coredns:v1.8.4"]
    with pytest.raises(SandboxError, match="REGISTRY/PATH:TAG"):
        ImageName.parse("coredns")


@pytest.mark.parametrize(("tag", "expected"), [("3.5.6-0", "3.5.6"), ("3.6.8-0", "3.6.8"), ("3.4.13-0", "3.5.6")])
def test_etcd_version(tag: str, expected: str) -> None:
    assert etcd_version(tag) == expected
