# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import (
    Topology,
    read_topology,
    topology_of,
)

from tests.topologies import MACHINES, Machine, tree, write


def _read(name: str) -> Topology:
    return topology_of(Memory(tree(MACHINES[name])))


@pytest.mark.parametrize(
    ("name", "online", "sockets", "numa_nodes", "l3_groups", "cores"),
    [
        pytest.param("epyc-7773x-nps1", "0-255", 2, 2, 16, 128, id="NPS1"),
        pytest.param("epyc-7773x-nps2", "0-255", 2, 4, 16, 128, id="NPS2"),
        pytest.param("epyc-7773x-nps4", "0-255", 2, 8, 16, 128, id="NPS4"),
        pytest.param("epyc-7773x-l3-as-numa", "0-255", 2, 16, 16, 128, id="L3 as NUMA"),
        pytest.param("epyc-7773x-nps1-no-smt", "0-127", 2, 2, 16, 128, id="one thread per core"),
        pytest.param("one-socket", "0-31", 1, 1, 2, 16, id="one socket"),
        pytest.param("four-sockets", "0-191", 4, 4, 4, 96, id="four sockets"),
        pytest.param("adjacent-siblings", "0-127", 2, 2, 8, 32, id="adjacent siblings"),
        pytest.param("xeon-8480c", "0-223", 2, 2, 2, 112, id="an L3 cache a socket"),
        pytest.param("memory-only-node", "0-31", 2, 3, 4, 16, id="a NUMA node of memory alone"),
    ],
)
def test_generated_machines_read_as_told(
    name: str, online: str, sockets: int, numa_nodes: int, l3_groups: int, cores: int
) -> None:
    topology = _read(name)
    counts = [len(topology[key]) for key in ("sockets", "numa_nodes", "l3_groups", "cores")]
    assert (topology["online"], counts) == (online, [sockets, numa_nodes, l3_groups, cores])


def test_nps4_numbers_its_cpus_as_the_real_machine() -> None:
    topology = _read("epyc-7773x-nps4")
    assert [socket["cpus"] for socket in topology["sockets"]] == ["0-63,128-191", "64-127,192-255"]
    assert topology["numa_nodes"][5]["cpus"] == "80-95,208-223"
    assert topology["l3_groups"][9]["cpus"] == "72-79,200-207"
    assert topology["cores"][64] == {"socket": 1, "core": 0, "numa_node": 4, "l3": 8, "cpus": "64,192"}
    assert [gpu["numa_node"] for gpu in topology["gpus"]] == list(range(8))
    assert topology["gpus"][2]["local_cpus"] == topology["numa_nodes"][2]["cpus"]


def test_masks_agree_with_lists() -> None:
    """cadvisor reads masks where kubepin reads lists."""
    files = tree(MACHINES["epyc-7773x-nps2"])
    masks_only = {name: text for name, text in files.items() if not name.endswith(("cpulist", "_list"))}
    assert topology_of(Memory(masks_only))["cpus"] == topology_of(Memory(files))["cpus"]


def test_numa_nodes_tell_memory_and_distance() -> None:
    files = tree(MACHINES["epyc-7773x-nps4"])
    node = "sys/devices/system/node/node3"
    assert files[f"{node}/distance"] == "12 12 12 10 32 32 32 32"
    assert "MemTotal:       134217728 kB" in files[f"{node}/meminfo"]


def test_a_numa_node_of_memory_alone_has_no_cpu() -> None:
    node = _read("memory-only-node")["numa_nodes"][2]
    assert node == {"id": 2, "cpus": "", "memory": {"memory": 256 * 2**30, "hugepages-2Mi": 8 * 2**30}}


def test_a_written_machine_reads_as_in_memory(tmp_path: Path) -> None:
    machine = Machine(sockets=1, cores_per_socket=4, l3_per_socket=2, numa_per_socket=2, gpus=(1,))
    write(tree(machine), tmp_path)
    assert read_topology(str(tmp_path)) == topology_of(Memory(tree(machine)))
    assert (tmp_path / "sys/devices/system/node/node1/cpu2/topology/core_id").read_text() == "2\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"numa_per_socket": 3}, "numa_per_socket is 3", id="nodes do not divide the cores"),
        pytest.param({"l3_per_socket": 7}, "l3_per_socket is 7", id="caches do not divide the cores"),
        pytest.param({"gpus": (2,)}, "gpus is", id="no such node"),
        pytest.param({"memory_mib": (1024,)}, "memory_mib is", id="a node without memory"),
    ],
)
def test_senseless_machines_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**changes)
