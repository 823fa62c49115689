# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview of allocations. Many expectations are Kubernetes' own, retyped from pkg/kubelet/cm/cpumanager/
cpu_assignment_test.go and policy_static_test.go (Apache License 2.0); the others were measured on real kubelets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import (
    Admission,
    Books,
    Preview,
    Supplies,
    admit_all,
    rules_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    ENDLESS,
    AllocationError,
    Container,
    CpuSet,
    Machine,
    Pod,
    Rules,
    machine_of,
    reserved_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Cpu, NumaNode, Topology

BY_SOCKET = "align-by-socket"
ACROSS_NUMA = "distribute-cpus-across-numa"
FULL = "full-pcpus-only"
UNCORE = "prefer-align-cpus-by-uncorecache"


def admit(machine: Machine, rules: Rules, shared: CpuSet, pod: Pod) -> Admission:
    """One pod on a machine of which only these CPUs are free."""
    return replace(Books.of(machine, rules, Supplies()), shared=shared).admit(pod)


def preview(
    topology: Topology, version: str, reserved: Iterable[int], pods: Sequence[Pod], *args: Any, **kwargs: Any
) -> Preview:
    """Pods on an empty machine, by the further arguments of `rules_of`."""
    return admit_all(machine_of(topology), rules_of(version, reserved, *args, **kwargs), pods)


def topology(
    cores: int,
    threads: int = 1,
    socket: Callable[[int], int] = lambda core: 0,
    node: Callable[[int], int | None] = lambda core: 0,
    l3: Callable[[int], int | None] = lambda core: None,
) -> Topology:
    """A machine whose sibling threads are numbered after all first threads."""
    return topology_of(
        Cpu(core + thread * cores, True, socket(core), core, node(core), l3(core))
        for thread in range(threads)
        for core in range(cores)
    )


def topology_of(cpus: Iterable[Cpu]) -> Topology:
    """The machine with these CPUs, as far as it matters here."""
    listed = tuple(cpus)
    nodes = sorted({cpu.numa_node for cpu in listed if cpu.numa_node is not None})
    return Topology(
        cpus=listed,
        online=frozenset(cpu.id for cpu in listed if cpu.online),
        offline=frozenset(cpu.id for cpu in listed if not cpu.online),
        isolated=frozenset(),
        sockets=(),
        numa_nodes=tuple(
            NumaNode(node, frozenset(cpu.id for cpu in listed if cpu.numa_node == node), {}) for node in nodes
        ),
        l3_groups=(),
        cores=(),
        gpus=(),
    )


def epyc(nodes: int) -> Topology:
    """2 x EPYC 7773X: 128 cores of 2 threads, 16 L3 groups of 8 cores."""
    return topology(128, 2, lambda core: core // 64, lambda core: core * nodes // 128, lambda core: core // 8)


SINGLE_HT = topology(4, 2)
DUAL_HT = topology(6, 2, lambda core: core % 2, lambda core: core % 2)
MULTI_NUMA_HT = topology(40, 2, lambda core: core // 20, lambda core: core // 10)
MULTI_NUMA_HT_2 = topology(40, 2, lambda core: core % 2, lambda core: core % 4)
LARGE = topology(128, 2, lambda core: core // 64, lambda core: core // 16)
UNCORE_SINGLE = topology(16, 1, l3=lambda core: core // 4)
UNCORE_DUAL = topology(16, 1, lambda core: core // 8, l3=lambda core: core // 4)
UNCORE_MULTI_NUMA = topology(16, 1, node=lambda core: core // 8, l3=lambda core: core // 4)
UNCORE_HT = topology(8, 2, l3=lambda core: core // 4)


def given(machine: Topology, version: int, options: tuple[str, ...], free: str, count: int) -> str:
    """The CPUs of one container, or the kubelet's refusal, where only `free` are left."""
    pod = Pod("p", (Container("c", str(count)),))
    rules = Rules(version, frozenset(), frozenset(options))
    admission = admit(machine_of(machine), rules, parse_cpuset(free), pod)
    assert admission.certain
    return admission.refused or format_cpuset(admission.cpus.get("c", ()))


def cpus(found: Preview, pod: int = 0) -> dict[str, str]:
    return {name: format_cpuset(given) for name, given in found.admissions[pod].cpus.items()}


@pytest.mark.parametrize("version", [20, 21, 22, 23, 28, 37])
@pytest.mark.parametrize(
    ("machine", "free", "count", "expected"),
    [
        pytest.param(SINGLE_HT, "0-7", 0, "", id="none"),
        pytest.param(SINGLE_HT, "0-7", 1, "0", id="one of a socket"),
        pytest.param(SINGLE_HT, "1,3,5-7", 1, "6", id="one, of a core that is in use"),
        pytest.param(SINGLE_HT, "0-7", 2, "0,4", id="a core"),
        pytest.param(SINGLE_HT, "0-7", 8, "0-7", id="all"),
        pytest.param(SINGLE_HT, "0-3,6", 2, "2,6", id="the only whole core"),
        pytest.param(DUAL_HT, "1-5,7-11", 1, "2", id="one of the socket in use"),
        pytest.param(DUAL_HT, "0-11", 6, "0,2,4,6,8,10", id="a socket"),
        pytest.param(DUAL_HT, "0-11", 8, "0-2,4,6-8,10", id="a socket and a core"),
    ],
)
def test_every_version_packs(machine: Topology, version: int, free: str, count: int, expected: str) -> None:
    assert given(machine, version, (), free, count) == expected


@pytest.mark.parametrize(
    ("machine", "free", "count", "expected"),
    [
        pytest.param(MULTI_NUMA_HT, "0-79", 40, "0-19,40-59", id="a socket"),
        pytest.param(MULTI_NUMA_HT, "0-79", 20, "0-9,40-49", id="a node"),
        pytest.param(MULTI_NUMA_HT, "10-39,50-79", 20, "10-19,50-59", id="the other node of the socket"),
        pytest.param(MULTI_NUMA_HT, "0-79", 60, "0-29,40-69", id="a socket and a node"),
        pytest.param(MULTI_NUMA_HT, "1-39,41-79", 60, "10-39,50-79", id="whole nodes first, a core taken"),
        pytest.param(MULTI_NUMA_HT, "0-79", 64, "0-31,40-71", id="node after node"),
    ],
)
def test_packs_numa_nodes_from_1_23(machine: Topology, free: str, count: int, expected: str) -> None:
    assert given(machine, 23, (), free, count) == expected
    assert given(machine, 36, (), free, count) == expected


def test_1_22_knows_no_numa_nodes() -> None:
    # from the socket with the fewest free CPUs, the cores in order, though node 1 (10-19) is whole
    assert given(MULTI_NUMA_HT, 22, (), "1-39,41-79", 20) == "1-10,41-50"
    assert given(MULTI_NUMA_HT, 23, (), "1-39,41-79", 20) == "10-19,50-59"


@pytest.mark.parametrize(
    ("machine", "free", "count", "options", "expected"),
    [
        pytest.param(DUAL_HT, "0-11", 8, (), "0-3,6-9", id="two cores a node"),
        pytest.param(DUAL_HT, "1-5,7-11", 1, (), "1", id="one"),
        pytest.param(
            MULTI_NUMA_HT, "0-79", 64, (), "0-7,10-17,20-27,30-37,40-47,50-57,60-67,70-77", id="over four nodes"
        ),
        pytest.param(MULTI_NUMA_HT, "0-79", 48, (), "0-7,10-17,20-27,40-47,50-57,60-67", id="over three"),
        pytest.param(
            MULTI_NUMA_HT, "1-29,32-39,41-69,72-79", 48, (), "1-8,10-17,20-27,41-48,50-57,60-67", id="not the fourth"
        ),
        pytest.param(
            MULTI_NUMA_HT, "2-29,31-39,42-69,71-79", 48, (), "10-17,20-27,31-38,50-57,60-67,71-78", id="the most even"
        ),
        pytest.param(MULTI_NUMA_HT, "0-79", 26, (), "0-6,10-16,40-45,50-55", id="13 each"),
        pytest.param(MULTI_NUMA_HT, "0-79", 26, (FULL,), "0-6,10-15,40-46,50-55", id="7 cores and 6"),
        pytest.param(
            MULTI_NUMA_HT, "0-79", 62, (), "0-7,10-17,20-27,30-37,40-47,50-57,60-66,70-76", id="remainder to 0 and 1"
        ),
        pytest.param(
            *(MULTI_NUMA_HT, "0-79", 62, (FULL,), "0-7,10-17,20-27,30-36,40-47,50-57,60-67,70-76"),
            id="remainder in cores",
        ),
        pytest.param(
            *(MULTI_NUMA_HT, "0-8,10-18,20-39,40-48,50-58,60-79", 62, ()),
            "0-7,10-17,20-27,30-37,40-46,50-56,60-67,70-77",
            id="remainder keeps the balance",
        ),
        pytest.param(
            *(MULTI_NUMA_HT, "0-8,10-18,20-39,40-48,50-58,60-79", 62, (FULL,)),
            "0-7,10-16,20-27,30-37,40-47,50-56,60-67,70-77",
            id="remainder in cores keeps the balance",
        ),
        pytest.param(
            *(MULTI_NUMA_HT, "0-3,10-13,20-23,30-36,40-43,50-53,60-63,70-76", 34, ()),
            "0-3,10-13,20-23,30-34,40-43,50-53,60-63,70-74",
            id="remainder where there are CPUs",
        ),
        pytest.param(
            LARGE,
            "0,128,30,31,158,159,43-47,171-175,62,63,190,191,75-79,203-207,94,96,222,223,101-111,229-239,126,127,254,255",
            *(28, (), "43-47,75-79,96,101-105,171-174,203-206,229-232"),
            id="a live machine",
        ),
    ],
)
def test_distributes_over_numa_nodes(
    machine: Topology, free: str, count: int, options: tuple[str, ...], expected: str
) -> None:
    assert given(machine, 23, (ACROSS_NUMA, *options), free, count) == expected
    assert given(machine, 37, (ACROSS_NUMA, *options), free, count) == expected


@pytest.mark.parametrize(
    ("version", "options", "free", "expected"),
    [
        pytest.param(37, (BY_SOCKET,), "1-15", "1,3,5,7,9,11", id="both"),
        pytest.param(
            37, (BY_SOCKET,), "1-9,12-13,16-17", "1,3,5,7,9,13", id="the socket counts more than the distribution"
        ),
        pytest.param(37, (), "1-9,12-13,16-17", "1,4-5,8-9,12", id="not by socket"),
        pytest.param(37, (BY_SOCKET,), "1-5,8-9,12-13", "1,4-5,8-9,12", id="no socket has enough"),
        pytest.param(36, (BY_SOCKET,), "1-9,12-13,16-17", "1,4-5,8-9,12", id="before 1.37"),
    ],
)
def test_distributes_within_a_socket_from_1_37(
    version: int, options: tuple[str, ...], free: str, expected: str
) -> None:
    assert given(MULTI_NUMA_HT_2, version, (ACROSS_NUMA, *options), free, 6) == expected


@pytest.mark.parametrize(
    ("machine", "free", "count", "expected"),
    [
        pytest.param(UNCORE_SINGLE, "1-15", 10, "1-2,4-11", id="two groups and a part"),
        pytest.param(UNCORE_DUAL, "0-15", 4, "0-3", id="the first group"),
        pytest.param(UNCORE_DUAL, "2-15", 6, "2-7", id="a group and a rest"),
        pytest.param(UNCORE_DUAL, "8-15", 4, "8-11", id="of the second socket"),
        pytest.param(UNCORE_MULTI_NUMA, "3-8,12", 2, "4-5", id="of one node"),
        pytest.param(UNCORE_HT, "2-7,10-15", 6, "4-6,12-14", id="the better group"),
        pytest.param(UNCORE_HT, "1-7,9-15", 10, "1,4-7,9,12-15", id="group and core"),
    ],
)
def test_prefers_uncore_caches(machine: Topology, free: str, count: int, expected: str) -> None:
    assert given(machine, 36, (UNCORE,), free, count) == expected


def test_an_odd_count_fits_an_uncore_cache_from_1_34() -> None:
    free = "2-7,10-15"  # 2 cores left in the first group, 4 in the second
    assert given(UNCORE_HT, 36, (UNCORE,), free, 5) == "4-6,12-13"
    assert given(UNCORE_HT, 32, (UNCORE,), free, 5) == "2-4,10-11"


def test_spreads_over_cores() -> None:
    assert given(DUAL_HT, 31, ("distribute-cpus-across-cores",), "0-11", 3) == "0,2,4"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [pytest.param(n, ["1-6,129-134", "7-12,135-140", "13-18,141-146", "19-34,147-162"], id=f"{n}") for n in (2, 8)],
)
def test_2_x_epyc_7773x_as_kubelet_1_22_17_did(nodes: int, expected: list[str]) -> None:
    pods = [Pod(f"p{n}", (Container("c", cpu),)) for n, cpu in enumerate(("12", "12", "12", "32"))]
    found = preview(epyc(nodes), "1.22.17", {0, 128}, pods)
    assert [cpus(found, n)["c"] for n in range(4)] == expected
    assert format_cpuset(found.shared) == "0,35-128,163-255"


def test_numa_aware_kubelets_keep_large_pods_on_one_node_of_nps4() -> None:
    found = preview(epyc(8), "1.36.3", {0, 128}, [Pod("p", (Container("c", "32"),))])
    assert cpus(found) == {"c": "16-31,144-159"}


def test_init_containers_leave_their_cpus_to_the_next_and_sidecars_do_not() -> None:
    pod = Pod("p", (Container("app", "2"), Container("first", "4", "init"), Container("beside", "1", "sidecar")))
    assert cpus(preview(topology(8), "1.36.3", {0}, [pod])) == {"first": "1-4", "beside": "1", "app": "2-3"}
    # a kubelet that knows no sidecars runs it to its end
    assert cpus(preview(topology(8), "1.28.15", {0}, [pod])) == {"first": "1-4", "beside": "1", "app": "1-2"}


def test_only_whole_cpus_of_guaranteed_pods_are_exclusive() -> None:
    pods = [
        Pod("half", (Container("c", "1500m"), Container("d", "1"))),
        Pod("burstable", (Container("c", "2"),), guaranteed=False),
        Pod("thousands", (Container("c", "2000m"),)),
    ]
    found = preview(topology(8), "1.22.17", {0}, pods)
    assert [cpus(found, n) for n in range(3)] == [{"d": "1"}, {}, {"c": "2-3"}]
    assert format_cpuset(found.shared) == "0,4-7"


def test_strict_reservation_keeps_the_reserved_cpus_out_of_the_shared_pool() -> None:
    pods = [Pod("p", (Container("c", "2"),))]
    found = preview(topology(8), "1.36.3", {0}, pods, {"strict-cpu-reservation": "true"})
    assert format_cpuset(found.shared) == "3-7"


@pytest.mark.parametrize(
    ("version", "reserved", "count", "words"),
    [
        (36, "0,4", 3, "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"),
        (22, "0,4", 3, "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"),
        (36, "0,4", 8, "available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2"),
        (36, "0-3", 2, "not enough free physical CPUs: available physical CPUs = 0"),
        (27, "0-3", 2, "requested 2 cpus not multiple cpus per core = 2"),  # as these versions say it, wrongly
        (22, "0,4", 8, "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request"),
    ],
)
def test_refusals_with_full_pcpus_only(version: int, reserved: str, count: int, words: str) -> None:
    pods = [Pod("p", (Container("c", str(count)),)), Pod("q", (Container("c", "500m"),))]
    found = preview(SINGLE_HT, f"1.{version}.1", parse_cpuset(reserved), pods, {FULL: True})
    assert words in str(found.admissions[0].refused)
    assert found.admissions[0].cpus == {}
    assert found.admissions[1].refused is None
    assert format_cpuset(found.shared) == "0-7"


def test_1_22_gives_single_threads_beside_a_half_reserved_core_even_with_full_pcpus_only() -> None:
    pods = [Pod("p", (Container("c", "6"),))]
    assert cpus(preview(SINGLE_HT, "1.22.17", {0, 1}, pods, {FULL: "true"})) == {"c": "2-7"}
    refused = preview(SINGLE_HT, "1.27.16", {0, 1}, pods, {FULL: "true"}).admissions[0].refused
    assert "available physical CPUs = 4, requested CPUs = 6" in str(refused)


@pytest.mark.parametrize(("version", "words"), [("1.22.17", ""), ("1.36.3", ": requested=8, available=7")])
def test_refuses_more_than_is_free(version: str, words: str) -> None:
    refused = preview(SINGLE_HT, version, {0}, [Pod("p", (Container("c", "8"),))]).admissions[0].refused
    assert (
        refused
        == f"UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request{words}, which is unexpected"
    )


def test_shared_pods_count_against_the_node_too() -> None:
    pods = [Pod("shared", (Container("c", "6500m"),), guaranteed=False), Pod("p", (Container("c", "1"),))]
    found = preview(SINGLE_HT, "1.22.17", {0}, pods)
    assert found.admissions[1].refused == (
        "OutOfcpu: Node didn't have enough resource: cpu, requested: 1000, used: 6500, capacity: 7000"
    )
    assert format_cpuset(found.shared) == "0-7"


def test_1_21_is_not_certain_once_a_socket_has_more_free_cores_than_a_later_one() -> None:
    machine = topology(8, 1, lambda core: core // 4, lambda core: core // 4)
    pods = [Pod("p", (Container("c", "2"),))]
    assert preview(machine, "1.21.14", {0}, pods).admissions[0].certain
    unsure = preview(machine, "1.21.14", {4}, pods)
    assert not unsure.admissions[0].certain
    assert cpus(unsure) == {"c": "5-6"}
    sure = preview(machine, "1.22.17", {4}, pods)
    assert sure.admissions[0].certain
    assert cpus(sure) == {"c": "5-6"}


@pytest.mark.parametrize(("minor", "expected"), [(21, "0,4"), (22, "0,4"), (36, "0,4")])
def test_a_reservation_by_count_takes_whole_cores(minor: int, expected: str) -> None:
    assert format_cpuset(reserved_of(machine_of(SINGLE_HT), minor, frozenset(), 2)) == expected
    with pytest.raises(AllocationError, match="9 CPUs cannot be reserved"):
        reserved_of(machine_of(SINGLE_HT), minor, frozenset(), 9)


def test_the_kubelet_sees_what_cadvisor_tells_it() -> None:
    epyc_nps4 = machine_of(epyc(8))
    assert (epyc_nps4.cpus_per_core, epyc_nps4.cpus_per_socket, epyc_nps4.cpus_per_uncore) == (2, 128, 16)
    # an L3 cache that is the whole NUMA node is no uncore cache: the socket stands in
    assert sorted(machine_of(epyc(16)).members["uncore"]) == [0, 1]
    # without NUMA nodes, sockets are
    bare = topology(4, 1, lambda core: core // 2, lambda core: None)
    assert machine_of(bare).members["numa"] == {0: frozenset({0, 1}), 1: frozenset({2, 3})}
    # two dies with the same core numbers on one socket and node are one core for the kubelet
    dies = topology_of(replace(cpu, core=cpu.id % 2) for cpu in topology(4).cpus)
    assert machine_of(dies).members["core"] == {0: frozenset({0, 2}), 1: frozenset({1, 3})}
    # 4 performance cores of 2 threads, 4 efficient ones of 1: an average of 1, so that no large core is ever whole
    hybrid = topology_of(topology(8, 2).cpus[:12])
    assert machine_of(hybrid).cpus_per_core == 1


def test_offline_cpus_are_not_there() -> None:
    machine = topology_of(replace(cpu, online=cpu.id > 0) for cpu in topology(4).cpus)
    assert format_cpuset(machine_of(machine).cpus) == "1-3"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"topology_policy": "restricted", "topology_options": {"prefer-closest-numa-nodes": "true"}},
            "prefer-closest-numa-nodes is on: allocations cannot be previewed",
        ),
        ({"pods": [Pod("p", (Container("c", "two"),))]}, 'container c of pod p: "two" is not a Kubernetes quantity'),
        ({"pods": [Pod("p", (Container("c", "-1"),))]}, 'container c of pod p asks for "-1" CPUs'),
        (
            {"pods": [Pod("p", (Container("c", "1", "main"),))]},
            'has the role "main": expected one of app, init, sidecar',
        ),
        ({"topology": topology_of([])}, "does not tell the cores and sockets"),
    ],
)
def test_refuses_what_it_does_not_model(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"topology": SINGLE_HT, "version": "1.22.17", "reserved": {0}, "pods": []}
    with pytest.raises(AllocationError, match=words):
        preview(**{**arguments, **change})


@pytest.mark.parametrize("minor", [23, 36])
def test_a_pod_that_the_kubelet_would_go_on_for_ever_to_admit_is_told(minor: int) -> None:
    machine = machine_of(topology(12, 2, node=lambda core: core // 3))
    rules = Rules(
        minor, parse_cpuset("6,9,12,15,18,21"), frozenset({FULL, ACROSS_NUMA})
    )  # half a core of nodes 0 and 1
    shared = machine.cpus
    assert admit(machine, rules, shared, Pod("p", (Container("c", "14"),))).refused == ENDLESS
    whole = Rules(minor, parse_cpuset("0,6,9,12,18,21"), rules.options)
    assert admit(machine, whole, shared, Pod("p", (Container("c", "14"),))).refused is None


TWO_NODES = topology(16, 2, socket=lambda core: core // 8, node=lambda core: core // 8)
"""Two sockets of 8 cores with 2 threads: NUMA node 0 has CPUs 0-7 and 16-23, node 1 has 8-15 and 24-31."""


def aligned(policy: str, scope: str, *pods: Pod) -> list[str]:
    """Each pod's CPUs, or the reason why it is refused."""
    found = preview(TWO_NODES, "1.36.3", {0, 16}, pods, topology_policy=policy, topology_scope=scope)
    return [
        (admission.refused or "").split(":")[0] or format_cpuset(frozenset().union(*admission.cpus.values()))
        for admission in found.admissions
    ]


def pod(*cpus: str) -> Pod:
    return Pod("p", tuple(Container(f"c{number}", request) for number, request in enumerate(cpus)))


def test_without_a_topology_manager_a_pod_spans_nodes_that_could_each_hold_it() -> None:
    assert aligned("none", "container", pod("10"), pod("10"))[1] == "6-10,22-26"


def test_restricted_refuses_a_pod_that_fits_into_no_node_any_more() -> None:
    pods = [pod("10"), pod("10"), pod("8"), pod("4"), pod("500m")]
    expected = ["1-5,17-21", "8-12,24-28", "TopologyAffinityError", "6-7,22-23", ""]
    assert aligned("restricted", "container", *pods) == expected
    assert aligned("single-numa-node", "container", *pods) == expected


def test_a_pod_that_no_single_node_could_ever_hold_is_refused_by_single_numa_node_only() -> None:
    assert aligned("single-numa-node", "container", pod("20")) == ["TopologyAffinityError"]
    (cpus,) = aligned("restricted", "container", pod("20"))
    assert len(parse_cpuset(cpus)) == 20


def test_best_effort_admits_what_it_cannot_align() -> None:
    assert "TopologyAffinityError" not in aligned("best-effort", "container", pod("10"), pod("10"), pod("8"))


def test_the_scope_pod_counts_all_containers_together() -> None:
    assert aligned("single-numa-node", "container", pod("10", "10")) == ["1-5,8-12,17-21,24-28"]
    assert aligned("single-numa-node", "pod", pod("10", "10")) == ["TopologyAffinityError"]
    assert aligned("single-numa-node", "pod", pod("4", "10")) == ["1-7,17-23"]
