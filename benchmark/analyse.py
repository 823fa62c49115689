# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Analysis of two arms and their neighbours. Pure functions: result sets in, plain data out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmark.advice import advice
from benchmark.analysis import Analysis, ArmCell, BlockPoint, Cause, CauseCode, CellAnalysis
from benchmark.causes import HALF, NAMES, Arm, Gap, acquitted, explain, unknown
from benchmark.compare import (
    MARGIN,
    CellResult,
    Comparison,
    Verdict,
    compare,
    family_cells,
    family_mean,
    ratio_text,
)
from benchmark.environments import differences, same
from benchmark.factors import factors, fixed_arm
from benchmark.measures import arm_cell, rates
from benchmark.results import Cell, InputError, ResultSet


def analyse(sides: Mapping[str, ResultSet], a: str, b: str, margin: float = MARGIN) -> Analysis:
    """Compares arm `b` with arm `a` of `sides`, by their keys there, and says why; the other arms explain the gap.

    Raises InputError where the two have no cell in common.
    """
    missing = [arm for arm in (a, b) if arm not in sides]
    if missing:
        raise InputError([f"no arm {arm!r}: expected one of {', '.join(sides)}. Name one of these." for arm in missing])
    comparison = compare(sides[a], sides[b], margin)
    trouble = _gpu_trouble(comparison)
    family = family_cells(comparison)
    cells = tuple(_cell(result, sides, a, b, margin, trouble) for result in comparison.cells)
    gap = _family_gap(family, sides, a, b, comparison)
    causes = explain(gap, trouble) if gap is not None and _worth_explaining(comparison, margin) else ()
    decomposed = factors(sides, a, b, family, margin)
    found = decomposed[0] if decomposed else None
    return Analysis(
        comparison,
        differences(sides[a], sides[b]),
        same(sides[a], sides[b]),
        cells,
        causes,
        found,
        _points(sides),
        tuple(_why(comparison, causes, gap, found.sentence if found else "")),
        tuple(advice(comparison, causes, gap, sides[a], sides[b], found, decomposed[1] if decomposed else None)),
        _gpu_minutes(sides),
    )


def _gpu_trouble(comparison: Comparison) -> str:
    """Why the GPU sides are no equals, from the verdict; empty if they are, or if nothing is known against it."""
    if comparison.verdict is not Verdict.INVALID:
        return ""
    control = comparison.control
    if control is not None and control.verdict in (Verdict.BEATS, Verdict.WORSE):
        return f"the negative control differs by {ratio_text(control)}, which no CPU explains"
    return comparison.sentence.removeprefix("INVALID: ").partition(": ")[0]


def _worth_explaining(comparison: Comparison, margin: float) -> bool:
    family = comparison.family
    return family is not None and (
        comparison.verdict is Verdict.INVALID or abs(math.log(family.ratio)) > math.log1p(margin)
    )


def _cell(
    result: CellResult, sides: Mapping[str, ResultSet], a: str, b: str, margin: float, trouble: str
) -> CellAnalysis:
    cell = result.cell
    cell_a, cell_b = arm_cell(sides[a], cell), arm_cell(sides[b], cell)
    causes: tuple[Cause, ...] = ()
    beyond = result.estimate is not None and abs(math.log(result.estimate.ratio)) > math.log1p(margin)
    if beyond and result.role != "control" and cell_a is not None and cell_b is not None:
        fixed = fixed_arm(_slower(a, b, result.estimate.ratio if result.estimate else 1.0), sides)
        fixed_cell = arm_cell(sides[fixed], cell) if fixed else None
        gap = _gap((a, cell_a), (b, cell_b), (fixed, fixed_cell) if fixed and fixed_cell else None, sides)
        causes = explain(gap, trouble)
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
    """The family as one cell: its geometric mean, the parts as mean shares of a step, the counters of all its blocks."""
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


def _why(comparison: Comparison, causes: Sequence[Cause], gap: Gap | None, factors_sentence: str) -> list[str]:
    """The causes of the family's gap in sentences, then what was excluded, what is unknown, and the thread count's part."""
    sentences = []
    if causes:
        main, *rest = causes
        sentences.append(_main_sentence(main, rest))
        sentences += [
            f"Also {_named(cause)}: {cause.evidence}." for cause in rest if cause.code is not CauseCode.UNEXPLAINED
        ]
        sentences += [f"Unexplained: {c.evidence}." for c in rest if c.code is CauseCode.UNEXPLAINED]
    elif gap is not None and not (gap.slow.cell.rates or gap.slow.cell.parts_ms):
        sentences.append(comparison.gradient_conclusion)
    elif comparison.family is not None:
        sentences.append(
            f"The family's ratio of {comparison.family.ratio:.3f} lies within the margin of {comparison.margin:.1%}: "
            f"there is no gap to explain."
        )
    if gap is not None and comparison.verdict is not Verdict.INVALID:
        if causes:
            sentences += acquitted(gap)
        sentences += unknown(gap)
    if factors_sentence:
        sentences.append(factors_sentence)
    return sentences


def _main_sentence(main: Cause, rest: Sequence[Cause]) -> str:
    if main.code is CauseCode.UNEXPLAINED:
        known = "No known cause" if not rest else "None of the causes found"
        return f"{known} explains half of the gap: {main.evidence}."
    if main.share is None:
        return f"Main cause: {NAMES[main.code]}: {main.evidence}."
    return f"Main cause: {_named(main)}: {main.evidence}."


def _named(cause: Cause) -> str:
    """The cause with its share; shares by stalls and run delay are lower bounds."""
    if cause.share is None:
        return f"{NAMES[cause.code]} (part of the gap unknown)"
    least = "at least " if cause.code is CauseCode.THROTTLING and cause.share < 1 else ""
    half = "" if cause.share >= HALF else " only"
    return f"{NAMES[cause.code]} ({least}{cause.share:.0%} of the gap{half})"


def _points(sides: Mapping[str, ResultSet]) -> tuple[BlockPoint, ...]:
    """Every measured block of every arm in the order of their start; derived cells would show the same blocks twice."""
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
    for _, _, cell, _, mean in found:
        means.setdefault(cell, []).append(mean)
    return tuple(
        BlockPoint(arm, number, cell, started, mean / fmean(means[cell]))
        for arm, number, cell, started, mean in sorted(found, key=lambda point: point[3])
    )


def _gpu_minutes(sides: Mapping[str, ResultSet]) -> float | None:
    """Time in blocks over all arms on a GPU; None where no arm recorded blocks on one."""
    total = 0.0
    for results in sides.values():
        if not results.environment.get("gpu") or results.environment.get("device") == "cpu":
            continue
        for process in results.processes:
            for timing in process.timings.values():
                if not timing.derived:
                    total += sum(block.counters.get("wall_ms", math.fsum(block.iter_ms)) for block in timing.blocks)
    return total / 60_000 if total else None
