# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock that the tenants of a full node share."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from benchmark.pod.busy import cache_bytes
from benchmark.pod.slots import NotStarted, Place, SlotMissed, SlotTime, announced, phase_key, wait_for_start

KEY = phase_key("quota-12", 3, "full")


class Clock:
    """A clock in seconds, and steps that take their time on it."""

    def __init__(self) -> None:
        self.now = 50.0
        self.length = 0.1

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def step(self) -> tuple[float, ...]:
        self.now += self.length
        return (self.now,)


def slots(clock: Clock, begin: float = 1002.0) -> SlotTime:
    """Slots of 4 s with a second of timing, 2 s from now."""
    return SlotTime(begin, 4.0, 1.0, clock=clock, now=lambda: 1000.0, sleep=clock.sleep)


def test_a_phase_has_its_own_line() -> None:
    text = "quota-12 3 solo 1.5\nquota-12 3 full 2.5\n"
    assert announced(text, KEY) == 2.5
    assert announced(text, phase_key("quota-12", 3, "busy")) is None
    assert announced("", KEY) is None


def test_a_program_waits_for_its_phase(tmp_path: Path) -> None:
    file = tmp_path / "start"
    timer = threading.Timer(0.2, file.write_text, [f"{KEY} 12.25\n"])
    timer.start()
    started = time.monotonic()
    assert wait_for_start(str(file), KEY, timeout=300) == 12.25
    assert time.monotonic() - started >= 0.2
    timer.join()


def test_a_phase_that_never_begins_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="does not say within 0 s when 'quota-12 3 full' begins"):
        wait_for_start(str(tmp_path / "start"), KEY, timeout=0.1)


def test_solo_is_the_first_tenants_alone() -> None:
    first, second = Place(0, 4, ("solo", "full"), "/start", 4.0), Place(1, 4, ("solo", "full"), "/start", 4.0)
    assert [first.takes_part(load) for load in ("solo", "full", "busy")] == [True, True, True]
    assert [second.takes_part(load) for load in ("solo", "full", "busy")] == [False, True, True]
    assert first.head("solo") == {"tenant": 0, "tenants": 1, "load": "solo"}
    assert second.head("full") == {"tenant": 1, "tenants": 4, "load": "full"}
    assert Place().head("solo") == {}


def test_every_cell_is_timed_in_the_same_window_of_its_slot() -> None:
    clock = Clock()
    plan = slots(clock)
    for number in range(3):
        plan.next_cell()
        begin = 52.0 + 4 * number
        assert clock.now == pytest.approx(begin)
        assert plan.line() == {"slot": number}
        plan.warm_up(clock.step, 0)
        assert clock.now == pytest.approx(begin + 2.5, abs=0.11)
        start, marks = plan.block(clock.step, 0)
        assert start == pytest.approx(begin + 2.5, abs=0.11)
        assert marks[-1][-1] == pytest.approx(begin + 3.5, abs=0.11)


def test_a_long_step_does_not_move_the_slots_after_it() -> None:
    clock = Clock()
    plan = slots(clock)
    plan.next_cell()
    plan.warm_up(clock.step, 0)
    clock.length = 2.5
    assert len(plan.block(clock.step, 0)[1]) == 1
    clock.length = 0.1
    plan.next_cell()
    plan.warm_up(clock.step, 0)
    assert plan.block(clock.step, 0)[0] == pytest.approx(58.5, abs=0.11)


@pytest.mark.parametrize(
    ("length", "in_stock", "missed"),
    [
        (0.1, 16, ""),
        (0.2, 16, "needs slots longer than 4 s"),
        (1.0, 0, ""),
        (2.4, 0, "needs blocks longer than 1 s"),
        (3.0, 0, "needs slots longer than 4 s"),
    ],
)
def test_a_tenant_that_is_not_warm_when_the_timing_begins_misses_the_slot(
    length: float, in_stock: int, missed: str
) -> None:
    clock = Clock()
    clock.length = length
    plan = slots(clock)
    plan.next_cell()
    if not missed:
        plan.warm_up(clock.step, in_stock)
        return
    with pytest.raises(SlotMissed, match=missed):
        plan.warm_up(clock.step, in_stock)


@pytest.mark.parametrize(
    ("text", "expected"), [("32768K\n", 32 << 20), ("2M", 2 << 20), ("512", 512), ("", None), ("big", None)]
)
def test_the_size_of_a_cache(text: str, expected: int | None) -> None:
    assert cache_bytes(text) == expected
