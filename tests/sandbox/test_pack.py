# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles survive the way to another machine, or are refused there by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import pack
from sandbox.settings import Paths, SandboxError
from sandbox.shell import Log, Shell


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part in several bundles with its checksums."""
    monkeypatch.setattr(pack, "BUNDLE_BYTES", 1000)
    source, folder = tmp_path / "root.tar", tmp_path / "bundles"
    source.write_bytes(os.urandom(3500))
    folder.mkdir()
    files = pack.write_part(folder, "node", {"node-root/root.tar": source})
    (folder / pack.SUMS).write_text("".join(f"{pack.checksum(path)}  {path.name}\n" for path in files))
    return folder


class NoPip(Shell):
    """A shell that installs no packages."""

    def run(self, *_: object, **__: object) -> str:
        return ""


def test_a_part_in_several_bundles_is_whole_again(bundles: Path, tmp_path: Path) -> None:
    sizes = [path.stat().st_size for path in bundles.glob("node.*")]
    assert len(sizes) > 3
    assert max(sizes) <= 1000
    pack.unpack(bundles, Paths(tmp_path / "cache"), NoPip(Log(tmp_path / "log")))
    assert (tmp_path / "cache/node-root/root.tar").read_bytes() == (tmp_path / "root.tar").read_bytes()


def test_all_missing_and_changed_bundles_are_named(bundles: Path) -> None:
    (bundles / "node.tar.xz.000").unlink()
    (bundles / "node.tar.xz.001").write_bytes(b"cut")
    with pytest.raises(SandboxError) as refused:
        pack.verified(bundles)
    assert "node.tar.xz.000 is missing" in str(refused.value)
    assert "node.tar.xz.001 is not as packed" in str(refused.value)


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="has no SHA256SUMS"):
        pack.verified(tmp_path)
