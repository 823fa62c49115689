# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods are admitted where: CPUs, memory and devices together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import (
    Admission,
    Supplies,
    admit_all,
    rules_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import REFUSED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    AllocationError,
    Container,
    Pod,
    machine_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DevicePlugin
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Cpu, NumaNode, Topology

GPU = "nvidia.com/gpu"
GIB = 1024**3
SUPPLIES = Supplies(
    memory={node: {"memory": 64 * GIB} for node in (0, 1)},
    reserved_memory=[{"numaNode": 0, "limits": {"memory": "4Gi"}}],
    allocatable={"memory": 124 * GIB},
    plugins=(DevicePlugin(GPU, {"gpu0": frozenset({0}), "gpu1": frozenset({1})}),),
)
TOPOLOGY = Topology(
    cpus=tuple(Cpu(cpu, True, cpu // 8, cpu % 8, cpu // 8, None) for cpu in range(16)),
    online=frozenset(range(16)),
    offline=frozenset(),
    isolated=frozenset(),
    sockets=(),
    numa_nodes=tuple(NumaNode(node, frozenset(range(node * 8, node * 8 + 8)), {}) for node in (0, 1)),
    l3_groups=(),
    cores=(),
    gpus=(),
)
"""2 NUMA nodes of 8 CPUs."""


def pod(name: str, cpu: str, memory: str = "", gpus: int = 0, guaranteed: bool = True) -> Pod:
    others = {**({"memory": memory} if memory else {}), **({GPU: str(gpus)} if gpus else {})}
    return Pod(name, (Container("c", cpu, others=others),), guaranteed)


def admit(
    *pods: Pod, policy: str = "single-numa-node", scope: str = "container", supplies: Supplies = SUPPLIES
) -> list[Admission]:
    return admit_all(machine_of(TOPOLOGY), rules_of("1.36.3", [0], None, policy, scope), pods, supplies).admissions


def test_all_resources_of_a_pod_come_from_one_numa_node() -> None:
    found = admit(pod("a", "4", "32Gi"), pod("b", "4", "8Gi", gpus=1), pod("c", "2", "50Gi"))
    assert [format_cpuset(one.cpus["c"]) for one in found] == ["1-4", "8-11", "12-13"]
    assert [one.memory["c"][0].nodes for one in found] == [{0}, {1}, {1}]
    assert found[1].devices == {"c": {GPU: {"gpu1"}}}


def test_gpus_of_both_nodes_are_refused_unless_the_policy_is_lenient() -> None:
    both = pod("a", "2", "1Gi", gpus=2)
    assert admit(both)[0].refused == REFUSED
    for policy in ("none", "best-effort", "restricted"):
        assert admit(both, policy=policy)[0].refused == (REFUSED if policy == "restricted" else None)


def test_a_gpu_beside_a_full_node_is_refused() -> None:
    full = pod("a", "8", "1Gi"), pod("b", "2", "1Gi", gpus=1), pod("c", "2", "1Gi", gpus=1)
    assert [one.refused for one in admit(*full)] == [None, None, REFUSED]


def test_a_pod_without_cpus_of_its_own_is_refused_for_its_devices_too() -> None:
    assert admit(pod("a", "500m", "1Gi", gpus=2, guaranteed=False))[0].refused == REFUSED


def test_memory_decides_between_nodes_that_have_cpus() -> None:
    found = admit(pod("a", "2", "61Gi"))[0]
    assert (found.cpus["c"], found.memory["c"][0].nodes) == (frozenset({8, 9}), frozenset({1}))
    assert admit(pod("a", "2", "70Gi"))[0].refused == REFUSED
    assert admit(pod("a", "2", "70Gi"), policy="restricted")[0].refused == REFUSED
    assert admit(pod("a", "2", "70Gi"), policy="best-effort")[0].memory["c"][0].nodes == {0, 1}


def test_more_memory_than_all_nodes_have_is_an_error_of_the_memory_manager() -> None:
    """Without any hint, the topology manager sees no preference."""
    refused = admit(pod("a", "2", "200Gi"))[0].refused
    error = "[memorymanager] failed to find NUMA nodes to extend the current topology hint"
    assert refused == f"UnexpectedAdmissionError: Allocate failed due to {error}, which is unexpected"


def test_containers_may_be_on_different_nodes_unless_the_scope_is_the_pod() -> None:
    both = Pod("a", (Container("x", "6"), Container("y", "6")))
    assert admit(both)[0].refused is None
    assert admit(both, scope="pod")[0].refused == REFUSED


def test_a_refused_pod_leaves_nothing_behind() -> None:
    tight = replace(SUPPLIES, allocatable={"memory": 10 * GIB})
    found = admit(pod("a", "2", "11Gi", gpus=1), pod("b", "2", "9Gi", gpus=2), policy="none", supplies=tight)
    assert found[0].refused == (
        f"OutOfmemory: Node didn't have enough resource: memory, requested: {11 * GIB}, used: 0, capacity: {10 * GIB}"
    )
    assert found[1].devices["c"][GPU] == {"gpu0", "gpu1"}


def test_requests_are_summed_up_by_resource() -> None:
    tight = replace(SUPPLIES, allocatable={"memory": 10 * GIB})
    found = admit(pod("a", "8", "6Gi"), pod("b", "8", "6Gi", guaranteed=False), policy="none", supplies=tight)[1]
    assert [one.resource for one in found.missing] == ["cpu", "memory"]
    assert found.missing[1].used == 6 * GIB


def test_a_request_that_is_no_quantity_is_named() -> None:
    with pytest.raises(AllocationError, match="container c of pod a"):
        admit(pod("a", "2", "much"))
    with pytest.raises(AllocationError, match=r'asks for "-1" nvidia\.com/gpu: expected none or more'):
        admit(Pod("a", (Container("c", "2", others={GPU: "-1"}),)))


TWO_EACH = replace(
    SUPPLIES, plugins=(DevicePlugin(GPU, {f"gpu{number}": frozenset({number % 2}) for number in range(4)}),)
)


def test_without_a_topology_manager_a_pod_decides_which_devices_are_left_for_the_next_one() -> None:
    found = admit(pod("a", "2", gpus=1), pod("b", "2", gpus=1), pod("c", "2"), pod("d", "2", gpus=1), policy="none")
    assert [each.uncertain for each in found] == [{GPU: None}, {GPU: "a"}, {}, {}]
    assert found[3].refused is not None, "however they are given, there is none left"


def test_a_topology_manager_chooses_cpus_by_the_devices_that_are_left() -> None:
    found = admit(
        pod("a", "2", gpus=3), pod("b", "2", "1Gi", 1), pod("c", "2"), policy="best-effort", supplies=TWO_EACH
    )
    assert [each.uncertain for each in found] == [{GPU: None}, {"cpu": "a", GPU: "a", "memory": "a"}, {"cpu": "b"}]


def test_pods_before_one_that_may_get_other_devices_are_certain() -> None:
    found = admit(pod("a", "2"), pod("b", "2", gpus=1), pod("c", "2", gpus=1))
    assert all(each.certain for each in found)
