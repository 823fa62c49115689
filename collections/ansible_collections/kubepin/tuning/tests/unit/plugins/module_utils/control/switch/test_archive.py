# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.archive import write_archive


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_the_files_are_written_for_their_owner_alone_and_their_checksums_returned(tmp_path: Path) -> None:
    seals = write_archive(str(tmp_path), {f"{HOME}/switches/1.json": encoded(b"{}")})
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert written.relative_to(tmp_path) == Path("switches/1.json")
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (b"{}", 0o600)
    assert seals == {f"{HOME}/switches/1.json": hashlib.sha256(b"{}").hexdigest()}


@pytest.mark.parametrize("path", ["/etc/passwd", HOME, f"{HOME}/../x", "switches/a.json"])
def test_a_node_does_not_choose_where_the_control_node_writes(tmp_path: Path, path: str) -> None:
    with pytest.raises(TuningError) as caught:
        write_archive(str(tmp_path), {path: encoded(b"x")})
    assert [problem.code for problem in caught.value.problems] == ["not_below_home"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="on the control node cannot be written"):
        write_archive(str(tmp_path / "file"), {f"{HOME}/switches/1.json": encoded(b"{}")})
