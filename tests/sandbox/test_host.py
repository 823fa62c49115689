# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.host import allow_many_nodes, allows_many_nodes, remove_stale_pid_files


@pytest.mark.parametrize(
    ("owner", "stays"),
    [
        pytest.param("dockerd", True, id="the engine itself"),
        pytest.param("python3", False, id="another program has the number"),
        pytest.param(None, True, id="nobody has it: the engine sees that itself"),
    ],
)
def test_stale_pid_files(tmp_path: Path, owner: str | None, stays: bool) -> None:
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text("4711")
    if owner:
        (tmp_path / "4711").mkdir()
        (tmp_path / "4711" / "comm").write_text(f"{owner}\n")
    remove_stale_pid_files({pid_file: "dockerd", tmp_path / "absent.pid": "containerd"}, proc=tmp_path)
    assert pid_file.exists() is stays


def test_the_inotify_limit_is_raised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    assert not allows_many_nodes(limit)
    assert allow_many_nodes(limit) == "128 to 1024"
    assert allows_many_nodes(limit)


def test_a_higher_limit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    limit = tmp_path / "max_user_instances"
    limit.write_text("8192\n")
    assert allows_many_nodes(limit)
