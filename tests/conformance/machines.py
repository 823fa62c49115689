# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that kubelets get to see: generated trees, and dumps of real ones made whole enough for a kubelet."""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

from sandbox.settings import Version
from tests.conformance.standalone_kubelet import Place, StandaloneNode, standalone_node
from tests.topologies import MACHINES, Machine, tree, write

DUMPS = Path("collections/ansible_collections/kubepin/tuning/tests/unit/fixtures/topology")
DUMPED = {
    "x86_64-epyc_7451": "util-linux",
    "64amd64-4s2n4ca2co": "hwloc",
    "48amd64-4d2n6c-sparse": "hwloc",
    "offline-cpu0-node0": "hwloc",
}
"""Dumps of real machines, and the archive that holds each."""
WITH_MEMORY = {
    "numa-1": Machine(1, 16, 2, 2, 1, memory_mib=(16384,), huge_pages=512),
    "numa-2": Machine(2, 16, 2, 1, 1, memory_mib=(16384, 12288), huge_pages=256),
    "numa-3": Machine(3, 12, 1, 1, 1, memory_mib=(8192, 8192, 16384)),
    "numa-4": Machine(2, 16, 2, 2, 2, memory_mib=(8192,) * 4, huge_pages=512),
    "numa-5": Machine(5, 8, 1, 1, 1, memory_mib=(4096, 8192, 8192, 8192, 6144), huge_pages=128),
    "numa-6": Machine(2, 24, 1, 3, 3, memory_mib=(8192,) * 6),
    "numa-7": Machine(1, 28, 2, 7, 7, memory_mib=(4096,) * 7, huge_pages=64),
    "numa-8": Machine(2, 32, 2, 4, 4, memory_mib=(4096, 8192) * 4, huge_pages=128),
    "numa-2-and-4": Machine(2, 24, 1, 1, 1, memory_mib=(16384, 16384, 8192, 8192, 8192, 8192)),
}
"""Machines of 1 to 8 NUMA nodes, in one of them 4 without CPUs, whose memory the kubelet gets to see too."""
GENERATED = {**MACHINES, **WITH_MEMORY}
NAMES = (*GENERATED, *DUMPED)


@contextmanager
def node_with(
    machines: Sequence[str], versions: Sequence[Version], place: Place
) -> Iterator[tuple[StandaloneNode, dict[str, Topology]]]:
    """A node outside any cluster that has these machines' files, and how kubepin reads each machine.

    :raises SandboxError: if a version is not built
    """
    with tempfile.TemporaryDirectory() as folder, standalone_node(place) as node:
        for version in versions:
            node.require(version)
        topologies = {name: make(name, Path(folder) / name) for name in machines}
        for name in topologies:
            node.put_tree(name, Path(folder) / name)
        yield node, topologies


def make(name: str, folder: Path) -> Topology:
    """Writes the files of a machine to a folder, and returns how kubepin reads them.

    Dumps were cut down to what kubepin reads. A kubelet also wants the links from NUMA nodes to CPUs and the caches' `size`;
    it counts sockets in /proc/cpuinfo. These are added, and the number of a cache where the dump has none.
    """
    if name in GENERATED:
        write(tree(GENERATED[name]), folder)
        return Topology.of(read_topology(str(folder)))
    with tarfile.open(DUMPS / f"{DUMPED[name]}.tar.xz") as archive:
        members = [member for member in archive.getmembers() if member.name.startswith(f"{name}/")]
        for member in members:
            member.name = member.name.removeprefix(f"{name}/")
        archive.extractall(folder, members, filter="data")
    topology = Topology.of(read_topology(str(folder)))
    _complete(folder, topology)
    return topology


def _complete(folder: Path, topology: Topology) -> None:
    system = folder / "sys/devices/system"
    for node in topology.numa_nodes:
        for cpu in sorted(_members(system / f"node/node{node.id}")):
            link = system / f"node/node{node.id}/cpu{cpu}"
            if not link.is_symlink() and (system / f"cpu/cpu{cpu}").exists():
                link.symlink_to(f"../../cpu/cpu{cpu}")
    for cache in system.glob("cpu/cpu*/cache/index*"):
        if not (cache / "size").exists():
            (cache / "size").write_text("512K\n")
        if not (cache / "id").exists():
            (cache / "id").write_text(f"{_lowest(cache, int(cache.parent.parent.name.removeprefix('cpu')))}\n")
    blocks = [
        f"processor\t: {cpu.id}\ncpu MHz\t\t: 2000.000\nphysical id\t: {cpu.socket}\ncore id\t\t: {cpu.core}\n"
        for cpu in topology.cpus
        if cpu.online
    ]
    (folder / "proc").mkdir(exist_ok=True)
    (folder / "proc/cpuinfo").write_text("\n".join(blocks) + "\n")


def _members(node: Path) -> frozenset[int]:
    """The CPUs of a NUMA node, offline ones too: the kernel links them all."""
    if (node / "cpulist").exists():
        return parse_cpuset((node / "cpulist").read_text())
    bits = int(re.sub(r"[^0-9a-f]", "", (node / "cpumap").read_text().lower()), 16)
    return frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def _lowest(cache: Path, cpu: int) -> int:
    for name in ("shared_cpu_list", "shared_cpu_map"):
        if (cache / name).exists():
            text = (cache / name).read_text()
            if name == "shared_cpu_list":
                return min(parse_cpuset(text))
            bits = int(text.strip().replace(",", ""), 16)
            return (bits & -bits).bit_length() - 1
    return cpu
