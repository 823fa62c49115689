# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads, weights, and the barrier at which the tenants of a full node begin together."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import (
    Barrier,
    Phase,
    busy_threads,
    cpu_shares,
    cpu_weight,
    load_order,
    load_problem,
    measured_loads,
)

FIRST, SECOND = Phase("quota-auto", 1, "full"), Phase("quota-12", 1, "full")


@pytest.mark.parametrize("loads", [[], ["idle"], ["solo", "solo"]])
def test_a_list_of_loads_that_is_none_is_refused(loads: list[str]) -> None:
    assert "expected some of solo, full, busy, each once" in load_problem("gpu_benchmark_load", loads)


def test_one_tenant_alone_fills_its_node() -> None:
    assert measured_loads(["solo", "full", "busy"], 1) == ["solo", "busy"]
    assert measured_loads(["full"], 1) == ["full"]
    assert measured_loads(["solo", "full"], 4) == ["solo", "full"]


def test_the_order_of_loads_is_reversed_in_every_second_round_and_differs_between_runs() -> None:
    loads = ["solo", "full", "busy"]
    for run in "abc":
        assert load_order(loads, run, 1) == load_order(loads, run, 2)[::-1]
        assert sorted(load_order(loads, run, 3)) == sorted(loads)
    assert len({str(load_order(loads, f"run-{number}", 1)) for number in range(40)}) == 6


def test_neighbours_want_more_cpus_than_are_left() -> None:
    assert busy_threads(64, 48) == 16 + 24
    assert busy_threads(2, 1) == 1 + 1
    assert busy_threads(2, 2) == 1


def test_weights_are_those_of_the_kubelet() -> None:
    assert cpu_shares(12) == 12288
    assert cpu_shares(0) == 2
    assert (cpu_weight(2), cpu_weight(1024), cpu_weight(262144)) == (1, 39, 10000)


def test_a_phase_begins_when_all_wait_for_it() -> None:
    barrier = Barrier(2)
    barrier.ready(0, FIRST)
    assert barrier.due() is None
    barrier.ready(1, FIRST)
    assert barrier.due() == FIRST
    assert barrier.announce(FIRST, 1700000000.5) == "quota-auto 1 full 1700000000.500\n"
    assert barrier.due() is None


def test_the_start_file_keeps_earlier_phases() -> None:
    barrier = Barrier(1)
    for phase in (FIRST, SECOND):
        barrier.ready(0, phase)
        text = barrier.announce(phase, 1.0)
    assert text.splitlines() == ["quota-auto 1 full 1.000", "quota-12 1 full 1.000"]


def test_tenants_go_on_without_one_that_ended() -> None:
    barrier = Barrier(2)
    barrier.ready(0, FIRST)
    barrier.ended(1)
    assert barrier.due() == FIRST
    barrier.ended(0)
    assert barrier.due() is None


def test_a_tenant_that_is_ahead_after_a_failure_waits_for_the_others() -> None:
    barrier = Barrier(2)
    barrier.ready(0, FIRST)
    barrier.ready(1, SECOND)
    assert barrier.due() == FIRST
    barrier.announce(FIRST, 1.0)
    assert barrier.due() is None
    barrier.ready(0, SECOND)
    assert barrier.due() == SECOND
