# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders for what a run needs only while it lives: variables, passwords, ansible-runner's files, the stop file.

They are in memory where the machine has a file system for that, so that nothing secret reaches a disk, and a full disk
does not keep a run from stopping. Only their user can read them. A run that is killed leaves its folders behind; the next
one removes them.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.ownership import Lock, Owner, is_held, read_owner

_PREFIX = "kubepin-run-"
_LOCK = "owner"
_MEMORY = Path("/dev/shm")


def places() -> tuple[Path, ...]:
    """Where folders may be; new ones are in the first."""
    temporary = Path(tempfile.gettempdir())
    return (_MEMORY, temporary) if os.access(_MEMORY, os.W_OK | os.X_OK) else (temporary,)


@contextmanager
def scratch_folder(owner: Owner) -> Iterator[Path]:
    """A new folder, which is removed at the end.

    :raises OSError: if it cannot be made
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=places()[0]))
    try:
        lock = Lock.take(folder / ".new", owner)
        (folder / ".new").rename(folder / _LOCK)  # so `sweep` never sees it unlocked
        try:
            yield folder
        finally:
            lock.release()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Removes the folders whose owner has ended, together with all processes that it started."""
    for place in places():
        with suppress(OSError):
            for folder in place.glob(f"{_PREFIX}*"):
                if _is_own(folder) and _is_abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)  # follows no symbolic link


def _is_own(folder: Path) -> bool:
    """Whether it is a real folder that only this user can write."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _is_abandoned(folder: Path) -> bool:
    owner = read_owner(folder / _LOCK)
    return owner is not None and not is_held(folder / _LOCK) and not owner.left_behind()
