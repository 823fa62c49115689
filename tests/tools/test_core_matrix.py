# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import core_matrix

PROJECT = Path(__file__).parents[2]


def test_only_ansible_itself_is_left_to_the_release() -> None:
    kept = core_matrix.other_requirements((PROJECT / "requirements.txt").read_text())
    assert "kubernetes==" in kept
    assert "ansible-runner==" in kept
    assert "ansible==" not in kept
    assert "ansible-core==" not in kept


def test_a_python_that_does_not_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, status in (("python3.12", 127), ("python3.13", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert core_matrix.find_python(core_matrix.RELEASES[0]) == str(tmp_path / "python3.13")


def test_a_release_without_its_python_is_named_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr("sys.argv", ["core_matrix", "--core", "2.21"])
    assert core_matrix.main() == 1
    assert "ansible-core 2.21 needs Python 3.12 or 3.13 or 3.14: none is on the PATH" in capsys.readouterr().out
