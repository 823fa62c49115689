# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of real files, and how they are undone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.changes import (
    CopiedFile,
    ProgramChange,
    restore,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, Files, draft_path

FILES = Files()


@pytest.fixture
def program(tmp_path: Path) -> CopiedFile:
    """A program that is about to be replaced, with its copy."""
    path, kept = tmp_path / "bin" / "kubelet", tmp_path / "kept"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o751)
    (tmp_path / "new").write_text("new")
    FILES.copy(str(path), str(kept))
    return CopiedFile(str(path), str(kept))


def replace_program(program: CopiedFile) -> None:
    change = ProgramChange(program.path, str(Path(program.path).parents[1] / "new"), "new")
    change.draft(FILES)
    change.apply(FILES)
    assert (Path(program.path).read_text(), os.stat(program.path).st_mode & 0o777) == ("new", 0o751)


def test_the_backup_of_a_program_is_the_program_itself_and_restored_by_a_rename(program: CopiedFile) -> None:
    number = os.stat(program.path).st_ino
    program.back_up(FILES)
    replace_program(program)
    restore(program, FILES)
    assert os.stat(program.path).st_ino == number
    assert os.listdir(os.path.dirname(program.path)) == ["kubelet"]


def test_without_hard_links_the_backup_is_a_copy(program: CopiedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str, _other: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    program.back_up(FILES)
    replace_program(program)
    restore(program, FILES)
    assert (Path(program.path).read_text(), os.stat(program.path).st_mode & 0o777) == ("old", 0o751)


@pytest.mark.parametrize("left", ["torn", None])
def test_a_backup_that_is_not_the_copy_of_before_is_written_anew(program: CopiedFile, left: str | None) -> None:
    program.back_up(FILES)
    replace_program(program)
    backup = Path(draft_path(program.path, BACKUP))
    backup.unlink()
    if left:
        backup.write_text(left)
    assert not program.is_backed_up(FILES)
    program.back_up(FILES)
    restore(program, FILES)
    assert (Path(program.path).read_text(), os.stat(program.path).st_mode & 0o777) == ("old", 0o751)


def test_a_file_that_was_missing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("new")
    file = CopiedFile(str(tmp_path / "made"), None)
    assert file.is_due(FILES)
    restore(file, FILES)
    assert not file.is_due(FILES)
