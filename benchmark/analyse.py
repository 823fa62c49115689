# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Analysis of two arms with the help of the others. Pure functions from result sets to plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from . import wording
from .advice import advice
from .analysis import (
    Analysis,
    Arm,
    ArmCell,
    BlockPoint,
    Cause,
    CellAnalysis,
    CellResult,
    Comparison,
    Gap,
    Role,
    Verdict,
)
from .causes import explain, ruled_out, unknown
from .compare import MARGIN, compare, family_cells, family_mean
from .environments import differences, same
from .factors import factors, fixed_arm
from .measures import arm_cell, rates
from .pod.cells import Cell
from .results import InputError, ResultSet


def analyse(sides: Mapping[str, ResultSet], a: str, b: str, margin: float = MARGIN) -> Analysis:
    """Compares arm `b` of `sides` with arm `a` and explains the gap, with the help of the other arms.

    :param sides: arm -> its results
    :param margin: the smallest difference worth a claim, as a share
    :raises InputError: if an arm is missing, or if the two have no cell in common
    """
    missing = [arm for arm in (a, b) if arm not in sides]
    if missing:
        raise InputError([f"no arm {arm!r}: expected one of {', '.join(sides)}. Name one of these." for arm in missing])
    comparison = compare(sides[a], sides[b], margin)
    valid = comparison.verdict is not Verdict.INVALID
    gpu_evidence = "" if valid else wording.gpu_evidence(comparison)
    family = family_cells(comparison)
    gap = _family_gap(family, sides, a, b, comparison)
    causes = explain(gap, gpu_evidence) if gap is not None and _worth_explaining(comparison, margin) else ()
    excluded = ruled_out(gap) if gap is not None and valid and causes else ()
    decomposed, extra = factors(sides, a, b, family, margin) or (None, None)
    return Analysis(
        comparison=comparison,
        differences=differences(sides[a], sides[b]),
        same=same(sides[a], sides[b]),
        cells=tuple(_cell(result, sides, a, b, margin, gpu_evidence) for result in comparison.cells),
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
        gpu_minutes=_gpu_minutes(sides),
    )


def _worth_explaining(comparison: Comparison, margin: float) -> bool:
    family = comparison.family
    return family is not None and (
        comparison.verdict is Verdict.INVALID or abs(math.log(family.ratio)) > math.log1p(margin)
    )


def _cell(
    result: CellResult, sides: Mapping[str, ResultSet], a: str, b: str, margin: float, gpu_evidence: str
) -> CellAnalysis:
    cell = result.cell
    cell_a, cell_b = arm_cell(sides[a], cell), arm_cell(sides[b], cell)
    causes: tuple[Cause, ...] = ()
    beyond = result.estimate is not None and abs(math.log(result.estimate.ratio)) > math.log1p(margin)
    if beyond and result.role is not Role.CONTROL and cell_a is not None and cell_b is not None:
        fixed = fixed_arm(_slower(a, b, result.estimate.ratio if result.estimate else 1.0), sides)
        fixed_cell = arm_cell(sides[fixed], cell) if fixed else None
        gap = _gap((a, cell_a), (b, cell_b), (fixed, fixed_cell) if fixed and fixed_cell else None, sides)
        causes = explain(gap, gpu_evidence)
    return CellAnalysis(result, cell_a, cell_b, causes)


def _slower(a: str, b: str, ratio: float) -> str:
    return a if ratio >= 1 else b


def _gap(
    a: tuple[str, ArmCell], b: tuple[str, ArmCell], fixed: tuple[str, ArmCell] | None, sides: Mapping[str, ResultSet]
) -> Gap:
    first, second = (Arm(sides[name].label, cell, sides[name].environment) for name, cell in (a, b))
    slow, fast = (first, second) if first.mean_ms >= second.mean_ms else (second, first)
    third = Arm(sides[fixed[0]].label, fixed[1], sides[fixed[0]].environment) if fixed else None
    return Gap(slow, fast, third)


def _family_gap(
    family: Sequence[Cell], sides: Mapping[str, ResultSet], a: str, b: str, comparison: Comparison
) -> Gap | None:
    pooled_a, pooled_b = _pooled(family, sides[a]), _pooled(family, sides[b])
    if pooled_a is None or pooled_b is None:
        return None
    fixed = fixed_arm(_slower(a, b, comparison.family.ratio if comparison.family else 1.0), sides)
    pooled_fixed = _pooled(family, sides[fixed]) if fixed else None
    return _gap((a, pooled_a), (b, pooled_b), (fixed, pooled_fixed) if fixed and pooled_fixed else None, sides)


def _pooled(family: Sequence[Cell], results: ResultSet) -> ArmCell | None:
    """The family as one cell: its geometric mean in ms, the parts as mean shares of a step, all blocks' counters."""
    mean = family_mean(family, results)
    cells = [arm for cell in family if (arm := arm_cell(results, cell)) is not None and arm.mean_ms]
    if mean is None or len(cells) < len(family):
        return None
    names = set.intersection(*(set(arm.parts_ms) for arm in cells))
    blocks = [block for cell in family for timing in results.timings(cell) for block in timing.blocks]
    return ArmCell(
        "ok",
        sum(arm.steps for arm in cells),
        mean,
        parts_ms={name: mean * fmean(arm.parts_ms[name] / (arm.mean_ms or 1.0) for arm in cells) for name in names},
        rates=rates(blocks),
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


def _gpu_minutes(sides: Mapping[str, ResultSet]) -> float | None:
    """Minutes in blocks over all arms on a GPU; None if no arm recorded blocks on one."""
    total = 0.0
    for results in sides.values():
        if not results.environment.get("gpu") or results.environment.get("device") == "cpu":
            continue
        for process in results.processes:
            for timing in process.timings.values():
                if not timing.derived:
                    total += sum(block.counters.get("wall_ms", math.fsum(block.iter_ms)) for block in timing.blocks)
    return total / 60_000 if total else None
