# SPDX-License-Identifier: GPL-3.0-or-later
"""The gap between two arms over a family of cells, taken as one cell, for the causes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from .analysis import Arm, ArmCell, Gap
from .experiment import Load
from .measures import arm_cell, rates
from .pod.cells import Cell
from .results import ResultSet
from .statistics import geometric_mean


def family_gap(
    cells: Sequence[Cell], arms: tuple[ResultSet, ResultSet], fixed: ResultSet | None, load: Load = Load.SOLO
) -> Gap | None:
    """The slower and the faster arm over the family; None if it was not timed on both.

    :param fixed: the slower arm's group with as many threads as CPUs, if it was measured
    """
    a, b = (_arm(cells, results, load) for results in arms)
    if a is None or b is None:
        return None
    slow, fast = (a, b) if a.mean_ms >= b.mean_ms else (b, a)
    return Gap(slow, fast, _arm(cells, fixed, load) if fixed is not None else None)


def _arm(cells: Sequence[Cell], results: ResultSet, load: Load) -> Arm | None:
    pooled = _pooled(cells, results, load)
    return Arm(results.where, pooled, results.environment) if pooled is not None else None


def _pooled(cells: Sequence[Cell], results: ResultSet, load: Load) -> ArmCell | None:
    """The family as one cell: the geometric mean of a tenant's mean steps in ms, and all blocks' counters.

    The parts are mean shares of a step.
    """
    found = [arm for cell in cells if (arm := arm_cell(results, cell, load)) is not None and arm.mean_ms]
    if not found or len(found) < len(cells):
        return None
    mean = geometric_mean(arm.mean_ms or 1.0 for arm in found)
    names = set.intersection(*(set(arm.parts_ms) for arm in found))
    blocks = [
        block
        for process in results.processes
        for cell in cells
        if process.load == load and cell in process.timings
        for block in process.timings[cell].blocks
    ]
    return ArmCell(
        "ok",
        sum(arm.steps for arm in found),
        mean,
        parts_ms={name: mean * fmean(arm.parts_ms[name] / (arm.mean_ms or 1.0) for arm in found) for name in names},
        rates=rates(blocks),
    )
