# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that depend on each other: which one is next, and how long the rest will take. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

# A step that was never measured, on this machine or on the one that the steps' own figures come from.
UNKNOWN_SECONDS = 5.0
# What a step that takes longer than expected will need still, as a share of what it has taken.
OVERDUE = 0.1


@dataclass(frozen=True)
class Step:
    """One piece of work of a plan.

    :param name: names it in `after` of other steps, and in the file of durations
    :param title: what people read
    :param action: does it; a returned text is shown behind its time
    :param after: names of steps that must be done first; those that the plan lacks are done already
    :param seconds: how long it took on two cores
    :param progress: says how far it is, while it runs
    :param unless: asked when it could start; where it holds, an earlier step has left nothing to do
    """

    name: str
    title: str
    action: Callable[[], str | None]
    after: tuple[str, ...] = ()
    seconds: float = UNKNOWN_SECONDS
    progress: Callable[[], str] | None = None
    unless: Callable[[], bool] = lambda: False


def expected_seconds(steps: Sequence[Step], recorded: Mapping[str, float]) -> dict[str, float]:
    """How long each step will take: as long as last time, or else as long as on two cores."""
    return {step.name: recorded.get(step.name, step.seconds) for step in steps}


def urgency(steps: Sequence[Step], seconds: Mapping[str, float]) -> dict[str, float]:
    """For each step, the seconds from its start to the end of the longest chain of steps that wait for it."""
    found: dict[str, float] = {}

    def from_start(name: str) -> float:
        if name not in found:
            followers = (step.name for step in steps if name in step.after)
            found[name] = seconds[name] + max(map(from_start, followers), default=0.0)
        return found[name]

    for step in steps:
        from_start(step.name)
    return found


def ready(steps: Sequence[Step], started: Collection[str], done: Collection[str]) -> list[Step]:
    """The steps that can start now, in the order of the plan."""
    names = {step.name for step in steps}
    return [
        step for step in steps if step.name not in started and all(name in done for name in step.after if name in names)
    ]


def seconds_left(
    steps: Sequence[Step],
    seconds: Mapping[str, float],
    running: Mapping[str, float],
    done: Collection[str],
    workers: int,
) -> float:
    """Predict when the last step ends, by going through the rest of the plan as the workers will.

    :param running: the seconds that each running step has taken so far
    """
    urgent = urgency(steps, seconds)
    ends = {name: max(seconds[name] - taken, taken * OVERDUE) for name, taken in running.items()}
    finished, now = set(done), 0.0
    while True:
        started = finished | set(ends)
        waiting = sorted(ready(steps, started, finished), key=lambda step: -urgent[step.name])
        for step in waiting[: max(0, workers - len(ends))]:
            ends[step.name] = now + seconds[step.name]
        if not ends:
            return now
        first = min(ends, key=lambda name: ends[name])
        now = ends.pop(first)
        finished.add(first)
