# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a finding, as plain data for programs: verdicts, ratios, causes, advice. `experiment` is the whole.

Times are ms, ratios are A's time over B's: above 1, B is faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .pod.cells import Cell
from .results import Scalar, Status


class Verdict(StrEnum):
    """What may be claimed about B against A."""

    BEATS = "BEATS"
    WORSE = "WORSE"
    EQUIVALENT = "EQUIVALENT"
    UNDECIDED = "UNDECIDED"
    INVALID = "INVALID"


class Role(StrEnum):
    """What a cell is used for. It follows from the cell's name (`pod.cells.family`), never from what was measured."""

    HEADLINE = "headline"
    """In the family that the verdict is about."""
    OTHER = ""
    DERIVED = "as the original times it"
    CONTROL = "control"


class GradientCode(StrEnum):
    """Whether the gap grows as models shrink."""

    NONE = "none"
    FLAT = "flat"
    GROWS = "grows"
    GROWS_BUT_GPU_DIFFERS = "grows_but_gpu_differs"


@dataclass(frozen=True)
class Estimate:
    """A's time over B's. The interval is None before the first interim analysis."""

    ratio: float
    rounds: int
    verdict: Verdict = Verdict.UNDECIDED
    low: float | None = None
    high: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class CellResult:
    """One common cell. `estimate` is None if it was not timed on both sides; then `status` and `reason` say why.

    A single cell has an interval and no verdict: claims are about families, so `estimate.verdict` is UNDECIDED. `status`
    is oom if either side ran out of memory, else skipped if either side skipped the cell. `a` and `b` are the cell in each
    arm over all its rounds, None where it was not tried.
    """

    cell: Cell
    estimate: Estimate | None = None
    mean_a_ms: float | None = None
    mean_b_ms: float | None = None
    role: Role = Role.OTHER
    status: Status = "ok"
    reason: str = ""
    a: ArmCell | None = None
    b: ArmCell | None = None


@dataclass(frozen=True)
class Trend:
    """Gap against size (B's time) within one precision and mode: a description, no proof.

    `rho` is Spearman's rank correlation. `small` and `large` are the ratios of the outer thirds.
    """

    precision: str
    mode: str
    cells: int
    rho: float
    small: float
    large: float
    grows_as_models_shrink: bool


class CauseCode(StrEnum):
    """Why a step took longer, ordered by remedy: the number of threads, exclusive CPUs, then the rest."""

    OVERSUBSCRIPTION = "oversubscription"
    THROTTLING = "throttling"
    CONTENTION = "contention"
    MIGRATION = "migration"
    NUMA = "numa"
    FREQUENCY = "frequency"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Cause:
    """One cause of a gap. `share` is the part of the gap that it explains, None if unknown.

    The shares of one gap add up to at most 1: a cause gets what those before it left.

    `evidence` holds the findings that prove it, the most important first.
    """

    code: CauseCode
    share: float | None
    evidence: tuple[str, ...]

    @property
    def text(self) -> str:
        return "; ".join(self.evidence)


@dataclass(frozen=True)
class RuledOut:
    """A cause that was measured and does not contribute; `text` says so with the numbers."""

    code: CauseCode
    text: str


@dataclass(frozen=True)
class Difference:
    """A key on which the environments differ.

    `by_design` if the experiment sets it. `red_flag` says why it makes the comparison doubtful, empty if it does not.
    """

    key: str
    a: Scalar
    b: Scalar
    by_design: bool = False
    red_flag: str = ""


@dataclass(frozen=True)
class ArmCell:
    """One cell in one arm, over all its rounds. Times are ms; what was not recorded is None or absent.

    `p99_ms` needs 299 steps. `launch_share` is the part of a step that is spent launching work from the CPU; the rest is
    waiting for data, copying and waiting for the GPU. `parts_ms` holds ms per step of data, h2d, enqueue and wait, and
    of stall: the time beyond p50 of the steps above p50 + 20 ms, which is contained in the other parts.
    `rates`: throttled_periods and periods (counts), wall_ms (sum), throttled_ms_per_s (summed over CPUs),
    run_delay_share and quiet_run_delay_share (of the launching thread's time; the second without throttled blocks),
    migrations_per_s, involuntary_switches_per_s, voluntary_switches_per_s, cpus_used, steal_cpus (taken by the
    hypervisor), gpu_slowed_share (of the blocks); medians over blocks: threads, canary_ms (the reference loop), cpu_mhz, gpu_sm_mhz,
    gpu_temperature, gpu_power_w, host_busy_cpus; mean over blocks: others_busy_cpus (kept busy by others than the
    container).
    """

    status: Status
    steps: int = 0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    images_per_s: float | None = None
    launch_share: float | None = None
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One arm's part in a gap. `where` names the arm in a sentence, such as "with exclusive CPUs"."""

    where: str
    cell: ArmCell
    environment: Mapping[str, Scalar]

    def rate(self, name: str) -> float | None:
        """One of ArmCell.rates; None if it was not recorded."""
        return self.cell.rates.get(name)

    def number(self, name: str) -> float | None:
        """A number of the environment; None if unknown, or if the arm's processes disagree."""
        value = self.environment.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def mean_ms(self) -> float:
        return self.cell.mean_ms or 0.0


@dataclass(frozen=True)
class Gap:
    """A slower and a faster arm. `fixed` is the slower arm's group with as many threads as CPUs, if it was measured."""

    slow: Arm
    fast: Arm
    fixed: Arm | None = None

    @property
    def ms(self) -> float:
        return self.slow.mean_ms - self.fast.mean_ms

    def share(self, slow_ms: float, fast_ms: float) -> float:
        """A difference in ms per step as a share of the gap, limited to 0 to 1."""
        return min(max((slow_ms - fast_ms) / self.ms, 0.0), 1.0)


class AdviceCode(StrEnum):
    """What to do."""

    ALIGN_CPU_SPEED = "align_cpu_speed"
    ALIGN_NUMA = "align_numa"
    KEEP_A = "keep_a"
    MEASURE_FIXED_THREADS = "measure_fixed_threads"
    MEASURE_FULL_NODE = "measure_full_node"
    MEASURE_MORE = "measure_more"
    MEASURE_ON_ONE_NODE = "measure_on_one_node"
    MEASURE_STEPS = "measure_steps"
    NO_CHANGE = "no_change"
    PIN = "pin"
    PIN_IF_BUSY = "pin_if_busy"
    QUOTA_REMAINS = "quota_remains"
    REPEAT = "repeat"
    SET_THREADS = "set_threads"
    TAKE_B = "take_b"


@dataclass(frozen=True)
class Advice:
    """What to do: `code` is for programs, `text` for people."""

    code: AdviceCode
    text: str
