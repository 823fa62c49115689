# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and names as text. A value that is not known reads "~"."""

from __future__ import annotations

import math
from collections.abc import Callable

from .analysis import Estimate
from .pod.cells import Cell
from .results import Scalar

UNKNOWN = "~"
# Keys of an environment that are not set, rather than not known, if they have no value.
UNSET = ("quota_cpus", "omp_num_threads")


def number(value: float | None, suffix: str = "") -> str:
    """The number with three significant digits and no exponent, or "~" if it is None or not finite."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}{suffix}"


def share(value: float | None) -> str:
    """A share as a percentage; "~" if there is none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:.{0 if abs(value) >= 0.0995 else 1}f}"
    return f"{text.removesuffix('.0')}%"


def ratio_text(value: Estimate | None, digits: int = 3) -> str:
    """The ratio with `digits` decimals and its interval, if known: "1.63x [1.52, 1.75]"."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return f"{value.ratio:.{digits}f}x"
    return f"{value.ratio:.{digits}f}x [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def interval(value: Estimate | None) -> str:
    """Such as "[1.520, 1.750]"; "~" if there is none."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"[{value.low:.3f}, {value.high:.3f}]"


def scalar(key: str, value: Scalar) -> str:
    """A value of an environment; the key decides whether a missing value is not set or not known."""
    if value is None or value == "":
        return "not set" if key in UNSET else "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def detail(cell: Cell) -> str:
    """A cell without its model."""
    return f"{cell.precision} {cell.mode}" + (f", batch {cell.batch}" if cell.batch is not None else "")


def change(value: float | None, other: float | None, text: Callable[[float | None], str] = number) -> str:
    """Such as "3.10 → 2.90"; "~" if neither value is known."""
    return UNKNOWN if value is None and other is None else f"{text(value)} → {text(other)}"


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def gpu_minutes(minutes: float | None) -> str:
    """Such as "4 GPU-minutes"; empty if not known."""
    if minutes is None or not math.isfinite(minutes):
        return ""
    text = f"{minutes:.0f}" if minutes >= 1.95 else f"{minutes:.1f}" if minutes >= 0.1 else "under 0.1"
    return f"{text} GPU-minute{'' if text == '1.0' else 's'}"
