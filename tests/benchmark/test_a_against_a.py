# SPDX-License-Identifier: GPL-3.0-or-later
"""A compared with itself must not end in a claim of a difference: on published steps. `test_simulate.py` has simulated ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.analysis import Verdict
from benchmark.assess import assess_sides
from benchmark.experiment import Experiment
from benchmark.readers import read
from benchmark.results import Process, ResultSet, Timing

Steps = tuple[float, ...]
Split = Callable[[Steps, int], list[tuple[Steps, Steps]]]
HARMLESS = {Verdict.EQUIVALENT, Verdict.UNDECIDED}


def interleaved(steps: Steps, rounds: int) -> list[tuple[Steps, Steps]]:
    """Each pseudo-round's rows go to the sides in turn, the first row to A and to B in turn."""
    width = len(steps) // rounds
    slices = [steps[number * width : (number + 1) * width] for number in range(rounds)]
    return [(s[::2], s[1::2]) if number % 2 == 0 else (s[1::2], s[::2]) for number, s in enumerate(slices)]


def halves(steps: Steps, rounds: int) -> list[tuple[Steps, Steps]]:
    """The first half of the rows is A, the second is B: what drift does to arms that are not interleaved."""
    half = len(steps) // 2
    width = half // rounds
    return [
        (steps[n * width : (n + 1) * width], steps[half + n * width : half + (n + 1) * width]) for n in range(rounds)
    ]


def against_itself(folder: Path, split: Split, rounds: int) -> Experiment:
    timings = read(str(folder)).processes[0].timings
    parts = {cell: split(timing.iter_ms, rounds) for cell, timing in timings.items()}
    sides = [
        ResultSet(
            label,
            tuple(Process(n + 1, 0, {c: Timing("ok", p[n][side]) for c, p in parts.items()}) for n in range(rounds)),
        )
        for side, label in enumerate("ab")
    ]
    return assess_sides(sides[0], sides[1])


@pytest.mark.parametrize(
    ("split", "rounds"),
    [
        pytest.param(halves, 1, id="halves-one-run"),
        pytest.param(interleaved, 5, id="interleaved-5"),
        pytest.param(interleaved, 8, id="interleaved-8"),
        pytest.param(interleaved, 12, id="interleaved-12"),
        pytest.param(halves, 5, id="halves-5"),
        pytest.param(halves, 8, id="halves-8"),
    ],
)
def test_published_steps_against_themselves(published: Path, split: Split, rounds: int) -> None:
    result = against_itself(published, split, rounds)
    assert result.verdict in HARMLESS
    (contrast,) = result.contrasts
    assert all(found.estimate.verdict in HARMLESS for found in contrast.families)
    assert len(contrast.cells) > 90
    assert not any(trend.grows_as_models_shrink for trend in contrast.gradient)
