# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system counted in each arm, and where the time of a step went, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .. import terms
from ..analysis import ArmCell, Role
from ..experiment import ArmRole, Experiment, Load
from ..figures import UNKNOWN, finite, number, scalar, share
from ..pod.cells import Cell
from ..roles import COMPARED
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


def of_experiment(experiment: Experiment) -> Counted:
    """The settings and counters of each arm over its cells, and the parts of each cell's steps, for one tenant."""
    arms = _arms(experiment)
    return Counted(_signals(experiment, arms), _parts(experiment, arms))


def _arms(experiment: Experiment) -> dict[ArmRole, dict[Cell, ArmCell]]:
    """The cells of each arm, without those that are derived from others."""
    found: dict[ArmRole, dict[Cell, ArmCell]] = {role: {} for role in experiment.arms}
    for contrast in experiment.contrasts:
        for result in contrast.cells:
            for role, own in zip(COMPARED[contrast.question], (result.a, result.b)):
                if own is not None and contrast.load is Load.SOLO and result.role is not Role.DERIVED:
                    found[role][result.cell] = own
    return found


def _signals(experiment: Experiment, arms: Mapping[ArmRole, Mapping[Cell, ArmCell]]) -> Table:
    rows: list[tuple[str, ...]] = []
    for key, name in _SETTINGS:
        values = [experiment.environments.get(role, {}) for role in arms]
        if any(own.get(key) is not None for own in values):
            rows.append((name, *(scalar(key, own.get(key)) for own in values)))
    throttled = [_throttled(list(own.values())) for own in arms.values()]
    if any(throttled):
        rows.append(("CFS periods throttled", *(text or UNKNOWN for text in throttled)))
    for key, name, text in _SIGNALS:
        means = [_mean_rate(list(own.values()), key) for own in arms.values()]
        if any(mean is not None for mean in means):
            rows.append((name, *(UNKNOWN if mean is None else text(mean) for mean in means)))
    return Table(("", *(terms.arm(role, experiment.arms).short for role in arms)), tuple(rows))


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


def _parts(experiment: Experiment, arms: Mapping[ArmRole, Mapping[Cell, ArmCell]]) -> Table:
    rows = [
        (
            str(cell),
            terms.arm(role, experiment.arms).short,
            number(arms[role][cell].mean_ms),
            *(number(arms[role][cell].parts_ms.get(part)) for part in _PARTS),
        )
        for cell in dict.fromkeys(cell for own in arms.values() for cell in own)
        for role in arms
        if cell in arms[role] and any(finite(arms[role][cell].parts_ms.get(part)) for part in _PARTS)
    ]
    return without_empty_columns(Table(("cell", "arm", "mean", *_PARTS.values()), tuple(rows), 2), UNKNOWN)
