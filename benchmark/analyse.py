# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Analysis of two arms with the help of the others. Pure functions from result sets to plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from . import wording
from .advice import advice
from .analysis import Analysis, BlockPoint, CellAnalysis, Verdict
from .causes import explain, ruled_out, unknown
from .compare import compare, family_cells
from .environments import differences, same
from .factors import factors, fixed_arm
from .gaps import family_gap
from .measures import arm_cell, held_minutes
from .pod.cells import Cell
from .results import InputError, ResultSet
from .statistics import MARGIN


def analyse(
    sides: Mapping[str, ResultSet], a: str, b: str, margin: float = MARGIN, allow_different: Iterable[str] = ()
) -> Analysis:
    """Compares arm `b` of `sides` with arm `a` and explains the gap, with the help of the other arms.

    :param sides: arm -> its results
    :param margin: the smallest difference worth a claim, as a share
    :param allow_different: keys of the environment that may differ (`validity.SETTINGS`)
    :raises InputError: if an arm is missing, or if the two have no cell in common
    """
    missing = [arm for arm in (a, b) if arm not in sides]
    if missing:
        raise InputError([f"no arm {arm!r}: expected one of {', '.join(sides)}. Name one of these." for arm in missing])
    comparison = compare(sides[a], sides[b], margin, allow_different=allow_different)
    decided = comparison.verdict in (Verdict.BEATS, Verdict.WORSE)
    family = family_cells(comparison)
    slower = a if comparison.family is None or comparison.family.ratio >= 1 else b
    fixed = fixed_arm(slower, sides)
    gap = family_gap(family, (sides[a], sides[b]), sides[fixed] if fixed is not None else None)
    causes = explain(gap) if gap is not None and decided else ()
    excluded = ruled_out(gap) if gap is not None and causes else ()
    decomposed, extra = factors(sides, a, b, family, comparison.margin) or (None, None)
    valid = comparison.verdict is not Verdict.INVALID
    return Analysis(
        comparison=comparison,
        differences=differences(sides[a], sides[b]),
        same=same(sides[a], sides[b]),
        cells=tuple(
            CellAnalysis(result, arm_cell(sides[a], result.cell), arm_cell(sides[b], result.cell))
            for result in comparison.cells
        ),
        causes=causes,
        ruled_out=excluded,
        factors=decomposed,
        blocks=_points(sides),
        why=tuple(
            wording.why(
                comparison,
                causes,
                excluded,
                unknown(gap) if gap is not None and valid else (),
                recorded=gap is None or bool(gap.slow.cell.rates or gap.slow.cell.parts_ms),
                factors=decomposed,
            )
        ),
        advice=tuple(advice(comparison, causes, gap, sides[a], sides[b], decomposed, extra)),
        gpu_minutes=held_minutes(sides.values()),
    )


def _points(sides: Mapping[str, ResultSet]) -> tuple[BlockPoint, ...]:
    """Every measured block of every arm by its start. Derived cells are left out: they have the same blocks."""
    found: list[tuple[str, int, Cell, float, float]] = []
    for arm, results in sides.items():
        for process in results.processes:
            for cell, timing in process.timings.items():
                if not timing.derived:
                    found += [
                        (arm, process.round, cell, block.started, fmean(block.iter_ms))
                        for block in timing.blocks
                        if block.started is not None
                    ]
    means: dict[Cell, list[float]] = {}
    for _arm, _round, cell, _started, mean in found:
        means.setdefault(cell, []).append(mean)
    return tuple(
        BlockPoint(arm, number, cell, started, mean / fmean(means[cell]))
        for arm, number, cell, started, mean in sorted(found, key=lambda point: point[3])
    )
