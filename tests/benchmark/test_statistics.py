# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimator: intervals, verdicts, precision, and the rounds that are still needed."""

from __future__ import annotations

import math
import random

import pytest

from benchmark.analysis import Estimate, Verdict
from benchmark.statistics import (
    INTERIM_ANALYSES,
    estimate,
    expected_rounds,
    is_precise,
    next_analysis,
    precision_of,
    trend,
)

JITTER = (0.001, -0.001, 0.0005, -0.0005, 0.001, -0.001, 0.0, 0.0005, -0.0005, 0.001, -0.001, 0.0)


def test_the_interval_is_students_t_at_a_quarter_of_alpha() -> None:
    # Mean 0.3, standard error 0.15811 / sqrt(5); t for 1 - 0.0125 / 2 and 4 degrees of freedom is 4.3147.
    value = estimate([0.1, 0.2, 0.3, 0.4, 0.5], 0.05)
    assert value.low is not None
    assert value.high is not None
    assert (math.log(value.low), math.log(value.high)) == pytest.approx((-0.00509, 0.60509), abs=1e-3)
    assert (value.confidence, value.rounds) == (0.9875, 5)


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_few_rounds_give_a_ratio_without_an_interval(rounds: int) -> None:
    value = estimate([0.5] * rounds, 0.05)
    assert value.ratio == pytest.approx(math.exp(0.5))
    assert value.rounds == rounds
    assert (value.low, value.high, value.verdict) == (None, None, Verdict.UNDECIDED)


@pytest.mark.parametrize("rounds", [5, 6, 7, 9, 13, 25])
def test_every_round_from_the_first_analysis_on_counts(rounds: int) -> None:
    d = [0.1] * (rounds - 1) + [0.4]
    assert estimate(d, 0.05).ratio == pytest.approx(math.exp(sum(d) / rounds))
    assert estimate(d, 0.05).rounds == rounds


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.5, Verdict.BEATS),
        (1 / 1.5, Verdict.WORSE),
        (1.01, Verdict.EQUIVALENT),
        (1 / 1.01, Verdict.EQUIVALENT),
        (1.05, Verdict.UNDECIDED),
        (1 / 1.05, Verdict.UNDECIDED),
    ],
)
def test_a_verdict_needs_the_whole_interval(ratio: float, verdict: Verdict) -> None:
    assert estimate([math.log(ratio) + jitter for jitter in JITTER], 0.05).verdict is verdict


def test_precision_is_half_the_interval_as_a_share() -> None:
    assert precision_of(Estimate(1.1, 5, Verdict.BEATS, 1.0, 1.21)) == pytest.approx(0.1)
    assert precision_of(Estimate(1.1, 3)) is None


@pytest.mark.parametrize(
    ("value", "precise"),
    [
        pytest.param(Estimate(2.0, 5, Verdict.BEATS, 1.9, 2.1), True, id="decided-and-narrow"),
        pytest.param(Estimate(2.0, 5, Verdict.BEATS, 1.5, 2.7), False, id="decided-and-wide"),
        pytest.param(Estimate(1.04, 5, Verdict.UNDECIDED, 1.0, 1.08), False, id="narrow-and-undecided"),
        pytest.param(Estimate(2.0, 3), False, id="no-interval"),
    ],
)
def test_what_is_precise(value: Estimate, precise: bool) -> None:
    assert is_precise(value, 0.10) is precise


def scattered(mean: float, deviation: float, rounds: int) -> list[float]:
    """Log ratios with exactly this mean and standard deviation."""
    raw = [(-1.0) ** number for number in range(rounds - rounds % 2)] + [0.0] * (rounds % 2)
    middle = sum(raw) / rounds
    actual = math.sqrt(sum((value - middle) ** 2 for value in raw) / (rounds - 1))
    return [mean + deviation * (value - middle) / actual for value in raw]


@pytest.mark.parametrize(
    ("mean", "deviation", "rounds", "expected"),
    [
        pytest.param(0.5, 0.047, 2, None, id="too-few-to-say"),
        pytest.param(0.5, 0.047, 3, 5, id="enough-at-the-first-analysis"),
        pytest.param(0.5, 0.083, 3, 12, id="noisy"),
        pytest.param(0.5, 0.047, 6, 6, id="precise-already"),
        pytest.param(0.5, 0.2, 5, 32, id="beyond-the-last-analysis"),
        pytest.param(0.5, 2.0, 5, None, id="hopeless"),
        pytest.param(math.log1p(0.05), 0.01, 5, None, id="on-the-margin"),
    ],
)
def test_the_rounds_that_are_expected(mean: float, deviation: float, rounds: int, expected: int | None) -> None:
    assert expected_rounds(scattered(mean, deviation, rounds), 0.05, 0.10) == expected


def test_after_the_last_analysis_there_is_none() -> None:
    assert [next_analysis(rounds) for rounds in (0, 5, 7, 20)] == [5, 8, 8, None]


FALLING = [(10.0 * size, math.log(2.0 - 0.1 * size)) for size in range(1, 10)]


@pytest.mark.parametrize(
    ("points", "grows"),
    [
        pytest.param(FALLING, True, id="small-models-gain-most"),
        pytest.param([(size, -gap) for size, gap in FALLING], True, id="with-the-sides-swapped"),
        pytest.param([(100 - size, gap) for size, gap in FALLING], False, id="large-models-gain-most"),
        pytest.param([(size, 0.1 + gap / 100) for size, gap in FALLING], False, id="opens-too-little"),
    ],
)
def test_a_gradient(points: list[tuple[float, float]], grows: bool) -> None:
    found = trend("half", "inference", points, 0.05)
    assert found is not None
    assert found.grows_as_models_shrink is grows


@pytest.mark.parametrize(
    "points", [FALLING[:4], [(10.0, gap) for _size, gap in FALLING], [(size, 0.1) for size, _gap in FALLING]]
)
def test_no_gradient_without_enough_cells_that_differ(points: list[tuple[float, float]]) -> None:
    assert trend("half", "inference", points, 0.05) is None


def stopped(effect: float, deviation: float, draw: random.Random) -> Estimate:
    d: list[float] = []
    for rounds in INTERIM_ANALYSES:
        d += [draw.gauss(effect, deviation) for _ in range(rounds - len(d))]
        value = estimate(d, 0.05)
        if is_precise(value, 0.10):
            break
    return value


@pytest.mark.parametrize("deviation", [0.01, 0.047, 0.12])
def test_stopping_early_makes_few_false_claims(deviation: float) -> None:
    draw = random.Random(4)
    found = [stopped(0.0, deviation, draw) for _ in range(400)]
    assert sum(value.verdict in (Verdict.BEATS, Verdict.WORSE) for value in found) <= 0.05 * 400
    assert sum((value.low or 9) <= 1 <= (value.high or 0) for value in found) >= 0.95 * 400


def test_an_effect_at_the_margin_is_seldom_called_beyond_it() -> None:
    draw = random.Random(4)
    found = [stopped(math.log1p(0.05), 0.02, draw).verdict for _ in range(400)]
    assert found.count(Verdict.BEATS) <= 0.05 * 400
