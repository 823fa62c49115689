# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a run on this machine, found by a mark in their environment and ended.

ansible-runner kills the process group of ansible-playbook. Since ansible-core 2.19 each worker is in a session of its own
(ansible/executor/process/worker.py, setsid), so workers and what they started go on.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "KUBEPIN_RUN_MARK"
PATIENCE_SECONDS = 20.0  # for a benchmark pod to be removed
TRANSACTION_PATIENCE_SECONDS = (
    180.0  # for what does not let itself be interrupted, such as a switch of this machine's kubelet
)
_POLL_SECONDS = 0.1


def marked(mark: str) -> list[int]:
    """The processes, but this one, that were started with the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def end_marked(
    mark: str, patience: float = PATIENCE_SECONDS, transaction_patience: float = TRANSACTION_PATIENCE_SECONDS
) -> tuple[str, ...]:
    """Asks the marked processes to end, then ends them; those that ignore SIGTERM are waited for, and never killed.

    :param patience: seconds until the others are killed
    :param transaction_patience: seconds until those that ignore SIGTERM are left alone
    :returns: what is still there, in words
    """
    started = time.monotonic()
    asked: set[int] = set()
    while left := [pid for pid in marked(mark) if not _is_zombie(pid)]:
        passed = time.monotonic() - started
        stubborn = [pid for pid in left if _ignores(pid, signal.SIGTERM)]
        for pid in set(left) - asked:
            _signal(pid, signal.SIGTERM)
        asked.update(left)
        if passed > patience:
            for pid in set(left) - set(stubborn):
                _signal(pid, signal.SIGKILL)
        if passed > transaction_patience:
            break
        time.sleep(_POLL_SECONDS)
    return tuple(f"process {pid}: {_command(pid)}" for pid in left)


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
        return "gone meanwhile"
    return text if len(text) <= 120 else f"{text[:117]}..."
