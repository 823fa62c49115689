# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark run left behind, as plain data: no files, no statistics.

All times are milliseconds of wall clock per step (one batch). A process is the unit of replication: cuDNN's choice of
algorithms, the memory's layout and the NUMA placement are drawn once per process, so its steps are no independent
samples (Kalibera & Jones; pyperf).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SCHEMA = 1
PRECISIONS = ("half", "float", "double")
RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)

Status = Literal["ok", "oom", "skipped"]
Scalar = str | int | float | bool | None


class InputError(Exception):
    """Input that cannot be used; `problems` holds every finding, each a sentence with its way out."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Cell:
    """What is timed: one model at one precision in one mode; `batch` is None where the input does not record it."""

    model: str
    precision: str
    mode: str
    batch: int | None = None

    def __str__(self) -> str:
        name = f"{self.model} {self.precision} {self.mode}"
        return name if self.batch is None else f"{name} batch {self.batch}"


@dataclass(frozen=True)
class Block:
    """Steps timed in one go. `parts_ms` are sums over its steps: data, h2d, enqueue, wait, as far as recorded.

    `started` is in seconds since 1970. `counters` hold what the system counted over the block; what could not be read is
    absent, never 0.
    """

    iter_ms: tuple[float, ...]
    started: float | None = None
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """What one process found for one cell; `reason` says why, where it could not be timed.

    `iter_ms` holds every step in run order, stalls included, over all blocks of the process; a log that prints only its
    average gives that one number. `enqueue_ms` and `wait_ms` are sums over the steps for which both were recorded.
    `derived` cells are computed from the steps of another one: the same time must not count twice.
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
        """Mean step, the inverse of throughput; a median would be blind to throttling. Only for status ok."""
        return sum(self.iter_ms) / len(self.iter_ms)


@dataclass(frozen=True)
class Process:
    """One process of one arm: `round` pairs it with the other arm, `index` tells it from others of its round."""

    round: int
    index: int
    timings: Mapping[Cell, Timing]


@dataclass(frozen=True)
class ResultSet:
    """One side of a comparison; `arm` is what the input calls it, empty where the input has no arms.

    `notes` are remarks on the input that a reader of the verdict has to know.
    """

    label: str
    processes: tuple[Process, ...]
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    run_ids: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    arm: str = ""
    schema: int = SCHEMA

    def cells(self) -> list[Cell]:
        """Every cell of every process, in the order of first appearance."""
        return list(dict.fromkeys(cell for process in self.processes for cell in process.timings))

    def timings(self, cell: Cell) -> list[Timing]:
        """What each process that tried the cell found."""
        return [process.timings[cell] for process in self.processes if cell in process.timings]
