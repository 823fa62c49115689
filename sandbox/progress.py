# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a plan on two workers, and shows what runs, how far it is and how long it may still take."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TextIO

from sandbox.plan import Step, expected_seconds, ready, seconds_left, urgency

WORKERS = 2
LIVE_SECONDS = 0.5
HEARTBEAT_SECONDS = 30.0


def duration(seconds: float) -> str:
    """As people say it: 8 s, 3 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def roughly(seconds: float) -> str:
    """An estimate, no more exact than it is."""
    if seconds < 10:
        return "some seconds"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} s"
    return f"{seconds / 60:.0f} min"


class Durations:
    """How long each step took when it last ran, kept between runs.

    A file that cannot be read counts as empty, one that cannot be written is left: estimates are not worth a failure.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, float]:
        """Seconds by the names of steps."""
        try:
            return {str(name): float(seconds) for name, seconds in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def add(self, measured: Mapping[str, float]) -> None:
        """Keep new measurements beside the earlier ones of other steps."""
        text = json.dumps({name: round(seconds, 1) for name, seconds in {**self.read(), **measured}.items()}, indent=1)
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(f"{text}\n")
            unfinished.rename(self._path)
        except OSError:
            unfinished.unlink(missing_ok=True)


class Screen:
    """Lines that stay, and on a terminal below them some that are always of this moment."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self.live = output.isatty()
        self._height = 0

    def _erase(self) -> str:
        # Up to the first line of the region, and clear from there to the end of the screen.
        erased = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        self._height = 0
        return erased

    def stays(self, line: str) -> None:
        """Print a line above the live ones."""
        self._output.write(f"{self._erase()}{line}\n")
        self._output.flush()

    def shows(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the live ones."""
        # A line that wraps would make the region higher than its number of lines.
        width = shutil.get_terminal_size().columns - 1
        self._output.write(self._erase() + "".join(f"{line[:width]}\n" for line in lines))
        self._output.flush()
        self._height = len(lines)


class _Run:
    """One run of a plan."""

    def __init__(self, steps: Sequence[Step], recorded: Mapping[str, float], screen: Screen) -> None:
        self._steps = steps
        self._screen = screen
        self._seconds = expected_seconds(steps, recorded)
        self._urgency = urgency(steps, self._seconds)
        self._began = time.monotonic()
        self._last_shown = self._began
        self._running: dict[Future[str | None], tuple[Step, float]] = {}
        self.measured: dict[str, float] = {}

    def _ready(self) -> list[Step]:
        started = {*self.measured, *(step.name for step, _ in self._running.values())}
        return ready(self._steps, started, self.measured)

    def _drop(self) -> None:
        """Take the steps out of the plan that have nothing left to do."""
        while needless := {step.name for step in self._ready() if step.unless()}:
            self._steps = [step for step in self._steps if step.name not in needless]

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Give the free workers the steps that most others wait for."""
        self._drop()
        waiting = sorted(self._ready(), key=lambda step: -self._urgency[step.name])
        for step in waiting[: WORKERS - len(self._running)]:
            self._running[pool.submit(step.action)] = (step, time.monotonic())

    def _summary(self) -> str:
        now = time.monotonic()
        running = {step.name: now - since for step, since in self._running.values()}
        left = seconds_left(self._steps, self._seconds, running, self.measured, WORKERS)
        count = f"{len(self.measured)} of {len(self._steps)} steps done"
        return f"{count}, {duration(now - self._began)} so far, about {roughly(left)} left"

    def _running_lines(self) -> list[str]:
        now = time.monotonic()
        lines = []
        for step, since in self._running.values():
            far = f": {step.progress()}" if step.progress else ""
            lines.append(f"{step.title} ({duration(now - since)}){far}")
        return lines

    def _show(self) -> None:
        now = time.monotonic()
        if self._screen.live:
            self._screen.shows([*(f"  > {line}" for line in self._running_lines()), f"  {self._summary()}"])
        elif now - self._last_shown >= HEARTBEAT_SECONDS:
            self._last_shown = now
            self._screen.stays(f"  ... {'; '.join(self._running_lines())}. {self._summary()}")

    def _end(self, task: Future[str | None]) -> None:
        """Print the line of a step that ended; raise its error."""
        step, since = self._running.pop(task)
        seconds = time.monotonic() - since
        width = len(str(len(self._steps)))
        failed = task.exception() is not None
        number = "-" * width if failed else f"{len(self.measured) + 1:>{width}}"
        note = "" if failed or not task.result() else f" ({task.result()})"
        self._screen.stays(
            f"[{number}/{len(self._steps)}] {step.title}{note}: {'FAILED after ' if failed else ''}{seconds:.1f} s"
        )
        task.result()
        self.measured[step.name] = seconds

    def through(self, pool: ThreadPoolExecutor) -> None:
        """Run all steps; the first error ends it, with the other steps still running."""
        while len(self.measured) < len(self._steps):
            self._start(pool)
            self._show()
            ended, _ = wait(self._running, LIVE_SECONDS, FIRST_COMPLETED)
            for task in sorted(ended, key=lambda task: task.exception() is not None):
                self._end(task)
        self._screen.shows([])


def run_steps(steps: Sequence[Step], durations: Durations, stop: Callable[[], None]) -> None:
    """Run the steps, each as soon as those before it are done, at most two at a time.

    The first error ends the run. `stop` then makes the steps that still run end soon; they are waited for.
    """
    run = _Run(steps, durations.read(), Screen(sys.stdout))
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            run.through(pool)
        except BaseException:
            stop()
            raise
        finally:
            durations.add(run.measured)
