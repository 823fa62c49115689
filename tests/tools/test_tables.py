# SPDX-License-Identifier: GPL-3.0-or-later
"""How a script that makes a table of the collection writes or checks it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import NEWEST_MINOR

from sandbox.gobuild import Go
from tools.tables import run


def table(_go: Go, newest: int) -> str:
    return f"up to {newest}\n"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "table"


def call(target: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    run(target, table, "A table.")


def test_a_table_is_written_for_the_present_or_another_newest_minor(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(target, monkeypatch)
    assert target.read_text() == f"up to {NEWEST_MINOR}\n"
    call(target, monkeypatch, "--newest", "99")
    assert target.read_text() == "up to 99\n"


def test_a_check_fails_for_another_table_and_leaves_it(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(target, monkeypatch)
    call(target, monkeypatch, "--check")
    target.write_text("edited\n")
    with pytest.raises(SystemExit, match="is not what the sources say"):
        call(target, monkeypatch, "--check")
    assert target.read_text() == "edited\n"
