# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs a folder: a file that its owner keeps locked while it lives.

The kernel releases the lock (flock(2)) when the process ends, also on kill -9. Linux also keeps it on NFS, across hosts.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from orchestrator.processes import described, marked
from orchestrator.values import as_object

_PATIENCE_SECONDS = 1.0  # a reader holds the lock for a moment
_POLL_SECONDS = 0.05
_BYTES = 512  # a rewrite of the same length needs no space, so it succeeds on a full disk


def now() -> str:
    """The time as run.json and the lock hold it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Owner:
    """The process that runs a folder.

    :param mark: stands in the environment of the processes that it started (`processes.MARK`)
    :param verdict: how the run ended, if only the lock file could be written
    """

    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since: str = field(default_factory=now)
    mark: str = field(default_factory=lambda: str(uuid4()))
    verdict: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def left_behind(self) -> tuple[str, ...]:
        """A description of each process on this machine that the owner has started."""
        return described(marked(self.mark)) if self.mark and self.host == socket.gethostname() else ()


class Held(Exception):
    """Another process holds the lock. `owner` is None if the file does not say which."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(owner)
        self.owner = owner


class Lock:
    """A lock that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, owner: Owner) -> Lock:
        """
        :raises Held: if another process holds it
        :raises OSError: if the file cannot be written, or its file system cannot lock
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not _locked(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Held(read_owner(path))
                time.sleep(_POLL_SECONDS)
            lock = cls(descriptor)
            lock.write(owner)
        except BaseException:
            os.close(descriptor)
            raise
        return lock

    def write(self, owner: Owner) -> None:
        """Says who the owner is.

        :raises OSError: if the file cannot be written
        """
        os.pwrite(self._descriptor, json.dumps(asdict(owner)).encode().ljust(_BYTES - 1) + b"\n", 0)

    def release(self) -> None:
        """Lets others take the lock. The file stays, as removing it would race with them."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock; False without a file.

    :raises OSError: if the file system cannot tell
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def read_owner(path: Path) -> Owner | None:
    """The owner that the file names; None if it names none."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            values = as_object(json.loads(file.read(_BYTES)))
    except (OSError, ValueError, RecursionError):
        return None
    pid, host, since = values.get("pid"), values.get("host"), values.get("since")
    mark, verdict = values.get("mark"), values.get("verdict")
    if not (isinstance(pid, int) and isinstance(host, str) and isinstance(since, str)):
        return None
    return Owner(pid, host, since, mark, verdict) if isinstance(mark, str) and isinstance(verdict, str) else None


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
