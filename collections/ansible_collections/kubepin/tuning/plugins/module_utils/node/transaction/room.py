# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the file systems of a machine have room for the files that are to be written there."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems


@dataclass(frozen=True)
class NewFile:
    """A file that is to be written."""

    path: str
    size: int
    """In bytes, at most."""


@dataclass(frozen=True)
class Room:
    """What a file system still has."""

    mount_point: str
    block: int
    """The smallest piece that a file gets, in bytes."""
    free: t.Optional[int]
    """In bytes; None if the file system has no limit."""
    free_inodes: t.Optional[int]
    """How many more files fit; None if that has no limit."""


def shortages(files: t.Iterable[NewFile], room_of: t.Callable[[str], Room]) -> t.List[Problem]:
    """The file systems that are too full for the new files, all of which exist at the same time.

    Each file gets whole blocks, and one for its name.
    """
    wanted: t.Dict[Room, t.List[NewFile]] = {}
    for file in files:
        wanted.setdefault(room_of(file.path), []).append(file)
    found = []
    for room, new in wanted.items():
        needed = sum((-(-file.size // room.block) + 1) * room.block for file in new)
        folders = sorted({os.path.dirname(file.path) for file in new})
        if room.free is not None and room.free < needed:
            found.append(problems.file_system_full(room.mount_point, room.free, needed, folders))
        if room.free_inodes is not None and room.free_inodes < len(new):
            found.append(problems.inodes_used_up(room.mount_point, room.free_inodes, len(new), folders))
    return found


def room_of(path: str) -> Room:
    """What the file system of a path has left, as `df` shows it.

    Root could use some more blocks, but how many is not known: of ext4's `f_bfree`, up to 4096 are for nobody
    (fs/ext4/super.c, `ext4_calculate_resv_clusters`). A file system without a limit has no blocks at all (tmpfs,
    Documentation/filesystems/tmpfs.rst), one without a table of inodes no inodes (btrfs).

    :raises OSError: if the file system does not answer
    """
    folder = os.path.dirname(os.path.realpath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status = os.statvfs(folder)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return Room(
        mount_point=folder,
        block=status.f_frsize,
        free=status.f_bavail * status.f_frsize if status.f_blocks else None,
        free_inodes=status.f_ffree if status.f_files else None,
    )
