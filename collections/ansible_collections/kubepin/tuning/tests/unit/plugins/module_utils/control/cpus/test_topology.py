# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import machine_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import (
    Core,
    CpuGroup,
    Gpu,
    NumaNode,
    Topology,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.dumps import topologies
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import (
    EPYC_7773X_PAIR,
    topology,
    topology_facts,
)

from tests.topologies import MACHINES, tree

GENERATED = {name: topology_of(Memory(tree(machine))) for name, machine in MACHINES.items()}


def test_a_machine_is_read() -> None:
    machine = Topology.of(GENERATED["epyc-7773x-nps4"])
    node = frozenset({*range(80, 96), *range(208, 224)})
    assert (machine.online, machine.offline, machine.isolated) == (frozenset(range(256)), frozenset(), frozenset())
    assert machine.sockets[0] == CpuGroup(0, frozenset({*range(64), *range(128, 192)}))
    assert machine.numa_nodes[5] == NumaNode(5, node, {"memory": 2**37})
    assert machine.l3_groups[9].cpus == frozenset({*range(72, 80), *range(200, 208)})
    assert machine.cores[64] == Core(socket=1, numa_node=4, l3=8, cpus=frozenset({64, 192}))
    assert machine.gpus[5] == Gpu("0000:51:00.0", 5, node)
    assert (machine.threads_per_core, len(machine.cpus)) == (2, 256)


@pytest.mark.parametrize("source", ["generated", "hwloc", "util-linux"])
def test_every_machine_that_the_module_reads_can_be_read_from_a_file_of_it(source: str) -> None:
    for name, facts in (GENERATED if source == "generated" else topologies(source)).items():
        machine = Topology.of(json.loads(json.dumps(facts)))
        assert format_cpuset(machine.online) == facts["online"], name
        assert format_cpuset(machine.offline) == facts["offline"], name
        assert machine.threads_per_core == facts["threads_per_core"], name
        assert [format_cpuset(core.cpus) for core in machine.cores] == [core["cpus"] for core in facts["cores"]], name
        assert [cpu.id for cpu in machine.cpus if cpu.online] == sorted(machine.online), name


@pytest.mark.parametrize(
    ("machine", "counts", "counted"),
    [
        pytest.param(EPYC_7773X_PAIR, [2], 2, id="equal cores"),
        pytest.param(
            topology(cores=20, threads=2, missing=tuple(range(28, 40))),
            [1, 2],
            1,
            id="hybrid cores: 28 CPUs // 20 cores",
        ),
        pytest.param(topology(cores=48, threads=2, missing=(95,)), [1, 2], 1, id="one CPU offline: 95 // 48"),
        pytest.param(topology(cores=2, threads=8, missing=(15,)), [7, 8], 7, id="15 // 2"),
        pytest.param(topology(cores=0), [], None, id="nothing known"),
    ],
)
def test_threads_are_counted_as_the_kubelet_does(machine: Topology, counts: list[int], counted: int | None) -> None:
    assert (machine.thread_counts, machine.threads_as_counted) == (counts, counted)
    assert counted is None or machine_of(machine).cpus_per_core == counted


def test_isolated_cpus_that_are_offline_do_not_count() -> None:
    assert topology(cores=4, missing=(3,), offline="3", isolated="2-3").isolated == frozenset({2})


def test_the_cpus_near_a_gpu_are_its_own_or_those_of_its_numa_node() -> None:
    machine = topology(cores=4, numa_nodes=2)
    assert machine.near(Gpu("a", 1, frozenset({0, 9}))) == frozenset({0})
    assert machine.near(Gpu("a", 1, frozenset())) == frozenset({2, 3})
    assert machine.near(Gpu("a", None, frozenset())) == machine.near(Gpu("a", 7, frozenset())) == frozenset()


def changed(place: str, value: Any) -> dict[str, Any]:
    """The facts of a machine with another value in this place; without it for None."""
    facts: Any = topology_facts(gpus_on=(0,))
    *parents, last = place.split(".")
    inner = facts
    for parent in parents:
        inner = inner[int(parent) if parent.isdigit() else parent]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return dict(facts)


def test_facts_of_earlier_releases_do_not_tell_what_confines_the_system() -> None:
    facts = topology_facts(cores=2)
    del facts["housekeeping"]
    assert (Topology.of(facts).housekeeping, Topology.of(facts).system) == ({}, frozenset({0, 1}))


@pytest.mark.parametrize(
    ("facts", "finding"),
    [
        pytest.param(["0-3"], "it is ['0-3'] (expected a dictionary)", id="no dictionary"),
        pytest.param({}, "schema is missing (expected 1)", id="nothing"),
        pytest.param(changed("schema", 2), "schema is 2 (expected 1)", id="another schema"),
        pytest.param(changed("online", None), "online is missing (expected a CPU list", id="no CPUs"),
        pytest.param(changed("online", "0-"), 'online is "0-" (expected a CPU list such as "0-3,8", or an empty text)', id="no list"),
        pytest.param(changed("isolated", [0]), "isolated is [0] (expected a CPU list", id="a list of numbers"),
        pytest.param(changed("gpus", {}), "gpus is {} (expected a list of dictionaries)", id="a dictionary"),
        pytest.param(changed("sockets.0", 3), "sockets[0] is 3 (expected a dictionary)", id="an entry that is none"),
        pytest.param(changed("cpus.1.core", -1), "cpus[1].core is -1 (expected a whole number from 0 on, or null)", id="below 0"),
        pytest.param(changed("cpus.1.l3", True), "cpus[1].l3 is True (expected a whole number from 0 on, or null)", id="no number"),
        pytest.param(changed("cpus.1.id", "1"), 'cpus[1].id is "1" (expected a whole number from 0 on)', id="a text"),
        pytest.param(changed("cpus.1.online", 1), "cpus[1].online is 1 (expected true or false)", id="no flag"),
        pytest.param(changed("gpus.0.address", 21), "gpus[0].address is 21 (expected a text)", id="no text"),
        pytest.param(changed("numa_nodes.0.memory", None), "numa_nodes[0].memory is missing (expected a dictionary of bytes)",
                     id="no memory"),
        pytest.param(changed("numa_nodes.0.memory.memory", "64Gi"),
                     'numa_nodes[0].memory.memory is "64Gi" (expected a whole number from 0 on)', id="no bytes"),
        pytest.param(changed("cores.1.cpus", ""), 'cores[1].cpus is "" (expected one or more of the online CPUs (0-1))',
                     id="an empty core"),
        pytest.param(changed("cores.1.cpus", "2"), 'cores[1].cpus is "2" (expected one or more of the online CPUs (0-1))',
                     id="a core that is offline"),
        pytest.param(changed("housekeeping", {"CPUAffinity": "9"}),
                     'housekeeping.CPUAffinity is "9" (expected one or more of the online CPUs (0-1))', id="a CPU that is not there"),
        pytest.param(changed("housekeeping", "0"), 'housekeeping is "0" (expected a dictionary of CPU lists)', id="no sets of CPUs"),
        pytest.param(changed("offline", "x" * 99), f'offline is "{"x" * 59}... (expected', id="a long text"),
    ],
)  # fmt: skip
def test_facts_that_cannot_be_read_are_named(facts: object, finding: str) -> None:
    with pytest.raises(TuningError) as refused:
        Topology.of(facts)
    assert str(refused.value).startswith(f"the topology cannot be read: {finding}")
    assert str(refused.value).endswith(
        "Give `topology` of this version's module kubepin.tuning.cpu_topology_info as it is."
    )
    assert [problem["code"] for problem in refused.value.details["problems"]] == ["topology_unreadable"]


def test_all_that_cannot_be_read_is_named_at_once_up_to_ten() -> None:
    facts = {**topology_facts(cores=16), "online": None}
    for cpu in facts["cpus"]:
        cpu["core"] = "x"
    with pytest.raises(TuningError) as refused:
        Topology.of(facts)
    assert "read: online is null (expected" in str(refused.value)
    assert 'cpus[8].core is "x" (expected a whole number from 0 on, or null); and 23 more. Give' in str(refused.value)
