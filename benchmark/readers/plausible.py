# SPDX-License-Identifier: GPL-3.0-or-later
"""Which times can have been measured: the rules that hold for every format. Pure; times are ms of a step."""

from __future__ import annotations

from collections.abc import Sequence

# A step of these networks launches 60 kernels or more at microseconds each: below 0.1 ms the unit cannot be ms.
SHORTEST_MS = 0.1
LONGEST_MS = 1e6

LARGEST_RATIO = 20.0
"""On the same GPU model, CPUs cannot cause a larger ratio: it means a different unit or a different program."""

LARGEST_RATIO_ON_CPU = 500.0
"""The same where a CPU computes. Throttled threads that wait for each other were 21 times as slow on a busy machine; another
unit is another 1000 times."""

LEAST_STEPS = 5
"""Equal times of fewer steps may be a coincidence. A block has ten steps (`pod.measure`), a table fifty."""


def largest_ratio(*, on_cpu: bool) -> float:
    """How many times as long a step may take as another one of the same cell."""
    return LARGEST_RATIO_ON_CPU if on_cpu else LARGEST_RATIO


def unit_problem(place: str, value: float) -> str | None:
    """Why `value` cannot be the ms of a step."""
    if SHORTEST_MS <= value <= LONGEST_MS:
        return None
    return (
        f"{place}: {value:g} cannot be the milliseconds of a step: expected {SHORTEST_MS:g} to {LONGEST_MS:g}. "
        f"Convert the file to ms, or run the benchmark again."
    )


def is_constant(steps: Sequence[float]) -> bool:
    """Whether all steps take exactly the same time, which no clock shows."""
    return len(steps) >= LEAST_STEPS and len(set(steps)) == 1


def constant(steps: Sequence[float]) -> str:
    """What is wrong with steps that `is_constant`."""
    return (
        f"all {len(steps)} steps take {steps[0]:g} ms: expected measured times, which differ. "
        f"Use the times of each step, or run the benchmark again."
    )


def short(text: str) -> str:
    """At most 60 characters."""
    return text if len(text) <= 60 else f"{text[:57]}..."
