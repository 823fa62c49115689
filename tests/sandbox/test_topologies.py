# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils._topology import Topology, read_topology

from sandbox.topologies import MACHINES, Machine, tree, write


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that goes after the test: a machine has ten thousand files."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def _read(name: str, folder: Path) -> Topology:
    write(tree(MACHINES[name]), folder)
    return read_topology(str(folder))


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
    ],
)
def test_generated_machines_read_as_told(
    folder: Path, name: str, online: str, sockets: int, numa_nodes: int, l3_groups: int, cores: int
) -> None:
    topology = _read(name, folder)
    counts = [len(topology[key]) for key in ("sockets", "numa_nodes", "l3_groups", "cores")]  # type: ignore[literal-required]
    assert (topology["online"], counts) == (online, [sockets, numa_nodes, l3_groups, cores])


def test_nps4_numbers_its_cpus_as_the_real_machine(folder: Path) -> None:
    topology = _read("epyc-7773x-nps4", folder)
    assert [socket["cpus"] for socket in topology["sockets"]] == ["0-63,128-191", "64-127,192-255"]
    assert topology["numa_nodes"][5]["cpus"] == "80-95,208-223"
    assert topology["l3_groups"][9]["cpus"] == "72-79,200-207"
    assert topology["cores"][64] == {"socket": 1, "core": 0, "numa_node": 4, "l3": 8, "cpus": "64,192"}
    assert [gpu["numa_node"] for gpu in topology["gpus"]] == list(range(8))
    assert topology["gpus"][2]["local_cpus"] == topology["numa_nodes"][2]["cpus"]


def test_masks_agree_with_lists(folder: Path) -> None:
    """cadvisor reads masks where kubepin reads lists."""
    machine = MACHINES["one-socket"]
    files = tree(machine)
    expected = _read("one-socket", folder / "lists")
    masks_only = {name: text for name, text in files.items() if not name.endswith(("cpulist", "_list"))}
    write(masks_only, folder / "masks")
    assert read_topology(str(folder / "masks"))["cpus"] == expected["cpus"]


def test_numa_nodes_link_their_cpus_and_tell_memory_and_distance(folder: Path) -> None:
    _read("epyc-7773x-nps4", folder)
    node = folder / "sys/devices/system/node/node3"
    assert (node / "cpu48/topology/core_id").read_text() == "48\n"
    assert (node / "distance").read_text() == "12 12 12 10 32 32 32 32\n"
    assert "MemTotal:       134217728 kB" in (node / "meminfo").read_text()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"numa_per_socket": 3}, "numa_per_socket is 3", id="nodes do not divide the cores"),
        pytest.param({"l3_per_socket": 7}, "l3_per_socket is 7", id="caches do not divide the cores"),
        pytest.param({"gpus": (2,)}, "gpus is", id="no such node"),
    ],
)
def test_senseless_machines_are_refused(changes: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Machine(**changes)
