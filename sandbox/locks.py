# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between runs. The kernel drops them with the process, so a killed run never leaves one behind."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock NAME, saying so if another run has to finish first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'waiting: another run holds the lock "{name}" ({handle.name})', flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
