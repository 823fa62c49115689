# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of a benchmark run as plain data: no files, no statistics.

All times are milliseconds of wall clock per step (one batch). A process is the unit of replication: cuDNN's choice of
algorithms, the memory layout and the NUMA placement are drawn once per process, so its steps are not independent
samples (Kalibera & Jones; pyperf).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from .pod.cells import Cell

SCHEMA = 1
"""Schema of the JSON lines that are read."""
REPORT_SCHEMA = 4
"""Schema of the JSON that is printed. Since 3, a report is about an experiment's contrasts, or about families of cells
that were named before; single cells have no verdict. Since 4, two sides are an experiment with one contrast, and
with the steps between them if arms show these: `asked` is the question, `verdict` its answer. What was at the top of the
report of two sides (family, families, cells, gradient, causes) is in `contrasts`; `why` and `factors` are gone."""

Status = Literal["ok", "oom", "skipped"]
Scalar = str | int | float | bool | None


class InputError(Exception):
    """Input that cannot be used. `problems` holds every finding, each a sentence with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NoteCode(StrEnum):
    """What a note is about."""

    CARD_TAKEN_OUT = "card_taken_out"
    CELLS_FAILED = "cells_failed"
    CELLS_LEFT_OUT = "cells_left_out"
    CONTROL_DIFFERS = "control_differs"
    CONTROL_PROVES_NOTHING = "control_proves_nothing"
    DIFFERENT_ALLOWED = "different_allowed"
    DIFFERENT_RUNS = "different_runs"
    FEW_ROUNDS = "few_rounds"
    GPU_CARDS_DIFFER = "gpu_cards_differ"
    IDLE_NODE_ONLY = "idle_node_only"
    INCOMPLETE_ROUNDS = "incomplete_rounds"
    LAST_LINE_CUT = "last_line_cut"
    LOG_INCOMPLETE = "log_incomplete"
    NO_CONTROL = "no_control"
    NO_QUOTA = "no_quota"
    NO_SYSTEM_INFO = "no_system_info"
    ONE_RUN = "one_run"
    PROCESSES_ENDED_EARLY = "processes_ended_early"
    SAME_NUMBERS = "same_numbers"
    SEVERAL_GPU_CARDS = "several_gpu_cards"
    SHIFT_MEASURED = "shift_measured"
    UNUSED_ARMS = "unused_arms"


_RED_FLAGS = frozenset(
    {
        NoteCode.CONTROL_DIFFERS,
        NoteCode.GPU_CARDS_DIFFER,
        NoteCode.SAME_NUMBERS,
    }
)


@dataclass(frozen=True)
class Note:
    """A remark on the input: `code` is for programs, `text` for people."""

    code: NoteCode
    text: str

    @property
    def red_flag(self) -> bool:
        """Whether it makes the comparison doubtful."""
        return self.code in _RED_FLAGS

    def to_dict(self) -> dict[str, str | bool]:
        return {"code": self.code.value, "text": self.text, "red_flag": self.red_flag}


@dataclass(frozen=True)
class Block:
    """Steps timed without a pause.

    `parts_ms` holds the sums over its steps of data, h2d, enqueue and wait, where recorded. `started` is in seconds
    since 1970. `counters` holds what the system counted during the block; an unreadable counter is absent, never 0.
    """

    iter_ms: tuple[float, ...]
    started: float | None = None
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """What one process measured for one cell; `reason` says why a cell could not be timed.

    `iter_ms` holds every step in run order, stalls included, over all blocks of the process. For a log that prints
    averages only, it holds that one average. `enqueue_ms` and `wait_ms` are sums over the steps for which both were
    recorded. A `derived` cell is computed from the steps of another cell, so the same time must not count twice.
    """

    status: Status
    iter_ms: tuple[float, ...] = ()
    enqueue_ms: float = 0.0
    wait_ms: float = 0.0
    control: bool = False
    derived: bool = False
    reason: str = ""
    blocks: tuple[Block, ...] = ()

    @property
    def mean_ms(self) -> float:
        """Mean step, the inverse of throughput. A median would not show throttling. Only for status ok."""
        return sum(self.iter_ms) / len(self.iter_ms)


@dataclass(frozen=True)
class Process:
    """One process of one arm. `round` pairs it with the other arms; `index` numbers the processes of a round.

    On a full node, processes run at the same time: `tenant` numbers them from 0, `tenants` says how many there are, and
    `load` what else ran (`experiment.Load`). `started` and `ended` are in seconds since 1970, None if not recorded.
    """

    round: int
    index: int
    timings: Mapping[Cell, Timing]
    tenant: int = 0
    tenants: int = 1
    load: str = "solo"
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class ResultSet:
    """One side of a comparison. `arm` is its name in the input, empty if the input has no arms.

    `label` is what readers call it, and `place` how a sentence says where something was measured, if not "on" the label.
    """

    label: str
    processes: tuple[Process, ...]
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    run_ids: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    arm: str = ""
    schema: int = SCHEMA
    place: str = ""

    @property
    def where(self) -> str:
        """Such as "with exclusive CPUs" or "on gpu-01": what was measured there, in a sentence."""
        return self.place or f"on {self.label}"

    def cells(self) -> list[Cell]:
        """Every cell of every process, in the order of first appearance."""
        return list(dict.fromkeys(cell for process in self.processes for cell in process.timings))

    def timings(self, cell: Cell) -> list[Timing]:
        """What each process that tried the cell measured."""
        return [process.timings[cell] for process in self.processes if cell in process.timings]
