# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimator: from one log ratio a round to an interval, a verdict, and the rounds that are still needed. Pure.

The rules and their sources:

- Rounds of fresh processes are the replicates, never steps (Kalibera & Jones, "Rigorous benchmarking in reasonable
  time", 2013; pyperf). d of a round is the mean over the family's cells of ln(A's time / B's time), and the estimate is
  the mean of d over rounds with Student's t interval. Times are means, which contain the stalls of CFS throttling.
- Analyses at 5, 8, 12 and 20 rounds, each at alpha / 4 (Bonferroni): the four intervals hold together with 1 - alpha,
  whichever analysis the measurement stopped at. Fewer than 5 rounds give no interval (Student's t at 3 rounds is 5
  standard errors wide); from 5 on, every measured round counts.
- Margin X: BEATS if the interval is above ln(1 + X), WORSE if below -ln(1 + X), EQUIVALENT if between them (two
  one-sided tests; Schuirmann 1987), else UNDECIDED.
- Precision is the half-width of the interval of ln(ratio), as a share.

scipy is imported where it is used: it takes a second, and whoever only imports this module must not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from statistics import fmean, stdev

from .analysis import Estimate, Trend, Verdict

INTERIM_ANALYSES = (5, 8, 12, 20)
"""Numbers of rounds."""
ALPHA = 0.05
"""Level of all interim analyses together."""
MARGIN = 0.05
PRECISION = 0.10
CONTROL_MARGIN = 0.02
BEFORE_AFTER_MARGIN = 0.10
"""The least margin for halves that were measured one after the other: what changes between them counts too. In
simulation, a shift of 5 % between the halves made 139 of 400 runs without an effect claim one."""
FORECAST_ROUNDS = 3
MOST_ROUNDS = 100
"""A forecast of more rounds than these is none."""
GRADIENT_CELLS = 5
FALLS = -0.5
"""Spearman's rho from which a gap counts as growing while models shrink."""


def level() -> float:
    """The level of one analysis."""
    return ALPHA / len(INTERIM_ANALYSES)


def has_interval(rounds: int) -> bool:
    """Whether so many rounds give an interval."""
    return rounds >= INTERIM_ANALYSES[0]


def half_width(deviation: float, rounds: int) -> float:
    """Half the interval of a mean of `rounds` log ratios with this standard deviation."""
    from scipy.special import stdtrit  # the quantile of Student's t

    return float(stdtrit(rounds - 1, 1 - level() / 2)) * deviation / math.sqrt(rounds)


def claim(low: float, high: float, margin: float) -> Verdict:
    """What the interval [low, high] of ln(ratio) allows to say."""
    edge = math.log1p(margin)
    if low > edge:
        return Verdict.BEATS
    if high < -edge:
        return Verdict.WORSE
    return Verdict.EQUIVALENT if -edge < low and high < edge else Verdict.UNDECIDED


def estimate(d: Sequence[float], margin: float) -> Estimate:
    """The mean of the log ratios `d`, one for each round, with interval and verdict from the first analysis on.

    :param margin: the smallest difference worth a claim, as a share
    """
    mean, rounds = fmean(d), len(d)
    if not has_interval(rounds):
        return Estimate(math.exp(mean), rounds)
    half = half_width(stdev(d), rounds)
    low, high = mean - half, mean + half
    return Estimate(
        math.exp(mean), rounds, claim(low, high, margin), math.exp(low), math.exp(high), confidence=1 - level()
    )


def is_decided(value: Estimate) -> bool:
    """Whether the interval lies on one side of the margin's ends."""
    return value.verdict in (Verdict.BEATS, Verdict.WORSE, Verdict.EQUIVALENT)


def precision_of(value: Estimate) -> float | None:
    """The half-width of the interval as a share, such as 0.08; None without an interval."""
    if value.low is None or value.high is None:
        return None
    return math.expm1(math.log(value.high / value.low) / 2)


def is_precise(value: Estimate, precision: float) -> bool:
    """Whether the estimate is decided and its half-width is at most `precision`, a share."""
    found = precision_of(value)
    return is_decided(value) and found is not None and found <= precision


def expected_rounds(d: Sequence[float], margin: float, precision: float) -> int | None:
    """The rounds after which an estimate is expected to be decided and precise, if d goes on as so far.

    An analysis where one suffices, else more rounds than the last one. None before FORECAST_ROUNDS rounds, or if
    MOST_ROUNDS do not suffice. An estimate that is precise needs no further rounds.
    """
    if len(d) < FORECAST_ROUNDS:
        return None
    mean, deviation = fmean(d), stdev(d)

    def suffices(rounds: int) -> bool:
        half = half_width(deviation, rounds)
        decided = claim(mean - half, mean + half, margin) is not Verdict.UNDECIDED
        return decided and half <= math.log1p(precision)

    if has_interval(len(d)) and suffices(len(d)):
        return len(d)
    later: Iterator[int] = chain(INTERIM_ANALYSES, range(INTERIM_ANALYSES[-1] + 1, MOST_ROUNDS + 1))
    return next((rounds for rounds in later if rounds > len(d) and suffices(rounds)), None)


def next_analysis(rounds: int) -> int | None:
    """The first analysis after so many rounds; None after the last."""
    return next((analysis for analysis in INTERIM_ANALYSES if analysis > rounds), None)


def geometric_mean(values: Iterable[float]) -> float:
    """:raises statistics.StatisticsError: without values"""
    return math.exp(fmean(map(math.log, values)))


def trend(precision: str, mode: str, points: Sequence[tuple[float, float]], opening: float) -> Trend | None:
    """How the gap changes with the size of a model: a description, which proves nothing by itself.

    It has no p value, because the cells of one process are not independent. The gap is ln(ratio), with the sign that makes
    its sum positive, so that swapping A and B changes nothing.

    :param points: B's time in ms and ln(ratio) of each cell
    :param opening: how much the ratios of the outer thirds must differ, as a share
    :returns: None with fewer than GRADIENT_CELLS cells, or if all sizes or all gaps are equal
    """
    if len(points) < GRADIENT_CELLS:
        return None
    sizes, logs = zip(*sorted(points))
    if len(set(sizes)) == 1 or len(set(logs)) == 1:
        return None
    sign: Callable[[float], float] = float if sum(logs) >= 0 else lambda log: -log
    gaps = [sign(log) for log in logs]
    third = len(points) // 3
    small, large = fmean(logs[:third]), fmean(logs[-third:])
    rho = _spearman(sizes, gaps)
    opens = sign(small) - sign(large) > math.log1p(opening)
    return Trend(precision, mode, len(points), rho, math.exp(small), math.exp(large), opens and rho <= FALLS)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    from scipy import stats

    return float(stats.spearmanr(first, second).statistic)
