# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system counted on two sides, and where the time of a step went, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..analysis import Analysis, ArmCell, Role
from ..figures import UNKNOWN, finite, number, scalar, share
from ..results import Scalar
from .table import Table, without_empty_columns

_PARTS = {
    "data": "waiting for data",
    "h2d": "copy to the GPU",
    "enqueue": "launching",
    "wait": "waiting for the GPU",
    "stall": "stalls, within the others",
}
_SETTINGS = (
    ("threads", "torch threads"),
    ("cpus_allowed", "CPUs allowed"),
    ("quota_cpus", "CPU quota, in CPUs"),
    ("cpus_allowed_list", "which CPUs"),
    ("omp_num_threads", "OMP_NUM_THREADS"),
    ("governor", "frequency governor"),
)
_SIGNALS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("throttled_ms_per_s", "CPU time lost to throttling, ms per second", number),
    ("run_delay_share", "launching thread ready, but waiting for a CPU", share),
    ("migrations_per_s", "moves of the launching thread between CPUs, per second", number),
    ("involuntary_switches_per_s", "preemptions of the launching thread, per second", number),
    ("threads", "threads in the process", number),
    ("host_busy_cpus", "busy CPUs on the host", number),
    ("canary_ms", "reference loop (fixed CPU work), ms", number),
    ("cpu_mhz", "CPU clock, MHz", number),
    ("gpu_sm_mhz", "GPU clock, MHz", number),
    ("gpu_temperature", "GPU temperature, °C", number),
)


@dataclass(frozen=True)
class Counted:
    """Tables without rows where nothing was recorded."""

    signals: Table
    parts: Table


def of_analysis(analysis: Analysis) -> Counted:
    """The settings and counters of both sides over their cells, and the parts of each cell's steps."""
    return Counted(_signals(analysis), _parts(analysis))


def _signals(analysis: Analysis) -> Table:
    entries = [entry for entry in analysis.cells if entry.result.role is not Role.DERIVED]
    arms = [[e.a for e in entries if e.a is not None], [e.b for e in entries if e.b is not None]]
    rows: list[tuple[str, ...]] = []
    for key, name in _SETTINGS:
        found = _both(analysis, key)
        if found is not None:
            rows.append((name, *(scalar(key, value) for value in found)))
    throttled = [_throttled(side) for side in arms]
    if any(throttled):
        rows.append(("CFS periods throttled", throttled[0] or UNKNOWN, throttled[1] or UNKNOWN))
    for key, name, text in _SIGNALS:
        means = [_mean_rate(side, key) for side in arms]
        if any(mean is not None for mean in means):
            rows.append((name, *(UNKNOWN if mean is None else text(mean) for mean in means)))
    return Table(("", "A", "B"), tuple(rows))


def _both(analysis: Analysis, key: str) -> tuple[Scalar, Scalar] | None:
    """The values of a key in both environments; None if neither has it."""
    if key in analysis.same:
        value = analysis.same[key]
        return None if value is None else (value, value)
    return next(((item.a, item.b) for item in analysis.differences if item.key == key), None)


def _throttled(arms: Sequence[ArmCell]) -> str:
    known = [
        arm.rates for arm in arms if finite(arm.rates.get("periods")) and finite(arm.rates.get("throttled_periods"))
    ]
    periods = sum(rates["periods"] for rates in known)
    if not known:
        return ""
    throttled = sum(rates["throttled_periods"] for rates in known)
    if periods == 0:
        return "no quota"
    return f"{number(throttled)} of {number(periods)} ({share(throttled / periods)})"


def _mean_rate(arms: Sequence[ArmCell], key: str) -> float | None:
    known = [value for arm in arms if (value := arm.rates.get(key)) is not None and finite(value)]
    return fmean(known) if known else None


def _parts(analysis: Analysis) -> Table:
    rows = []
    for entry in analysis.cells:
        for name, arm in (("A", entry.a), ("B", entry.b)):
            if arm is not None and any(finite(arm.parts_ms.get(part)) for part in _PARTS):
                texts = [number(arm.parts_ms.get(part)) for part in _PARTS]
                rows.append((str(entry.result.cell), name, number(arm.mean_ms), *texts))
    return without_empty_columns(Table(("cell", "side", "mean", *_PARTS.values()), tuple(rows), 2), UNKNOWN)
