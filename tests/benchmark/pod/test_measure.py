# SPDX-License-Identifier: GPL-3.0-or-later
"""Warm-up and blocks against a clock that only steps move."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmark.pod.measure import REPLAYS, loading_work, resident_work, run_block, run_replays, step_times, warm_up


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float) -> Callable[..., None]:
        def pass_time(*_: object) -> None:
            self.now += seconds

        return pass_time


def _steps(clock: Clock, lengths: Iterator[float]) -> Callable[[], tuple[float, ...]]:
    def step() -> tuple[float, ...]:
        clock.now += next(lengths)
        return (clock.now,)

    return step


def _forever(length: float) -> Iterator[float]:
    while True:
        yield length


def _falling() -> Iterator[float]:
    length = 0.040
    while True:
        yield length
        length = max(length * 0.97, 0.010)


def _throttled() -> Iterator[float]:
    """Every sixth step is a stall, the groups of ten so hold one or two."""
    while True:
        yield from [0.005] * 5
        yield 0.095


def _autotuned(first: float, length: float) -> Iterator[float]:
    yield first
    yield from _forever(length)


def test_a_steady_cell_is_warm_after_twenty_steps() -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _forever(0.010)), 2.0, clock) == 20


def test_a_cell_that_still_speeds_up_is_not_warm() -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _falling()), 2.0, clock) > 40


def test_stalls_do_not_lengthen_the_warm_up() -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _throttled()), 2.0, clock) == 20


def test_the_search_for_algorithms_does_not_shorten_the_warm_up() -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _autotuned(3.0, 0.010)), 2.0, clock) == 20


@pytest.mark.parametrize(
    ("length", "block", "steps"),
    [(0.25, 2.0, 9), (0.25, 1.0, 5), (2.0, 60.0, 3), (600.0, 2.0, 1)],
)
def test_slow_steps_warm_up_no_longer_than_a_block_or_five_seconds(length: float, block: float, steps: int) -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _forever(length)), block, clock) == steps


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (0.015625, 128),  # two seconds
        (0.5, 10),  # ten steps
        (4.0, 5),  # twenty seconds
        (600.0, 1),
    ],
)
def test_a_block_is_two_seconds_and_ten_steps_within_reason(length: float, steps: int) -> None:
    clock = Clock()
    _, marks = run_block(_steps(clock, _forever(length)), 2.0, clock)
    assert len(marks) == steps


def _stocked(clock: Clock, stock: int) -> Iterator[float]:
    """Steps that take what was loaded before, and then wait for the loader."""
    yield from [0.010] * stock
    yield from _forever(0.050)


def test_a_loaders_stock_is_used_up_before_the_block() -> None:
    clock = Clock()
    steps = _steps(clock, _stocked(clock, 30))
    assert warm_up(steps, 0.1, clock, least=30) == 30
    _, marks = run_block(steps, 0.5, clock, least=30)
    assert len(marks) == 30
    assert marks[0][0] - (marks[1][0] - 0.050) == pytest.approx(0.0)


def test_a_stock_that_takes_minutes_is_not_used_up() -> None:
    clock = Clock()
    assert warm_up(_steps(clock, _forever(8.0)), 0.5, clock, least=16) == 3
    assert len(run_block(_steps(clock, _forever(8.0)), 0.5, clock, least=16)[1]) == 3


class Gpu:
    """A stream that works off what is enqueued, each replay in 6 ms; the CPU enqueues one in 0.1 ms, or stalls."""

    def __init__(self, clock: Clock, stalls: dict[int, float]) -> None:
        self.clock, self.stalls, self.free_at, self.replays = clock, stalls, clock.now, 0

    def replay(self) -> None:
        self.clock.now += self.stalls.get(self.replays, 0.0001)
        self.replays += 1
        self.free_at = max(self.free_at, self.clock.now) + 0.006

    def mark(self) -> Event:
        return Event(self, self.free_at)


class Event:
    def __init__(self, gpu: Gpu, at: float) -> None:
        self.gpu, self.at = gpu, at

    def synchronize(self) -> None:
        self.gpu.clock.now = max(self.gpu.clock.now, self.at)

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


@pytest.mark.parametrize("stalled", [15, 59, 70, 111])
def test_stalls_of_the_cpu_do_not_lengthen_replays(stalled: int) -> None:
    clock = Clock()
    gpu = Gpu(clock, {stalled: 0.05})
    times = run_replays(gpu.replay, gpu.mark, 0.5, clock)
    assert len(times) % REPLAYS == 0
    assert sum(times) >= 500
    assert set(times) == {6.0}


def test_no_time_is_lost_between_steps() -> None:
    clock = Clock()
    work = resident_work(clock.takes(0.003), clock.takes(0.001), clock, cuda=True)
    start, marks = run_block(work.step, 0.1, clock)
    times = step_times(start, marks, work.parts)
    assert sum(times["iter_ms"]) == pytest.approx((clock.now - start) * 1e3)
    assert times["enqueue_ms"] == pytest.approx([3.0] * len(marks))
    assert times["wait_ms"] == pytest.approx([1.0] * len(marks))


def test_loading_is_taken_apart() -> None:
    clock = Clock()
    fetch, upload, run, wait = map(clock.takes, (0.004, 0.003, 0.002, 0.001))
    work = loading_work(fetch, upload, run, wait, clock, cuda=True)
    start, marks = run_block(work.step, 0.1, clock)
    times = step_times(start, marks, work.parts)
    assert {name: round(values[-1], 3) for name, values in times.items()} == {
        "iter_ms": 10.0,
        "data_ms": 4.0,
        "h2d_ms": 3.0,
        "enqueue_ms": 2.0,
        "wait_ms": 1.0,
    }


def test_on_a_cpu_only_the_loader_is_taken_apart() -> None:
    clock = Clock()
    resident = resident_work(clock.takes(0.003), clock.takes(0.0), clock, cuda=False)
    fetch, upload, run, wait = map(clock.takes, (0.004, 0.0, 0.002, 0.0))
    loading = loading_work(fetch, upload, run, wait, clock, cuda=False)
    start, marks = run_block(resident.step, 0.1, clock)
    assert set(step_times(start, marks, resident.parts)) == {"iter_ms"}
    start, marks = run_block(loading.step, 0.1, clock)
    assert set(step_times(start, marks, loading.parts)) == {"iter_ms", "data_ms"}


def test_launching_does_not_wait() -> None:
    clock = Clock()
    resident_work(clock.takes(0.003), clock.takes(50.0), clock, cuda=True).launch()
    fetch, upload, run, wait = map(clock.takes, (0.0, 0.0, 0.0, 50.0))
    loading_work(fetch, upload, run, wait, clock, cuda=True).launch()
    assert clock.now < 101
