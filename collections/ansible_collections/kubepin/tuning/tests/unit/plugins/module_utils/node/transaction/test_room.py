# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import room
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.room import NewFile, Room, shortages

ETC, VAR = Room("/", 4096, free=40960, free_inodes=2), Room("/var", 1024, free=2048, free_inodes=None)
ENDLESS = Room("/run", 4096, free=None, free_inodes=None)


def room_at(path: str) -> Room:
    return {"etc": ETC, "var": VAR, "run": ENDLESS}[path.split("/")[1]]


def test_each_file_system_that_is_too_full_is_named_with_what_is_free_and_what_is_needed() -> None:
    files = [
        NewFile("/etc/default/kubelet", 100),
        NewFile("/var/a/x", 1500),
        NewFile("/var/b/y", 1),
        NewFile("/run/z", 1 << 40),
    ]
    [problem] = shortages(files, room_at)
    assert problem.code == "file_system_full"
    assert problem.text == (
        "file system /var is too full: 2 KiB are free, and 5 KiB are needed in /var/a, /var/b. "
        "Make room (`df -h /var`), and run again."
    )


def test_a_file_system_without_inodes_is_full_too() -> None:
    [problem] = shortages([NewFile(f"/etc/{name}", 0) for name in "abc"], room_at)
    assert problem.code == "inodes_used_up"
    assert "file system / has too few inodes: 2 are free, and 3 are needed in /etc" in problem.text


def test_what_fits_exactly_is_no_problem() -> None:
    assert shortages([NewFile("/etc/a", 8 * 4096), NewFile("/run/b", 5)], room_at) == []


def test_the_room_of_a_file_that_is_not_there_yet_is_that_of_the_folder_above(tmp_path: Path) -> None:
    found = room.room_of(str(tmp_path / "new" / "folder" / "file"))
    assert os.path.ismount(found.mount_point)
    assert os.stat(found.mount_point).st_dev == tmp_path.stat().st_dev
    assert found.free
    assert found.block


def test_blocks_that_are_reserved_are_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.statvfs_result((4096, 4096, 2554693, 4321, 0, 655360, 645702, 645702, 0, 255))  # a full ext4
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    assert room.room_of("/etc/x").free == 0


def test_a_file_system_without_a_limit_has_room_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    found = room.room_of("/etc/x")
    assert (found.free, found.free_inodes) == (None, None)
