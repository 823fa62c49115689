# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.reserved_memory import (
    choose_reserved_memory,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import setting_problems
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS, topology

GIB, MIB = 2**30, 2**20
STATIC = {**DEFAULTS, "cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "memoryManagerPolicy": "Static"}


def machine(*memory: dict[str, int], without_cpus: tuple[int, ...] = ()) -> Topology:
    """:param memory: of each NUMA node"""
    made = topology(cores=2 * len(memory), numa_nodes=len(memory))
    nodes = tuple(
        replace(node, memory=amounts, cpus=frozenset() if node.id in without_cpus else node.cpus)
        for node, amounts in zip(made.numa_nodes, memory, strict=True)
    )
    return replace(made, numa_nodes=nodes)


def config(kube: str = "0", system: str = "0", eviction: str = "100Mi", **more: Any) -> dict[str, Any]:
    hard = {**DEFAULTS["evictionHard"], "memory.available": eviction}
    reserved = {"kubeReserved": {"memory": kube}, "systemReserved": {"memory": system}}
    return {**STATIC, **reserved, "evictionHard": hard, **more}


@pytest.mark.parametrize(
    ("nodes", "without_cpus", "now", "expected"),
    [
        pytest.param([{"memory": 64 * GIB}], (), config(), {0: "100Mi"}, id="one node"),
        pytest.param(
            [{"memory": 64 * GIB}] * 2, (), config("1Gi", "1Gi"), {0: "1074Mi", 1: "1074Mi"}, id="two equal nodes"
        ),
        pytest.param(
            [{"memory": 64 * GIB}, {"memory": 64 * GIB - 24 * 4096}],
            (),
            config("1Gi", "1Gi"),
            {0: "1074Mi", 1: "1074Mi"},
            id="a few pages more or less change nothing",
        ),
        pytest.param(
            [{"memory": 96 * GIB}, {"memory": 32 * GIB}], (), config(), {0: "75Mi", 1: "25Mi"}, id="uneven nodes"
        ),
        pytest.param(
            [{"memory": 64 * GIB}] * 3, (2,), config(), {0: "50Mi", 1: "50Mi"}, id="a node without CPUs gets none"
        ),
        pytest.param(
            [{"memory": 64 * GIB}, {"memory": 0}], (), config(), {0: "100Mi"}, id="a node without memory gets none"
        ),
        pytest.param(
            [{"memory": 64 * GIB, "hugepages-1Gi": 48 * GIB}, {"memory": 64 * GIB, "hugepages-2Mi": 16 * GIB}],
            (),
            config(),
            {0: "25Mi", 1: "75Mi"},
            id="huge pages are not free for the system",
        ),
        pytest.param(
            [{"memory": 64 * GIB}] * 2, (), config("1000001"), {0: "50Mi", 1: str(1000001 + 50 * MIB)}, id="odd bytes"
        ),
        pytest.param(
            [{"memory": MIB // 2}, {"memory": 3 * MIB // 2}],
            (),
            config(eviction="2Mi"),
            {0: str(MIB // 2), 1: str(3 * MIB // 2)},
            id="no room for whole MiB",
        ),
        pytest.param(
            [{"memory": 64 * GIB}] * 2,
            (),
            config(reservedMemory=[{"numaNode": 1, "limits": {"memory": "100Mi"}}]),
            {1: "100Mi"},
            id="a valid one is kept",
        ),
        pytest.param(
            [{"memory": 64 * GIB}] * 2,
            (),
            config("1Gi", reservedMemory=[{"numaNode": 1, "limits": {"memory": "100Mi"}}]),
            {0: "562Mi", 1: "562Mi"},
            id="one of another sum is not kept",
        ),
        pytest.param(
            [{"memory": 64 * GIB}, {"memory": 0}],
            (),
            config(reservedMemory=[{"numaNode": 1, "limits": {"memory": "100Mi"}}]),
            {0: "100Mi"},
            id="one that a node has no room for is not kept",
        ),
    ],
)
def test_the_sum_is_what_the_kubelet_demands(
    nodes: list[dict[str, int]], without_cpus: tuple[int, ...], now: dict[str, Any], expected: dict[int, str]
) -> None:
    made = machine(*nodes, without_cpus=without_cpus)
    chosen, found = choose_reserved_memory(made, now, "1.36.3")
    assert found == []
    assert chosen is not None
    assert {entry["numaNode"]: entry["limits"]["memory"] for entry in chosen.entries} == expected
    assert setting_problems({**now, "reservedMemory": chosen.entries}, "1.36.3", made) == []


@pytest.mark.parametrize("needed", [1, 2, MIB - 1, MIB, 7 * MIB + 3, 333 * MIB, GIB - 1])
@pytest.mark.parametrize("sizes", [[1, 1], [1, 2, 4], [5, 1, 1, 3, 7, 7, 2, 2]])
def test_every_sum_is_exact_and_no_node_reserves_more_than_it_has(needed: int, sizes: list[int]) -> None:
    made = machine(*({"memory": size * GIB} for size in sizes))
    chosen, found = choose_reserved_memory(made, config(eviction=str(needed)), "1.36.3")
    assert chosen is not None
    assert found == []
    held = {entry["numaNode"]: parse_quantity(entry["limits"]["memory"]) for entry in chosen.entries}
    assert sum(held.values()) == needed
    assert all(0 < amount <= made.numa_nodes[node].memory["memory"] for node, amount in held.items())


def test_the_reasons_have_every_number() -> None:
    made = machine({"memory": 96 * GIB}, {"memory": 32 * GIB}, {"memory": 128 * GIB}, without_cpus=(2,))
    chosen, _found = choose_reserved_memory(made, config("1Gi", "512Mi"), "1.36.3")
    assert chosen is not None
    text = " ".join(chosen.reasons)
    assert "1636Mi in all" in text
    assert "kubeReserved 1Gi + systemReserved 512Mi + evictionHard 100Mi" in text
    assert "node 0: 1227Mi of 98304Mi, node 1: 409Mi of 32768Mi" in text
    assert "None on NUMA node 2: it has no CPU" in text


@pytest.mark.parametrize(
    ("made", "now", "codes"),
    [
        pytest.param(machine({}), config(), ["numa_memory_unknown"], id="the kernel reports no memory"),
        pytest.param(topology(numa_nodes=0), config(), ["numa_memory_unknown"], id="no NUMA node"),
        pytest.param(machine({"memory": GIB}), config("2Gi"), ["reserved_memory_exceeds"], id="more than there is"),
        pytest.param(
            machine({"memory": GIB, "hugepages-2Mi": GIB}), config(), ["reserved_memory_exceeds"], id="all huge pages"
        ),
        pytest.param(machine({"memory": GIB}), config("100m"), ["reserved_memory_not_whole_bytes"], id="a tenth"),
        pytest.param(machine({"memory": GIB}), config(eviction="0%"), ["reserved_memory_missing"], id="nothing"),
        pytest.param(
            machine({}),
            config(eviction="5%"),
            ["numa_memory_unknown", "eviction_hard_percentage"],
            id="all problems at once",
        ),
        pytest.param(machine({"memory": GIB}), config("much"), ["reserved_memory_invalid"], id="no quantity"),
    ],
)
def test_refused(made: Topology, now: dict[str, Any], codes: list[str]) -> None:
    chosen, found = choose_reserved_memory(made, now, "1.36.3")
    assert chosen is None
    assert [problem.code for problem in found] == codes
    assert all(problem.remedy or problem.code == "reserved_memory_invalid" for problem in found)
