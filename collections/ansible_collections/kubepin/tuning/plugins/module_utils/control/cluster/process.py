# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible process of this run, and whether that of another run on this machine still runs."""

from __future__ import annotations

import multiprocessing
from pathlib import Path


def this_process() -> str:
    """Identifies the Ansible process to which this worker belongs; empty outside of one.

    Machine, PID namespace, PID, and start in clock ticks: together they are never used again (proc(5)).
    """
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent else None
    started = _start_of(pid) if pid else None
    return f"{_here()} {pid} {started}" if started else ""


def is_running(process: str) -> bool | None:
    """Whether a process that `this_process` described still runs; None if it is not visible from here."""
    parts = process.rsplit(" ", 2)
    if len(parts) != 3 or parts[0] != _here() or not parts[1].isdigit():
        return None
    return _start_of(int(parts[1])) == parts[2]


def _here() -> str:
    """This boot of this machine, and the PID namespace; empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """The start time of a process in clock ticks since the boot; None if the process does not exist (proc(5), field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # the name, in parentheses, may contain anything
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
