# SPDX-License-Identifier: GPL-3.0-or-later
"""Every dump of a machine that hwloc and util-linux keep for their own tests, against what they expect of lstopo and lscpu."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import Topology
from ansible_collections.kubepin.tuning.tests.unit.samples.dumps import (
    Dump,
    Expected,
    expected_of_lscpu,
    expected_of_lstopo,
    load,
    topologies,
)

_CGROUP = "lstopo shows the CPUs that the dumped cgroup allowed; the kubelet's are those of the machine"
_NO_SOCKET = "the kernel numbers no sockets; lstopo and lscpu count core_siblings, the kubelet reads the number only"
_NO_NODE = "lstopo makes up one NUMA node where the kernel has none"
_PLACED = "lstopo places nodes of memory alone beside CPUs, the kernel names no CPU of theirs"
_UNITS = "lstopo counts core_id, the kernel's thread_siblings pair the two halves of an Opteron module"
_FILTERED = "lstopo was told to merge levels"

DIFFERENCES: dict[tuple[str, str], str] = {
    **{
        (name, "online"): _CGROUP
        for name in (
            "16amd64-4n4c-cgroup-distance-merge.output",
            "16amd64-8n2c-cpusets.output",
            "16amd64-8n2c-cpusets.xml.output",
            "16em64t-4s2ca2c-cpusetreorder.output",
            "16em64t-4s2ca2c-cpusetreorder-merge.output",
            "32amd64-4s2n4c-cgroup2.output",
            "32amd64-4s2n4c-cgroup2.xml.output",
            "4fake-4gr1nu1pu.output",
        )
    },
    **{
        (name, "sockets"): _NO_SOCKET
        for name in (
            "20s390-2g6s4c.output",
            "256ppc-8n8s4t.output",
            "2s390-2c.output",
            "4ia64-4s.output",
            "lscpu-ppc-qemu",
            "lscpu-ppc64-POWER7",
            "lscpu-ppc64-POWER7-64cpu",
            "lscpu-s390-kvm",
            "lscpu-s390-lpar",
            "lscpu-s390-zvm",
            "lscpu-sparc64",
        )
    },
    ("16ia64-8n2s.output", "sockets"): "two sockets have one number, which is what the kubelet goes by",
    ("40intel64-4n10c+pci-conflicts.output", "sockets"): "lstopo loses a socket to a group of a PCI device's wrong locality",
    ("40intel64-4n10c+pci-conflicts.output", "l3_groups"): "lstopo loses a cache to a group of a PCI device's wrong locality",
    **{
        (name, "l3_groups"): _FILTERED
        for name in (
            "16amd64-4n4c-cgroup-distance-merge.output",
            "16em64t-4s2c2t_merge.output",
            "16em64t-4s2ca2c-cpusetreorder-merge.output",
        )
    },
    ("64fake-4n2s2ca2c2t.output", "l3_groups"): "made up: its CPU lists contradict its masks, which lstopo reads",
    **{
        (name, "cores"): _UNITS
        for name in ("64amd64-4s2n4ca2co.output", "64amd64-4p2n4ca2co.output", "64amd64-4p2n4ca2co.topoextnuma.output")
    },
    **{
        (name, "numa_nodes"): _NO_NODE
        for name in (
            "20s390-2g6s4c.output",
            "2arm-2c.output",
            "2i386-2c-nohugepage.xml.output",
            "2i386-2t-hugepagesizecount.xml.output",
            "2ps3-2t.output",
            "2s390-2c.output",
        )
    },
    **{
        (name, "numa_nodes"): _PLACED
        for name in (
            "64intel64-fakeKNL-SNC4-hybrid.output",
            "64intel64-fakeKNL-SNC4-hybrid-msc.output",
            "fakeheteromemtiers.output",
            "fakememinitiators-1np2c+1npp+gi.output",
            "nvidiagpunumanodes.kept.output",
        )
    },
    ("nvidiagpunumanodes.output", "numa_nodes"): "lstopo leaves out the memory of GPUs unless it is told to keep it",
    ("fakeheterocpunuma.output", "numa_nodes"): "made up: CPUs in several NUMA nodes at once, which lstopo takes in a debug mode",
    ("8em64t-2s2ca2c-buggynuma.output", "numa_nodes"): "firmware names all CPUs in all nodes; lstopo drops the nodes that are left empty",
}  # fmt: skip
"""(output, what) -> why ours is another. A difference that is gone fails the test, too."""

ALL = [
    pytest.param(name, dump, output, id=f"{archive}-{output}")
    for archive in ("hwloc", "util-linux")
    for name, dump in load(archive).items()
    for output in dump.expected
    if not output.endswith((".options", ".env"))
]


@pytest.fixture(scope="module")
def read() -> dict[str, Topology]:
    """Dump -> its topology."""
    return {**topologies("hwloc"), **topologies("util-linux")}


def _expected(dump: Dump, output: str) -> Expected:
    text = dump.expected[output]
    if output.startswith("lscpu-"):
        return expected_of_lscpu(text)
    return expected_of_lstopo(text, dump.expected.get(output.replace(".output", ".options"), ""))


def _differing(topology: Topology, expected: Expected) -> set[str]:
    """What differs, of the CPUs that the tool shows."""
    online = parse_cpuset(topology["online"])
    shown = online if expected.online is None else expected.online
    found = set() if shown == online else {"online"}
    assert shown <= online
    for what in ("sockets", "cores", "l3_groups"):
        told = getattr(expected, what)
        ours = {parse_cpuset(group["cpus"]) & shown for group in topology[what]} - {frozenset()}  # type: ignore[literal-required]
        found |= {what} if told is not None and told != ours else set()
    if expected.numa_nodes is not None:
        nodes = {node["id"]: parse_cpuset(node["cpus"]) & shown for node in topology["numa_nodes"]}
        told_nodes = {number: cpus & shown for number, cpus in expected.numa_nodes.items()}
        if "online" in found:  # nodes outside the cgroup are not shown
            nodes = {number: cpus for number, cpus in nodes.items() if cpus}
            told_nodes = {number: cpus for number, cpus in told_nodes.items() if number in nodes or cpus}
            nodes = {number: cpus for number, cpus in nodes.items() if number in told_nodes}
        found |= {"numa_nodes"} if nodes != told_nodes else set()
    for what, count in expected.counts.items():
        ours_counted = topology[what]  # type: ignore[literal-required]
        found |= {what} if count != (ours_counted if isinstance(ours_counted, int) else len(ours_counted)) else set()
    return found


@pytest.mark.parametrize(("name", "dump", "output"), ALL)
def test_reads_what_the_packages_expect(read: dict[str, Topology], name: str, dump: Dump, output: str) -> None:
    known = {what for told, what in DIFFERENCES if told == output}
    assert _differing(read[name], _expected(dump, output)) == known


def test_every_dump_has_an_expectation() -> None:
    counts = {archive: len(load(archive)) for archive in ("hwloc", "util-linux")}
    assert counts == {"hwloc": 49, "util-linux": 16}
    assert {param.values[0] for param in ALL} == {name for archive in counts for name in load(archive)}
    assert {output for output, _what in DIFFERENCES} <= {param.values[2] for param in ALL}


@pytest.mark.parametrize("archive", ["hwloc", "util-linux"])
def test_every_online_cpu_is_in_one_core_and_at_most_one_group(read: dict[str, Topology], archive: str) -> None:
    for name in load(archive):
        topology = read[name]
        online = parse_cpuset(topology["online"])
        for what in ("cores", "sockets", "numa_nodes", "l3_groups"):
            sets = [parse_cpuset(group["cpus"]) for group in topology[what]]  # type: ignore[literal-required]
            together = frozenset().union(*sets)
            assert sum(map(len, sets)) == len(together), (name, what)
            assert together <= online, (name, what)
            assert what != "cores" or together == online, name


@pytest.mark.parametrize(
    ("name", "offline", "threads_per_core", "memory_only"),
    [
        pytest.param("s390-lpar", "0,6-7", 1, [], id="offline CPUs of s390"),
        pytest.param("offline-cpu0-node0", "0-3,21-23", 1, [], id="CPU 0 offline"),
        pytest.param("x86-5intel64-hybrid-lakefield", "", 1, [], id="hybrid cores"),
        pytest.param("nvidiagpunumanodes", "", 4, [250, 251, 252, 253, 254, 255], id="GPU memory as NUMA nodes"),
        pytest.param("fakeheteromemtiers", "", 1, [4, 6, 8, 9], id="memory-less CPUs and nodes of memory alone"),
        pytest.param("fakecpuid1f-64intel64-2p4d2n2c2t", "", 2, [], id="16 NUMA nodes"),
    ],
)
def test_what_the_tools_do_not_tell(
    read: dict[str, Topology], name: str, offline: str, threads_per_core: int, memory_only: list[int]
) -> None:
    topology = read[name]
    assert (topology["offline"], topology["threads_per_core"]) == (offline, threads_per_core)
    assert [node["id"] for node in topology["numa_nodes"] if not node["cpus"]] == memory_only
