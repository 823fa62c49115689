# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.preflight import preflight, put_back


def change(path: Path, before: str | None, after: str | None) -> FileChange:
    return FileChange(str(path), before, after, "asked for")


def test_a_file_that_is_not_as_it_was_planned_is_named(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("a")
    (tmp_path / "edited").write_text("b")
    planned = [
        change(tmp_path / "same", "a", "c"),
        change(tmp_path / "edited", "a", "c"),
        change(tmp_path / "new", None, "c"),
    ]
    assert [(one.code, one.subject) for one in preflight(Files(), planned)] == [
        ("file_changed_since_plan", str(tmp_path / "edited"))
    ]


def test_the_texts_of_state_files_are_not_compared(tmp_path: Path) -> None:
    state = tmp_path / "cpu_manager_state"
    state.write_text("written meanwhile")
    assert preflight(Files(), [], [change(state, "planned", None)]) == []


def test_a_file_that_another_program_put_back_is_named(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("new")
    (tmp_path / "theirs").write_text("old")
    written = [change(tmp_path / name, "old", "new") for name in ("ours", "theirs", "removed")]
    assert [one.subject for one in put_back(Files(), written)] == [str(tmp_path / "theirs"), str(tmp_path / "removed")]
