# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the processes of a run on this machine. A mark in their environment identifies them.

ansible-runner kills the process group of ansible-playbook. Since ansible-core 2.19 each worker has its own session
(ansible/executor/process/worker.py, setsid), so workers and their children would survive.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MARK = "KUBEPIN_RUN_MARK"
KILL_AFTER_SECONDS = 20.0  # time to remove a benchmark pod
GIVE_UP_AFTER_SECONDS = 180.0  # time for a process that ignores SIGTERM, such as a switch of this machine's kubelet
_POLL_SECONDS = 0.1


def marked(mark: str) -> list[int]:
    """The IDs of other processes that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def end_marked(
    mark: str, kill_after: float = KILL_AFTER_SECONDS, give_up_after: float = GIVE_UP_AFTER_SECONDS
) -> tuple[str, ...]:
    """Sends SIGTERM to the marked processes, and SIGKILL later. Processes that ignore SIGTERM are never killed.

    :param kill_after: seconds until SIGKILL
    :param give_up_after: seconds to wait for processes that ignore SIGTERM
    :returns: a description of each process that still runs
    """
    started = time.monotonic()
    terminated: set[int] = set()
    while remaining := [pid for pid in marked(mark) if not _is_zombie(pid)]:
        passed = time.monotonic() - started
        ignoring = {pid for pid in remaining if _ignores(pid, signal.SIGTERM)}
        for pid in set(remaining) - terminated:
            _signal(pid, signal.SIGTERM)
        terminated.update(remaining)
        if passed > kill_after:
            for pid in set(remaining) - ignoring:
                _signal(pid, signal.SIGKILL)
        if passed > give_up_after:
            break
        time.sleep(_POLL_SECONDS)
    return described(remaining)


def described(pids: Iterable[int]) -> tuple[str, ...]:
    """The number and command line of each process."""
    return tuple(f"process {pid}: {_command(pid)}" for pid in pids)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _is_zombie(pid: int) -> bool:
    return _status(pid).get("State", "Z").startswith("Z")


def _ignores(pid: int, number: signal.Signals) -> bool:
    """Whether the process ignores the signal (proc_pid_status(5), SigIgn)."""
    return bool(int(_status(pid).get("SigIgn", "0"), 16) & 1 << (number - 1))


def _command(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ended"
    return text if len(text) <= 120 else f"{text[:117]}..."
