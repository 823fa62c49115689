# SPDX-License-Identifier: GPL-3.0-or-later
"""Which arms must not be compared, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from benchmark.analysis import Estimate, Verdict
from benchmark.experiment import InvalidCode, Load
from benchmark.pod.cells import Cell
from benchmark.results import Block, Process, ResultSet, Scalar, Timing
from benchmark.validity import SETTINGS, invalid

CELL = Cell("resnet18", "half", "inference", 64)
SHARED: Mapping[str, Scalar] = {
    "gpu": "H100",
    "cpu_count": 16,
    "cpus_allowed": 16,
    "cpus_effective": "0-15",
    "quota_cpus": 4.0,
    "cgroup_version": 2,
}
OWN: Mapping[str, Scalar] = {**SHARED, "cpus_allowed": 4, "cpus_effective": "2-5", "quota_cpus": None}
QUIET = {"wall_ms": 1000.0, "cpu_ms": 4000.0, "host_busy_cpus": 4.2, "steal_ms": 0.0, "canary_ms": 2.0}


def arm(
    name: str,
    environment: Mapping[str, Scalar],
    counters: Iterable[Mapping[str, float]] = (QUIET,),
    load: Load = Load.SOLO,
) -> ResultSet:
    """One process with a block for each set of counters."""
    blocks = tuple(Block((10.0,), counters=own) for own in counters)
    process = Process(1, 0, {CELL: Timing("ok", (10.0,), blocks=blocks)}, load=load, environment=environment)
    return ResultSet(name, (process,), environment, frozenset({"r1"}), arm=name)


TODAY = arm("none-auto", {**SHARED, "threads": 16})
THREADS = arm("none-4", {**SHARED, "threads": 4})
EXCLUSIVE = arm("static-4", {**OWN, "threads": 4})


def codes(*arms: ResultSet, load: Load = Load.SOLO, allow: Iterable[str] = ()) -> list[InvalidCode]:
    return [reason.code for reason in invalid(arms, load, None, allow)]


def test_arms_that_are_what_their_names_say_are_valid() -> None:
    assert codes(TODAY, THREADS, EXCLUSIVE) == []


@pytest.mark.parametrize(
    ("name", "environment", "finding"),
    [
        pytest.param("none-auto", {**SHARED, "quota_cpus": None}, "it has no CPU quota", id="today-without-a-limit"),
        pytest.param(
            "none-4",
            {**SHARED, "cpus_effective": "2-5"},
            "it has 4 CPUs for a quota of 4, as if they were its own",
            id="threads-pinned-by-mistake",
        ),
        pytest.param(
            "fractional-auto",
            {**SHARED, "cpus_allowed": 4},
            "it has 4 CPUs for a quota of 4, as if they were its own",
            id="a-narrow-mask",
        ),
        pytest.param("quota-4", {**SHARED, "threads": 16}, "it ran 16 threads, not 4", id="threads-not-set"),
        pytest.param("static-4", {**OWN, "threads": 8}, "it ran 8 threads, not 4", id="exclusive-with-other-threads"),
        pytest.param("static-4", SHARED, "it has 16 CPUs for a quota of 4, so it shares them", id="not-exclusive"),
        pytest.param(
            "integer-4",
            {**OWN, "cpus_effective": "0-15", "cpus_allowed": 16},
            "it has all 16 CPUs of the machine",
            id="the-whole-machine",
        ),
        pytest.param(
            "static-4", {**OWN, "pod_cpu": "3"}, "it has 4 CPUs, and asked for 3", id="more-CPUs-than-asked-for"
        ),
    ],
)
def test_an_arm_that_is_not_what_its_name_says(name: str, environment: Mapping[str, Scalar], finding: str) -> None:
    found = list(invalid([arm(name, environment)], Load.SOLO, None))
    assert [reason.code for reason in found] == [InvalidCode.ARM_NOT_AS_NAMED]
    assert f'The arm "{name}" is not what it stands for' in found[0].text
    assert f"): {finding}. Correct the pod" in found[0].text


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        pytest.param("none-auto", {}, id="nothing-recorded"),
        pytest.param("none-auto", {"quota_cpus": None, "cgroup_version": None}, id="cgroup-not-found"),
        pytest.param("static-4", {**OWN, "pod_cpu": "4", "threads": 4}, id="as-many-as-asked-for"),
        pytest.param("static-4", {**OWN, "quota_cpus": 4.0}, id="with-a-quota-before-1.33"),
        pytest.param("amd", {**SHARED, "quota_cpus": None}, id="a-name-that-says-nothing"),
    ],
)
def test_what_is_not_known_is_not_held_against_an_arm(name: str, environment: Mapping[str, Scalar]) -> None:
    assert codes(arm(name, environment)) == []


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_that_differs_is_invalid_unless_it_is_allowed(key: str) -> None:
    a, b = arm("x", {"gpu": "H100", key: "1"}), arm("y", {"gpu": "H100", key: "2"})
    named = {"gpu": InvalidCode.GPU_DIFFERS, "device": InvalidCode.DEVICE_DIFFERS}
    expected = named.get(key, InvalidCode.SETTINGS_DIFFER)
    reason = next(iter(invalid([a, b], Load.SOLO, None)))
    assert (reason.code, codes(a, b, allow=[key])) == (expected, [])
    assert f"{key} differs: 1 on x, 2 on y" in reason.text
    assert f"--allow-different {key}" in reason.text


ON_GPU: Mapping[str, Scalar] = {"device": "cuda", "gpu": "H100", "driver": "550", "image_size": 224, "workers": 8}
ON_CPU: Mapping[str, Scalar] = {"device": "cpu", "image_size": 32, "workers": 2}


def test_a_side_that_computed_on_the_cpu_is_named_and_what_follows_from_it_is_not() -> None:
    a, b = arm("x", ON_GPU), arm("y", ON_CPU)
    (reason,) = invalid([a, b], Load.SOLO, None)
    assert reason.code == InvalidCode.DEVICE_DIFFERS
    assert "device differs: cuda on x, cpu on y" in reason.text


def test_a_device_that_may_differ_excuses_no_other_image_size() -> None:
    found = list(invalid([arm("x", ON_GPU), arm("y", ON_CPU)], Load.SOLO, None, ["device"]))
    assert [reason.code for reason in found] == [InvalidCode.SETTINGS_DIFFER] * 2
    assert "image_size differs: 224 on x, 32 on y" in found[0].text


def test_an_arm_whose_pod_lost_its_gpu_between_two_rounds_is_invalid_even_if_both_arms_did() -> None:
    def lost(name: str) -> ResultSet:
        before, after = arm(name, ON_GPU), arm(name, ON_CPU)
        (first,), (second,) = before.processes, after.processes
        return replace(before, processes=(first, replace(second, round=2)))

    found = list(invalid([lost("x"), lost("y")], Load.SOLO, None))
    assert [reason.code for reason in found] == [InvalidCode.DEVICE_CHANGED] * 2
    assert 'The arm "x" computed on the GPU in round 1 and on the CPU in round 2' in found[0].text


def test_a_setting_that_one_side_does_not_know_is_no_difference() -> None:
    assert codes(arm("x", {"torch": "2.5"}), arm("y", {"torch": None})) == []


@pytest.mark.parametrize(
    ("counters", "text"),
    [
        pytest.param({"host_busy_cpus": 5.6}, "Others kept 0.2 CPUs busy on none-auto, and 1.6 on none-4", id="others"),
        pytest.param({"steal_ms": 1500.0}, "The hypervisor took 0.0 CPUs on none-auto, and 1.5 on none-4", id="steal"),
    ],
)
def test_other_work_beside_one_arm_is_invalid(counters: Mapping[str, float], text: str) -> None:
    disturbed = arm("none-4", {**SHARED, "threads": 4}, [{**QUIET, **counters}])
    found = list(invalid([TODAY, disturbed], Load.SOLO, None))
    assert [reason.code for reason in found] == [InvalidCode.OTHER_LOAD]
    assert text in found[0].text
    assert "while nothing else runs on the node" in found[0].text
    assert codes(disturbed, disturbed) == []


@pytest.mark.parametrize("counters", [{"host_busy_cpus": 5.2}, {"steal_ms": 1000.0}])
def test_a_small_difference_of_other_work_is_accepted(counters: Mapping[str, float]) -> None:
    assert codes(TODAY, arm("none-4", {**SHARED, "threads": 4}, [{**QUIET, **counters}])) == []


def in_rounds(own: ResultSet, *loops_ms: float, cell: Cell = CELL) -> ResultSet:
    """The arm with a round for each time of the reference loop, taken beside `cell`."""
    return tenants_in_rounds(own, *(((loop,),) for loop in loops_ms), cell=cell)


def tenants_in_rounds(own: ResultSet, *rounds: Sequence[Sequence[float]], cell: Cell = CELL) -> ResultSet:
    """The arm with a process for each tenant of each round, which has these times of the reference loop in its blocks."""
    (process,) = own.processes

    def blocks(loops_ms: Sequence[float]) -> tuple[Block, ...]:
        return tuple(Block((10.0,), counters={**QUIET, "canary_ms": loop}) for loop in loops_ms)

    return replace(
        own,
        processes=tuple(
            replace(process, round=number, timings={cell: Timing("ok", (10.0,), blocks=blocks(loops_ms))})
            for number, tenants in enumerate(rounds, start=1)
            for loops_ms in tenants
        ),
    )


STEADY = (2.0, 2.01, 1.99, 2.02, 2.0)
SLOWER = tuple(1.2 * loop for loop in STEADY)


def test_a_cpu_that_is_slower_in_each_round_of_one_arm_is_invalid() -> None:
    found = list(invalid([in_rounds(TODAY, *STEADY), in_rounds(THREADS, *SLOWER)], Load.SOLO, None))
    assert [reason.code for reason in found] == [InvalidCode.OTHER_LOAD]
    assert "took 2.00 ms on none-auto, and 2.40 ms on none-4" in found[0].text


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(STEADY, tuple(1.08 * loop for loop in STEADY), id="a little slower"),
        pytest.param(
            (2.1, 3.8, 2.0, 3.9, 2.2), (3.7, 3.9, 3.6, 2.3, 3.8), id="the other thread of the core is busy at times"
        ),
        pytest.param(STEADY[:4], SLOWER[:4], id="too few rounds to tell"),
    ],
)
def test_a_difference_of_speed_that_the_rounds_do_not_prove_is_accepted(a: Sequence[float], b: Sequence[float]) -> None:
    assert codes(in_rounds(TODAY, *a), in_rounds(THREADS, *b)) == []


def test_beside_the_workers_of_a_loader_a_cpu_may_be_slower() -> None:
    """On exclusive CPUs, the workers run on the siblings of the launching thread's core."""
    loader = CELL._replace(mode="train-loader")
    assert codes(in_rounds(TODAY, *STEADY, cell=loader), in_rounds(THREADS, *SLOWER, cell=loader)) == []


FULL_TODAY = arm("none-auto", SHARED, load=Load.FULL)
FULL_THREADS = arm("none-4", {**SHARED, "threads": 4}, load=Load.FULL)


def on_full_node(own: ResultSet, slower: float = 1.0, disturbed: float = 1.0) -> ResultSet:
    """The arm with two tenants in each round, all CPUs this much slower; others' work disturbs one block of each."""
    tenant = (2.0 * slower * disturbed, 2.0 * slower)
    return tenants_in_rounds(own, *[(tenant, tenant)] * 5)


def test_a_full_node_whose_cpus_were_slower_beside_one_arm_is_invalid() -> None:
    a, b = on_full_node(FULL_TODAY, disturbed=1.9), on_full_node(FULL_THREADS, slower=1.2)
    found = list(invalid([a, b], Load.FULL, None))
    assert [reason.code for reason in found] == [InvalidCode.OTHER_LOAD]
    assert "took 2.00 ms on none-auto, and 2.40 ms on none-4" in found[0].text


def test_what_other_tenants_slow_at_times_is_no_slower_cpu() -> None:
    a, b = on_full_node(FULL_TODAY, disturbed=1.9), on_full_node(FULL_THREADS)
    assert codes(a, b, load=Load.FULL) == []


def test_beside_busy_neighbours_an_exclusive_core_is_faster_and_that_is_measured() -> None:
    shared, exclusive = arm("none-auto", SHARED, load=Load.BUSY), arm("static-4", OWN, load=Load.BUSY)
    assert codes(on_full_node(shared, slower=1.9), on_full_node(exclusive), load=Load.BUSY) == []


def test_two_models_of_cpu_need_not_be_equally_fast() -> None:
    a, b = arm("amd", {"cpu_model": "EPYC"}), arm("intel", {"cpu_model": "Xeon"})
    assert codes(in_rounds(a, *STEADY), in_rounds(b, *SLOWER)) == []


def test_an_arm_that_uses_more_cpus_itself_is_not_disturbed_by_others() -> None:
    busy = {**QUIET, "cpu_ms": 1000.0, "host_busy_cpus": 1.2}
    assert codes(TODAY, arm("none-4", {**SHARED, "threads": 4}, [busy])) == []


@pytest.mark.parametrize("load", [Load.FULL, Load.BUSY])
def test_on_a_full_node_the_others_are_what_is_measured(load: Load) -> None:
    a = arm("none-auto", SHARED, load=load)
    b = arm("none-4", {**SHARED, "threads": 4}, [{**QUIET, "host_busy_cpus": 60.0}], load)
    assert codes(a, b, load=load) == []


@pytest.mark.parametrize(
    ("mask", "expected"), [(0x40, [InvalidCode.GPU_SLOWED]), (0x80, [InvalidCode.GPU_SLOWED]), (0x4, []), (0x1, [])]
)
def test_a_gpu_slowed_in_one_arm_only(mask: int, expected: list[InvalidCode]) -> None:
    cool = arm("none-auto", SHARED, [{**QUIET, "gpu_throttle_reasons": 0}])
    hot = arm("none-4", {**SHARED, "threads": 4}, [{**QUIET, "gpu_throttle_reasons": mask}])
    assert codes(cool, hot) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict.BEATS, [InvalidCode.CONTROL_MOVED]),
        (Verdict.WORSE, [InvalidCode.CONTROL_MOVED]),
        (Verdict.EQUIVALENT, []),
        (Verdict.UNDECIDED, []),
    ],
)
def test_a_control_that_moved(verdict: Verdict, expected: list[InvalidCode]) -> None:
    control = Estimate(1.05, 5, verdict, 1.04, 1.06)
    assert [reason.code for reason in invalid([TODAY, THREADS], Load.SOLO, control)] == expected
