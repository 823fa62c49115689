# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment found, as plain data: which remedy helps on this node, by how much, and how sure that is.

An experiment measures up to three arms, interleaved in rounds, under one or more loads. Ratios are the time of the
earlier arm over that of the later one: above 1, the later one is faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .analysis import Advice, Cause, CellResult, Difference, Estimate, GradientCode, RuledOut, Trend, Verdict
from .pod.cells import Cell
from .results import Note, Scalar
from .statistics import is_precise


class ArmRole(StrEnum):
    """What an arm stands for, whatever its group is called (quota, none, fractional; cpuset, static, integer)."""

    TODAY = "today"
    """A CPU limit, and as many threads as PyTorch finds: nothing has been tuned."""
    THREADS = "threads"
    """The same CPU limit, and as many threads as it allows (OMP_NUM_THREADS)."""
    EXCLUSIVE = "exclusive"
    """Exclusive CPUs, and as many threads."""
    A = "a"
    """The reference of two sides that stand for nothing of the above, such as two platforms."""
    B = "b"
    """The other one of these."""


class Question(StrEnum):
    """A headline contrast of two arms (`roles.COMPARED`)."""

    SIDES = "sides"
    """A against B."""
    WHOLE = "whole"
    """TODAY against EXCLUSIVE: both steps at once. Asked if neither step was measured alone, or by name."""
    THREADS = "threads"
    """TODAY against THREADS: what does setting the number of threads bring?"""
    EXCLUSIVE = "exclusive"
    """THREADS against EXCLUSIVE: what do exclusive CPUs bring beyond that?"""


class Family(StrEnum):
    """A group of cells, named before anything is measured (`pod.cells.family`)."""

    INPUT_PIPELINE = "input_pipeline"
    """Loader workers feed the GPU: what most training and inference looks like. The headline is about it."""
    LAUNCH = "launch"
    """Data on the device, and steps so short that launching kernels limits them."""
    CONTROL = "control"
    """Bound by the GPU: must not move."""
    OTHER = "other"


class Load(StrEnum):
    """What else runs on the node."""

    SOLO = "solo"
    """One tenant; everything else is idle."""
    FULL = "full"
    """A tenant on each GPU, the CPUs shared out."""
    BUSY = "busy"
    """As FULL, with a Burstable pod that keeps more CPUs busy than are left."""


DECISIVE = (Load.FULL, Load.SOLO, Load.BUSY)
"""The first of them that was measured decides on a question."""


class Recommendation(StrEnum):
    """What to do. It never names an arm that the data show to be slower."""

    SET_THREADS = "set_threads"
    PIN = "pin"
    BOTH = "both"
    NEITHER = "neither"
    PIN_IF_BUSY = "pin_if_busy"
    CHANGE = "change"
    """The other side is faster, or the whole way, and which of its steps helps was not measured."""
    KEEP = "keep"
    """The other side is slower, or the whole way, and its steps were not measured."""
    MEASURE_MORE = "measure_more"
    REPEAT = "repeat"
    """The experiment is invalid."""


class InvalidCode(StrEnum):
    """Why an experiment supports no claim."""

    ARM_NOT_AS_NAMED = "arm_not_as_named"
    CONTROL_MOVED = "control_moved"
    DEVICE_CHANGED = "device_changed"
    DEVICE_DIFFERS = "device_differs"
    GPU_DIFFERS = "gpu_differs"
    GPU_SLOWED = "gpu_slowed"
    OTHER_LOAD = "other_load"
    SETTINGS_DIFFER = "settings_differ"


@dataclass(frozen=True)
class Invalid:
    """One reason for invalidity: `code` for programs, `text` for people, with the remedy."""

    code: InvalidCode
    text: str


@dataclass(frozen=True)
class FamilyEstimate:
    """One family in one contrast. `by_round` holds the ratio of each round that was used."""

    family: Family
    cells: tuple[Cell, ...]
    estimate: Estimate
    by_round: Mapping[int, float]


@dataclass(frozen=True)
class Contrast:
    """One question under one load. `families` starts with the one that the headline is about.

    `margin` is the one that was applied: if the arms were not interleaved, it is at least a floor, or the shift that was
    measured. Only a gap that is decided has `causes`, whose shares add up to at most 1, and causes that were `ruled_out`.
    `unknown` says what was not recorded. `gradient` is how the gap changes with the size of the models.
    """

    question: Question
    load: Load
    families: tuple[FamilyEstimate, ...]
    cells: tuple[CellResult, ...]
    margin: float
    causes: tuple[Cause, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    unknown: tuple[str, ...] = ()
    gradient: tuple[Trend, ...] = ()
    gradient_code: GradientCode = GradientCode.NONE

    @property
    def headline(self) -> FamilyEstimate:
        return self.families[0]


@dataclass(frozen=True)
class Throughput:
    """One arm under one load, over the cells of the headline's family and all rounds.

    `images_per_s` is the sum over tenants (geometric mean over cells), `worst_tenant` the slowest tenant's share of the
    median tenant's rate, `p99_ms` the 99th percentile of a step (None with fewer than 299 steps), and `loss` the share of
    its own solo rate that a tenant loses under this load (None for SOLO, or if that was not measured).
    `by_round` holds the sum over tenants of each round, `by_tenant` the rate of each tenant of each round, in images/s.
    """

    role: ArmRole
    load: Load
    tenants: int
    images_per_s: float
    p99_ms: float | None = None
    worst_tenant: float | None = None
    loss: float | None = None
    by_round: Mapping[int, float] = field(default_factory=dict)
    by_tenant: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """The experiment of one node.

    `arms` holds the name of each role's arm in the input. `control` is that of the widest contrast; `control_proves` says
    whether its interval lies inside the control's margin. `expected_rounds` predicts, from three rounds on, how many are
    needed until both headline contrasts are decided and as precise as `precision` (a half-width, as a share).
    `gpu_hours_gained` is what the recommendation gains for each GPU in a day of 24 hours. `interleaved` is False for halves
    before and after a switch of the kubelet. `environment` holds the keys on which all arms agree, `differences` those on
    which the first and the last do not, and `environments` all of each arm. `measured` is the start of the first process in
    seconds since 1970. `asked` is the question of two sides that were named.
    """

    label: str
    arms: Mapping[ArmRole, str]
    contrasts: tuple[Contrast, ...]
    throughputs: tuple[Throughput, ...]
    recommendation: Recommendation
    sentence: str
    advice: tuple[Advice, ...]
    invalid: tuple[Invalid, ...]
    control: Estimate | None
    control_proves: bool
    margin: float
    precision: float
    rounds: int
    expected_rounds: int | None
    gpu_minutes: float | None
    gpu_hours_gained: float | None
    interleaved: bool
    notes: tuple[Note, ...] = ()
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    environments: Mapping[ArmRole, Mapping[str, Scalar]] = field(default_factory=dict)
    measured: float | None = None
    asked: Question | None = None

    @property
    def is_switch(self) -> bool:
        """Whether it says nothing but what a switch of the kubelet did to its node."""
        return self.questions == (Question.WHOLE,) and not self.interleaved

    @property
    def ends(self) -> tuple[ArmRole, ArmRole]:
        """The first and the last arm."""
        first, *_others, last = self.arms
        return first, last

    @property
    def answer(self) -> Estimate | None:
        """The estimate of the question that was asked, under the load that decides; None without such a contrast."""
        found = (self.contrast(self.asked, load) for load in DECISIVE if self.asked is not None)
        return next((contrast.headline.estimate for contrast in found if contrast is not None), None)

    @property
    def verdict(self) -> Verdict | None:
        """What may be claimed about the question that was asked; None if none was asked by name."""
        if self.asked is None:
            return None
        if self.invalid:
            return Verdict.INVALID
        return Verdict.UNDECIDED if self.answer is None else self.answer.verdict

    @property
    def is_precise(self) -> bool:
        """Whether it is valid, and each headline contrast that was measured is decided and within `precision`."""
        estimates = [contrast.headline.estimate for contrast in self.contrasts]
        return bool(estimates) and not self.invalid and all(is_precise(own, self.precision) for own in estimates)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that were measured under any load."""
        asked = {one.question for one in self.contrasts}
        return tuple(question for question in Question if question in asked)

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads under which anything was measured, the lightest first."""
        found = {one.load for one in self.contrasts} | {one.load for one in self.throughputs}
        return tuple(load for load in Load if load in found)

    def contrast(self, question: Question, load: Load = Load.SOLO) -> Contrast | None:
        """The contrast, or None if it was not measured."""
        return next((one for one in self.contrasts if one.question is question and one.load is load), None)
