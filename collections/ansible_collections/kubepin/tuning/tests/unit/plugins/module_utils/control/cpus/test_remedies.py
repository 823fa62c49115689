# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import (
    Books,
    Supplies,
    admit_all,
    rules_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    Container,
    Pod,
    machine_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DevicePlugin
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.remedies import remedies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.supplies import (
    reserved_memory_of,
    supplies_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS

from tests.topologies import Machine, tree

GIB = 1024**3
GPU = "nvidia.com/gpu"
TWO_NODES = Topology.of(
    topology_of(Memory(tree(Machine(2, 8, 2, 1, 1, gpus=(0, 1), memory_mib=(16384, 16384), huge_pages=512))))
)
STATIC = {
    **DEFAULTS,
    "kubeReserved": {"memory": "412Mi"},
    "memoryManagerPolicy": "Static",
    "reservedMemory": [{"numaNode": 0, "limits": {"memory": "512Mi"}}],
}


def pod(cpu: str, **others: str) -> Pod:
    return Pod("p", (Container("c", cpu, others={GPU if what == "gpus" else what: n for what, n in others.items()}),))


def enough(refused: Pod, *before: Pod, options: dict[str, str] | None = None, scope: str = "container") -> list[str]:
    rules = rules_of("1.36.3", [0, 16], options, "single-numa-node", scope)
    machine, supplies = machine_of(TWO_NODES), supplies_of(TWO_NODES, STATIC, 36)
    assert admit_all(machine, rules, [*before, refused], supplies).admissions[-1].refused
    return [f"{one.what} {one.value}" for one in remedies(machine, rules, supplies, before, refused)]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        pytest.param(pod("17", memory="1Gi"), ["cpu 16", "topologyManagerPolicy best-effort"], id="CPUs of two nodes"),
        pytest.param(pod("4", memory="20Gi"), ["memory 15Gi", "topologyManagerPolicy best-effort"], id="memory of two"),
        pytest.param(
            pod("4", memory="1Gi", gpus="2"), [f"{GPU} 1", "topologyManagerPolicy best-effort"], id="GPUs of two"
        ),
        pytest.param(pod("40", memory="1Gi"), ["cpu 16"], id="too big for any policy"),
        pytest.param(pod("500m", memory="1Gi", gpus="3"), [f"{GPU} 1"], id="more GPUs than there are"),
        pytest.param(pod("17", memory="20Gi"), ["topologyManagerPolicy restricted"], id="two resources too big"),
    ],
)
def test_what_is_enough(refused: Pod, expected: list[str]) -> None:
    assert enough(refused) == expected


def test_of_several_containers_the_largest_is_made_smaller() -> None:
    main, side = Container("main", "24", others={"memory": "1Gi"}), Container("side", "2", others={"memory": "1Gi"})
    assert enough(Pod("p", (side, main))) == ["cpu of container main 16", "topologyManagerPolicy best-effort"]
    assert enough(Pod("p", (side, main)), scope="pod") == [
        "cpu of container main 14",
        "topologyManagerPolicy best-effort",
    ]


def test_whole_cores_are_advised_where_the_kubelet_takes_no_others() -> None:
    assert "cpu 16" in enough(pod("18", memory="1Gi"), options={"full-pcpus-only": "true"})


def test_the_pods_before_count() -> None:
    first = pod("12", memory="1Gi")
    assert "cpu 14" not in enough(pod("20"), replace(first, name="first"), replace(first, name="second"))


def test_another_scope_may_do() -> None:
    two = Pod("p", (Container("a", "10"), Container("b", "10")))
    assert enough(two, scope="pod") == [
        "cpu of container a 6",
        "topologyManagerScope container",
        "topologyManagerPolicy restricted",
    ]


def test_a_machine_has_what_the_kubelet_counts() -> None:
    found = supplies_of(TWO_NODES, STATIC, 36)
    assert found.memory[1] == {"memory": 16 * GIB, "hugepages-2Mi": GIB}
    assert found.allocatable == {"memory": 30 * GIB - 512 * 1024**2, "hugepages-2Mi": 2 * GIB}
    assert found.plugins == (DevicePlugin(GPU, {"0000:01:00.0": frozenset({0}), "0000:11:00.0": frozenset({1})}),)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({**STATIC, "memoryManagerPolicy": "None"}, id="no memory manager"),
        pytest.param({**STATIC, "featureGates": {"MemoryManager": False}}, id="its gate is off"),
    ],
)
def test_without_a_memory_manager_memory_counts_in_total_only(settings: dict[str, Any]) -> None:
    found = supplies_of(TWO_NODES, settings, 22)
    assert found.memory == {}
    assert found.allocatable["memory"] > 0


def test_a_machine_that_does_not_show_its_memory_has_devices_only() -> None:
    bare = replace(TWO_NODES, numa_nodes=tuple(replace(node, memory={}) for node in TWO_NODES.numa_nodes))
    found = supplies_of(bare, STATIC, 36)
    assert (found.memory, found.allocatable, len(found.plugins)) == ({}, {}, 1)
    rules = rules_of("1.36.3", [0, 16])
    assert Books.of(machine_of(bare), rules, Supplies()).admit(pod("4", memory="1Ti")).refused is None


def test_an_eviction_threshold_may_be_a_share() -> None:
    settings = {"kubeReserved": {"memory": "1Gi"}, "systemReserved": {}, "evictionHard": {"memory.available": "5%"}}
    assert reserved_memory_of(settings, 100 * GIB) == 6 * GIB
