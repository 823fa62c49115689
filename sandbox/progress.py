# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered steps with their times, and a sign of life during long ones."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Step:
    """One line of a plan: what it is called and what does it. A returned text is shown behind the time."""

    title: str
    action: Callable[[], str | None]


def _heartbeat(prefix: str, started: float, done: threading.Event) -> None:
    interactive = sys.stdout.isatty()
    while not done.wait(1.0 if interactive else HEARTBEAT_SECONDS):
        elapsed = time.monotonic() - started
        if interactive:
            print(f"\r{prefix} {elapsed:.0f} s", end="", flush=True)
        else:
            print(f"{prefix} still at it after {elapsed:.0f} s", flush=True)


def run_steps(steps: Sequence[Step], *, before: int = 0, after: int = 0) -> None:
    """Run the steps in order; the first exception ends it, with its step marked as failed.

    `before` and `after` count the steps of the same plan that run in other calls.
    """
    total = before + len(steps) + after
    width = len(str(total))
    for number, step in enumerate(steps, before + 1):
        prefix = f"[{number:>{width}}/{total}] {step.title} ..."
        started = time.monotonic()
        done = threading.Event()
        if sys.stdout.isatty():
            print(prefix, end="", flush=True)
        beat = threading.Thread(target=_heartbeat, args=(prefix, started, done), daemon=True)
        beat.start()
        outcome = "FAILED after "
        note: str | None = None
        try:
            note = step.action()
            outcome = ""
        finally:
            done.set()
            beat.join()
            line = f"{prefix} {outcome}{time.monotonic() - started:.1f} s{f'  ({note})' if note else ''}"
            print(f"\r{line}" if sys.stdout.isatty() else line, flush=True)
