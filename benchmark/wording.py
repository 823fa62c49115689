# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and verdicts in words, the same in every form of the report. What is not known reads «~»."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

from benchmark.analysis import Analysis
from benchmark.compare import Estimate, Verdict
from benchmark.results import Cell, Scalar

UNKNOWN = "~"
# Keys of an environment for which nothing means: there is none.
UNSET = ("quota_cpus", "omp_num_threads")


def number(value: float | None, suffix: str = "") -> str:
    """Three significant digits without an exponent; «~» where there is no number."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}{suffix}"


def share(value: float | None) -> str:
    """A share as a percentage; «~» where there is none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:.{0 if abs(value) >= 0.0995 else 1}f}"
    return f"{text.removesuffix('.0')}%"


def count(value: int, noun: str) -> str:
    """«1 round», «3 rounds»."""
    return f"{value} {noun}{'' if value == 1 else 's'}"


def ratio_text(value: Estimate | None, digits: int) -> str:
    """«1.63x [1.52, 1.75]» with `digits` decimals, or the bare ratio where there is no interval."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return f"{value.ratio:.{digits}f}x"
    return f"{value.ratio:.{digits}f}x [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def interval(value: Estimate | None) -> str:
    """«[1.520, 1.750]»; «~» where there is none."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"[{value.low:.3f}, {value.high:.3f}]"


def scalar(key: str, value: Scalar) -> str:
    """A value of an environment; what is missing is either not set or not known, by its key."""
    if value is None or value == "":
        return "not set" if key in UNSET else "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def detail(cell: Cell) -> str:
    """A cell without its model."""
    return f"{cell.precision} {cell.mode}" + (f", batch {cell.batch}" if cell.batch is not None else "")


def change(value: float | None, other: float | None, text: Callable[[float | None], str] = number) -> str:
    """«before → after» of one quantity; «~» where neither is known."""
    return UNKNOWN if value is None and other is None else f"{text(value)} → {text(other)}"


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def headline(analysis: Analysis) -> str:
    """The verdict as a sentence for someone who reads nothing else."""
    comparison = analysis.comparison
    a, b, family = comparison.label_a, comparison.label_b, comparison.family
    if comparison.verdict is Verdict.INVALID or family is None or family.low is None or family.high is None:
        return comparison.sentence.removeprefix(f"{comparison.verdict}: ")
    on = f"on {comparison.family_basis}{_others(analysis)}"
    control = f"; control {comparison.control.ratio:.2f}x" if comparison.control else ""
    margin = share(comparison.margin)
    if comparison.verdict is Verdict.BEATS:
        return f"{b} is {ratio_text(family, 2)} faster than {a} {on}{control}."
    if comparison.verdict is Verdict.WORSE:
        turned = f"{1 / family.ratio:.2f}x [{1 / family.high:.2f}, {1 / family.low:.2f}]"
        return f"{b} is {turned} slower than {a} {on}{control}."
    if comparison.verdict is Verdict.EQUIVALENT:
        return f"{b} and {a} are equal within {margin}: {ratio_text(family, 3)} {on}{control}."
    return f"{b} cannot be told from {a} yet with a margin of {margin}: {ratio_text(family, 3)} {on}{control}."


def effort(analysis: Analysis) -> str:
    """«3 rounds, 4 GPU-minutes», as far as it is known."""
    family = analysis.comparison.family
    rounds = count(family.rounds, "round") if family else ""
    return ", ".join(part for part in (rounds, gpu_time(analysis)) if part)


def gpu_time(analysis: Analysis) -> str:
    """«4 GPU-minutes»; empty where it is not known."""
    minutes = analysis.gpu_minutes
    if minutes is None or not math.isfinite(minutes):
        return ""
    text = f"{minutes:.0f}" if minutes >= 1.95 else f"{minutes:.1f}" if minutes >= 0.1 else "under 0.1"
    return f"{text} GPU-minute{'' if text == '1.0' else 's'}"


def _others(analysis: Analysis) -> str:
    """The geometric mean over the cells beside the family and the controls, turned as the verdict turns its ratio."""
    cells = analysis.comparison.cells
    if not any(cell.role == "launch-bound" for cell in cells):
        return ""
    logs = [math.log(cell.estimate.ratio) for cell in cells if cell.estimate and not cell.role]
    if not logs:
        return ""
    others = "the other one" if len(logs) == 1 else f"the {len(logs)} others"
    turn = -1 if analysis.comparison.verdict is Verdict.WORSE else 1
    return f", {math.exp(turn * fmean(logs)):.2f}x on {others}"
