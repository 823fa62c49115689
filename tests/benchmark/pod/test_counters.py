# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from typing import Any

import pytest

from benchmark.pod import cgroup, counters
from benchmark.pod.counters import (
    HostTime,
    Sampler,
    Snapshot,
    ThreadCounts,
    between,
    parse_field,
    parse_host_time,
    parse_run_delay,
)

STATUS = "Name:\tpython3\nThreads:\t7\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t345\n"
SCHED = "python3 (9, #threads: 1)\n-----\nse.exec_start    :   1.5\nse.nr_migrations      :          42\n"


def _snapshot(**changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "clock_ms": 1000.0,
        "throttling": [cgroup.Throttling(10, 0, 0.0)],
        "cpu_ms": 500.0,
        "thread": ThreadCounts(1.0, 5, 6, 7),
        "run_delays_ms": {"1": 1.0, "2": 2.0},
        "host": HostTime(100.0, 0.0),
    }
    return Snapshot(**{**values, **changes})


def test_run_delay_is_the_second_field_in_nanoseconds() -> None:
    assert parse_run_delay("123456789 2500000 17\n") == 2.5
    assert parse_run_delay(None) is None


def test_fields_of_status_and_sched() -> None:
    assert parse_field(STATUS, "voluntary_ctxt_switches") == 12
    assert parse_field(STATUS, "nonvoluntary_ctxt_switches") == 345
    assert parse_field(SCHED, "se.nr_migrations") == 42
    assert parse_field(None, "se.nr_migrations") is None


def test_host_time_leaves_idle_and_guests_out() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice
    assert parse_host_time("cpu  100 10 50 9000 800 3 7 20 60 0\ncpu0 1 1 1\n", 100) == HostTime(1700.0, 200.0)
    assert parse_host_time("", 100) is None


def test_counters_are_what_a_block_added() -> None:
    after = _snapshot(
        clock_ms=3000.0,
        throttling=[cgroup.Throttling(30, 20, 1900.0)],
        cpu_ms=2500.5,
        thread=ThreadCounts(901.0, 25, 106, 9),
        run_delays_ms={"1": 901.0, "3": 50.0},
        host=HostTime(3100.0, 30.0),
    )
    assert between(_snapshot(), after) == {
        "wall_ms": 2000.0,
        "periods": 20,
        "throttled_periods": 20,
        "throttled_ms": 1900.0,
        "cpu_ms": 2000.5,
        "run_delay_ms": 900.0,
        "run_delay_all_ms": 950.0,
        "switches_voluntary": 20,
        "switches_involuntary": 100,
        "migrations": 2,
        "threads": 2,
        "host_busy_cpus": 1.5,
        "steal_ms": 30.0,
    }


def test_what_the_kernel_does_not_tell_is_none() -> None:
    blind = _snapshot(
        throttling=[], cpu_ms=None, thread=ThreadCounts(None, None, None, None), run_delays_ms={}, host=None
    )
    found = between(blind, blind._replace(clock_ms=1500.0))
    assert {name: value for name, value in found.items() if value is not None} == {"wall_ms": 500.0}


def test_the_sampler_sees_this_thread_work() -> None:
    sampler = Sampler(None)
    before = sampler.before()
    end = time.process_time() + 0.06  # the kernel rounds its counters: a little more than what is asserted
    while time.process_time() < end:
        pass
    found = between(before, sampler.after())
    assert isinstance(found["cpu_ms"], float)
    assert isinstance(found["wall_ms"], float)
    assert found["cpu_ms"] >= 50
    assert found["wall_ms"] >= 50


def test_the_reference_loop_takes_longer_for_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    short = counters.reference_loop()
    monkeypatch.setattr(counters, "REFERENCE_LOOPS", 10 * counters.REFERENCE_LOOPS)
    assert counters.reference_loop() > 3 * short
