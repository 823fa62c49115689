# SPDX-License-Identifier: GPL-3.0-or-later
"""The 2 x 2 of CPU placement and number of threads: what the threads gain alone, and what pinning adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import wording
from .analysis import Estimate, FactorArm, Factors, Verdict
from .compare import family_estimate, family_mean
from .pod.cells import Cell
from .results import ResultSet
from .roles import AUTO, split


def fixed_arm(arm: str, arms: Mapping[str, ResultSet]) -> str | None:
    """The arm of the same group with a fixed number of threads, to compare an auto arm with; None without one."""
    group, threads = split(arm)
    if threads != AUTO:
        return None
    return next((other for other in arms if split(other)[0] == group and split(other)[1].isdigit()), None)


def factors(
    sides: Mapping[str, ResultSet], a: str, b: str, family: Sequence[Cell], margin: float
) -> tuple[Factors, Estimate | None] | None:
    """Every arm against A over the family, and A's group with fixed threads over B: what pinning adds to the threads.

    None if no further arm has a thread setting. Cells that one arm could not time are left out for all arms.
    """
    arms = [arm for arm in dict.fromkeys([a, b, *sides]) if split(arm)[1]]
    if len(arms) < 3 or a not in arms or b not in arms:
        return None
    arms = [arm for arm in arms if any(_timed(sides[arm], cell) for cell in family)]
    cells = [cell for cell in family if all(_timed(sides[arm], cell) for arm in arms)]
    if not cells or a not in arms or b not in arms:
        return None
    rows = tuple(
        FactorArm(
            arm,
            *split(arm),
            None if arm == a else family_estimate(cells, sides[a], sides[arm], margin),
            family_mean(cells, sides[arm]),
        )
        for arm in arms
    )
    fixed = fixed_arm(a, {arm: sides[arm] for arm in arms})
    if fixed is None:
        return Factors(rows, None, wording.threads_not_set(split(a)[0])), None
    extra = None if fixed == b else family_estimate(cells, sides[fixed], sides[b], margin)
    share, sentence = _share({row.arm: row for row in rows}, a, b, fixed, extra, margin, len(cells))
    return Factors(rows, share, sentence), extra


def _timed(results: ResultSet, cell: Cell) -> bool:
    timings = results.timings(cell)
    return bool(timings) and all(timing.status == "ok" for timing in timings)


def _share(
    rows: Mapping[str, FactorArm], a: str, b: str, fixed: str, extra: Estimate | None, margin: float, cells: int
) -> tuple[float | None, str]:
    """(A - A with fixed threads) / (A - B) in ms, and the sentence; None if there is no gap to divide."""
    mean_a, mean_b, mean_n = rows[a].mean_ms, rows[b].mean_ms, rows[fixed].mean_ms
    if mean_a is None or mean_b is None or mean_n is None:
        return None, wording.threads_not_timed(a, fixed, b)
    times = wording.thread_times({a: mean_a, fixed: mean_n, b: mean_b}, cells)
    estimate = rows[b].estimate
    if estimate is None or estimate.verdict not in (Verdict.BEATS, Verdict.WORSE):
        return None, wording.no_gap_to_divide(a, b, margin, times)
    if estimate.verdict is Verdict.WORSE:
        return None, wording.no_gain_to_divide(a, b, times)
    share = (mean_a - mean_n) / (mean_a - mean_b)
    return share, wording.threads_part(a, b, fixed, split(fixed)[1], share, extra, times)
