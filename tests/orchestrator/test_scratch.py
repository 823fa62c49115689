# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that a run needs only while it lives, and what is left of killed runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import scratch
from orchestrator.ownership import Owner
from orchestrator.processes import MARK

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR of a machine without /dev/shm."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(scratch, "_MEMORY", tmp_path / "none")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path / "tmp"
    tempfile.tempdir = None


@pytest.fixture
def left(place: Path) -> Path:
    """The folder of a process that was killed with -9."""
    program = (
        "import os, pathlib, signal; from orchestrator import scratch; from orchestrator.ownership import Owner;"
        f"scratch._MEMORY = pathlib.Path({str(place / 'none')!r}); folder = scratch.scratch_folder(Owner(mark='killed-mark'));"
        "path = folder.__enter__(); (path / 'variables.json').write_text('secret'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'collections'}"}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == -9
    (folder,) = place.iterdir()
    return folder


def test_only_the_user_can_read_it_and_nothing_is_left(place: Path) -> None:
    with scratch.scratch_folder(Owner()) as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
        scratch.sweep()
        assert folder.is_dir(), "a living one"
    assert not list(place.iterdir())


def test_it_is_in_memory_where_there_is_a_place_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr(scratch, "_MEMORY", memory)
    with scratch.scratch_folder(Owner()) as folder:
        assert folder.parent == memory


def test_the_folder_of_a_killed_run_is_removed_once_its_processes_have_ended(left: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (left / "link").symlink_to(outside)
    survivor = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: "killed-mark"})
    try:
        scratch.sweep()
        assert (left / "variables.json").exists(), "a process of the run still works"
    finally:
        survivor.kill()
        survivor.wait()
    scratch.sweep()
    assert not left.exists()
    assert (outside / "kept").exists()


def test_what_others_may_have_put_there_is_left_alone(left: Path, tmp_path: Path) -> None:
    elsewhere = left.rename(tmp_path / "elsewhere")
    left.symlink_to(elsewhere)
    scratch.sweep()
    assert (elsewhere / "variables.json").exists(), "followed a symbolic link"
    left.unlink()
    elsewhere.rename(left)
    left.chmod(0o777)
    scratch.sweep()
    assert left.exists(), "others can write it"
    left.chmod(0o700)
    owner = left / "owner"
    text = owner.read_text()
    for other in ("", "{}", "null", "\0"):
        owner.write_text(other)
        scratch.sweep()
        assert left.exists(), "nothing says that its owner has ended"
    owner.unlink()
    os.mkfifo(owner)
    scratch.sweep()
    assert left.exists()
    owner.unlink()
    owner.write_text(text)
    scratch.sweep()
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_other_users_are_left_alone(left: Path) -> None:
    os.chown(left, 65534, 65534)
    scratch.sweep()
    assert left.exists()
