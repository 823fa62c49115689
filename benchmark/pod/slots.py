# SPDX-License-Identifier: GPL-3.0-or-later
"""A full node: several tenants time the same cell at the same time.

A tenant is one program on one GPU. Whoever starts the tenants (modules cpuset_probe and benchmark_pod) waits until each
has printed a line of kind "ready" for the next phase, which is one load of one arm of one round. It then announces when
the phase begins, in a file that every tenant polls. After that nobody waits for anybody: cell number i of the phase has
the slot from begin + i * slot to begin + (i + 1) * slot, and is timed in the same window of it by all tenants. The file
has a line "ARM ROUND LOAD SECONDS" for each phase, in seconds since 1970.
"""

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import measure
from .cgroup import read_text

LOADS = ("solo", "full", "busy")
SOLO = LOADS[0]
REST_S = 0.5
"""The end of a slot: the last step ends, and its loader's workers too."""
LEAST_WARM_UP_S = 1.0
START_TIMEOUT_S = 1800.0
_POLL_S = 0.05

Block = Tuple[float, List[Tuple[float, ...]]]


class Place(NamedTuple):
    """A program's place on the node: `tenant` of `tenants`, and the phases of each of its processes.

    Without a `start_file` the program has the node to itself and keeps its own time.
    """

    tenant: int = 0
    tenants: int = 1
    loads: Tuple[str, ...] = (SOLO,)
    start_file: Optional[str] = None
    slot_seconds: float = 0.0

    @classmethod
    def from_list(cls, values: List[Any]) -> "Place":
        """The place that JSON made a list of."""
        tenant, tenants, loads, start_file, slot_seconds = values
        return cls(tenant, tenants, tuple(loads), start_file, slot_seconds)

    def head(self, load: str) -> Dict[str, Any]:
        """What the place adds to each line. Warming the machine is the one work of all tenants under solo."""
        if self.start_file is None:
            return {}
        alone = load == SOLO and self.tenant == 0
        return {"tenant": self.tenant, "tenants": 1 if alone else self.tenants, "load": load}

    def takes_part(self, load: str) -> bool:
        """Whether this tenant works under `load`: solo is the first one's alone."""
        return load != SOLO or self.tenant == 0


class SlotMissed(RuntimeError):
    """This tenant was not ready when the slot's timing began, so its timing would not be that of the others."""


class NotStarted(Exception):
    """Nobody announced when the phase begins."""


def phase_key(arm: str, round_: int, load: str) -> str:
    """The name of a phase in the start file."""
    return f"{arm} {round_} {load}"


def announced(text: str, key: str) -> Optional[float]:
    """When the phase `key` begins, in seconds since 1970; None while nobody has said so."""
    for line in text.splitlines():
        found, _space, moment = line.strip().rpartition(" ")
        if found == key:
            return float(moment)
    return None


def wait_for_start(path: str, key: str, timeout: float = START_TIMEOUT_S) -> float:
    """Waits for the announcement of a phase and returns when it begins, in seconds since 1970.

    :raises NotStarted: after `timeout` seconds
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        begin = announced(read_text(path) or "", key)
        if begin is not None:
            return begin
        time.sleep(_POLL_S)
    raise NotStarted(f"{path} does not say within {timeout:.0f} s when '{key}' begins: another tenant is not ready.")


class OwnTime:
    """The clock of a program alone on its node: each cell begins when the one before has ended."""

    def __init__(self, block_seconds: float, clock: measure.Clock = time.perf_counter) -> None:
        self._block, self._clock = block_seconds, clock

    def next_cell(self) -> None:
        """Waits for the next cell's turn."""

    def line(self) -> Dict[str, Any]:
        """What the clock adds to a cell's line."""
        return {}

    def warm_up(self, step: measure.Step, in_stock: int) -> None:
        """Runs steps until they are steady. `in_stock` of them may take batches that were loaded before."""
        measure.warm_up(step, self._block, self._clock, in_stock)

    def block(self, step: measure.Step, in_stock: int) -> Block:
        """Times steps; returns the clock at the beginning, and at the end of each part of each step."""
        return measure.run_block(step, self._block, self._clock, max(measure.LEAST_STEPS, in_stock))


class SlotTime:
    """The clock of a full node. A slot is for building and warming up, then `block_seconds` of timing, then REST_S.

    :param begin: the beginning of the phase, in seconds since 1970
    """

    def __init__(
        self,
        begin: float,
        slot_seconds: float,
        block_seconds: float,
        *,
        clock: measure.Clock = time.perf_counter,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._begin = begin + clock() - now()
        self._seconds, self._block = slot_seconds, block_seconds
        self._clock, self._sleep = clock, sleep
        self._slot = -1

    def next_cell(self) -> None:
        """Waits for the next slot."""
        self._slot += 1
        self._sleep(max(0.0, self._begin + self._slot * self._seconds - self._clock()))

    def line(self) -> Dict[str, Any]:
        """The number of the slot."""
        return {"slot": self._slot}

    @property
    def _timed_from(self) -> float:
        return self._begin + (self._slot + 1) * self._seconds - REST_S - self._block

    def warm_up(self, step: measure.Step, in_stock: int) -> None:
        """Runs steps until the window of timing.

        :raises SlotMissed: if so few have ended by then that a loader's stock may not be used up, or the last of them has
            taken the whole window
        """
        least = max(2, in_stock)
        steps = 0
        while self._clock() < self._timed_from:
            step()
            steps += 1
        late = self._clock() - self._timed_from
        if steps < least:
            raise SlotMissed(
                f"not warm when the timing began: {steps} of {least} steps to warm up. This cell needs slots longer than "
                f"{self._seconds:g} s"
            )
        if late > self._block:
            raise SlotMissed(
                f"a step to warm up ended {late:.1f} s after the timing began, which is the whole of it. This cell needs "
                f"blocks longer than {self._block:g} s"
            )

    def block(self, step: measure.Step, in_stock: int) -> Block:
        """Times steps to the end of the window, at least one."""
        del in_stock
        start = self._clock()
        marks = [step()]
        while marks[-1][-1] < self._timed_from + self._block:
            marks.append(step())
        return start, marks


def least_slot(block_seconds: float) -> float:
    """The shortest slot in seconds that leaves time to warm up."""
    return block_seconds + REST_S + LEAST_WARM_UP_S
