# SPDX-License-Identifier: GPL-3.0-or-later
"""The 2 x 2 of CPU placement and thread count: how much of the gap the thread count closes alone, and what pinning adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmark.analysis import FactorArm, Factors
from benchmark.compare import Estimate, family_estimate, family_mean, ratio_text
from benchmark.results import Cell, ResultSet

AUTO = "auto"


def split(arm: str) -> tuple[str, str]:
    """Group and threads of an arm «group-threads»; threads is «auto», a number, or empty where the name has neither."""
    group, dash, threads = arm.rpartition("-")
    return (group, threads) if dash and (threads == AUTO or threads.isdigit()) else (arm, "")


def fixed_arm(arm: str, arms: Mapping[str, ResultSet]) -> str | None:
    """The arm of the same group whose threads are set to a number, which an «auto» arm is held against; None without one."""
    group, threads = split(arm)
    if threads != AUTO:
        return None
    return next((other for other in arms if split(other)[0] == group and split(other)[1].isdigit()), None)


def factors(
    sides: Mapping[str, ResultSet], a: str, b: str, family: Sequence[Cell], margin: float
) -> tuple[Factors, Estimate | None] | None:
    """Every arm against A over the family, and A's group with fixed threads over B: what pinning adds to the thread count.

    None where no further arm has a thread setting. Cells that an arm could not time are left out for all arms.
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
        return Factors(rows, None, f"No arm of {split(a)[0]} has its threads set: their part cannot be told."), None
    extra = None if fixed == b else family_estimate(cells, sides[fixed], sides[b], margin)
    share, sentence = _share({row.arm: row for row in rows}, a, b, fixed, extra, margin, len(cells))
    return Factors(rows, share, sentence), extra


def _timed(results: ResultSet, cell: Cell) -> bool:
    timings = results.timings(cell)
    return bool(timings) and all(timing.status == "ok" for timing in timings)


def _share(
    rows: Mapping[str, FactorArm], a: str, b: str, fixed: str, extra: Estimate | None, margin: float, cells: int
) -> tuple[float | None, str]:
    """(A - A with fixed threads) / (A - B) in ms, and the sentence; None where there is no gap to divide."""
    mean_a, mean_b, mean_n = rows[a].mean_ms, rows[b].mean_ms, rows[fixed].mean_ms
    if mean_a is None or mean_b is None or mean_n is None:
        return None, f"{a}, {b} and {fixed} were not timed alike: the part of the threads cannot be told."
    basis = f"geometric mean of {cells} cell{'' if cells == 1 else 's'}"
    times = f"{a} {mean_a:.2f} ms, {fixed} {mean_n:.2f} ms, {b} {mean_b:.2f} ms a step, {basis}"
    if abs(math.log(mean_a / mean_b)) <= math.log1p(margin):
        return None, f"{a} and {b} do not differ by more than {margin:.1%}: there is no gap to divide ({times})."
    if mean_a < mean_b:
        return None, f"{b} is slower than {a}: there is no gain to divide ({times})."
    share = (mean_a - mean_n) / (mean_a - mean_b)
    threads = split(fixed)[1]
    adds = f"; {fixed} takes {ratio_text(extra)} the time of {b}" if extra is not None else ""
    if share < 0:
        return share, f"{threads} threads do not close the gap, they widen it by {-share:.0%} ({times}{adds})."
    if share > 1:
        return share, f"{threads} threads alone do more than {b}: {share:.0%} of its gain ({times}{adds})."
    return share, f"{threads} threads alone close {share:.0%} of the gap between {a} and {b} ({times}{adds})."
