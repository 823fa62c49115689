# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a report says about two arms and their neighbours, as plain data: what was measured, what differed, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from benchmark.compare import CellResult, Comparison, Estimate
from benchmark.results import Cell, Scalar, Status


class CauseCode(StrEnum):
    """Why a step took longer, in the order in which causes are tried."""

    GPU = "gpu"
    THROTTLING = "throttling"
    OVERSUBSCRIPTION = "oversubscription"
    CONTENTION = "contention"
    MIGRATION = "migration"
    NUMA = "numa"
    FREQUENCY = "frequency"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Cause:
    """One cause of a gap; `share` is the part of the gap that it explains (0 to 1), None where that cannot be told."""

    code: CauseCode
    share: float | None
    evidence: str


@dataclass(frozen=True)
class Difference:
    """One key of the environments; `by_design` if the experiment sets it, `red_flag` says why it spoils the comparison."""

    key: str
    a: Scalar
    b: Scalar
    by_design: bool = False
    red_flag: str = ""


@dataclass(frozen=True)
class ArmCell:
    """One cell in one arm, over all its rounds. Times are ms; what was not recorded is None or absent.

    `p99_ms` needs 299 steps. `parts_ms` holds ms per step of data, h2d, enqueue and wait, and stall: what the steps above
    p50 + 20 ms take beyond p50, which lies within the other parts.
    `rates`: throttled_periods and periods (counts), wall_ms (sum), throttled_ms_per_s (a sum over CPUs), run_delay_share
    and quiet_run_delay_share (of the launching thread's time; the second without throttled blocks), migrations_per_s,
    involuntary_switches_per_s, voluntary_switches_per_s, cpus_used, steal_ms_per_s, gpu_slowed_share (of the blocks);
    medians over blocks: threads, canary_ms, cpu_mhz, gpu_sm_mhz, gpu_temperature, gpu_power_w, host_busy_cpus.
    """

    status: Status
    steps: int = 0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    images_per_s: float | None = None
    launch_bound_index: float | None = None
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CellAnalysis:
    """One cell: the comparison's result, both arms, and the causes of its gap, the main one first."""

    result: CellResult
    a: ArmCell | None
    b: ArmCell | None
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True)
class FactorArm:
    """One arm of {policy} x {threads}: its family estimate against the reference (None for the reference itself)."""

    arm: str
    group: str
    threads: str
    estimate: Estimate | None
    mean_ms: float | None


@dataclass(frozen=True)
class Factors:
    """The 2 x 2 decomposition. `share_by_threads`: the part of the gap from reference to B that threads = N closes alone.

    Below 0 it widens the gap, above 1 it does more than B; None where there is no gap or no such arm.
    """

    arms: tuple[FactorArm, ...]
    share_by_threads: float | None
    sentence: str


@dataclass(frozen=True)
class BlockPoint:
    """One block in run order: `started` in seconds since 1970, the mean step relative to the cell's mean over all arms."""

    arm: str
    round: int
    cell: Cell
    started: float
    relative: float


@dataclass(frozen=True)
class Analysis:
    """The whole report. `why` and `advice` are sentences; `gpu_minutes` is the time in blocks over all arms."""

    comparison: Comparison
    differences: tuple[Difference, ...]
    same: Mapping[str, Scalar]
    cells: tuple[CellAnalysis, ...]
    causes: tuple[Cause, ...]
    factors: Factors | None
    blocks: tuple[BlockPoint, ...]
    why: tuple[str, ...]
    advice: tuple[str, ...]
    gpu_minutes: float | None
