# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that nobody has to own: trees of /sys and /proc as the kernel would show them.

A real kubelet reads them, once they are mounted over /sys/devices/system/cpu,
/sys/devices/system/node and /proc/cpuinfo (cadvisor's utils/sysfs names the files that it wants). They are generated, not
dumped: numbers that no reader wants are absent, and memory and distances are plausible, not measured.

    python -m tests.topologies                                  # the names
    python -m tests.topologies epyc-7773x-nps4 /tmp/nps4        # writes that tree
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

Tree = dict[str, str]
"""Path -> content, without the newline at its end; "-> target" is a symbolic link."""

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"
_PCI = "sys/bus/pci/devices"
_PAGES = "sys/kernel/mm/hugepages"
_LOCAL, _SAME_SOCKET, _OTHER_SOCKET = 10, 12, 32
"""Distances between NUMA nodes, as two EPYC 7003 show them."""


@dataclass(frozen=True)
class Machine:
    """What a machine consists of. NUMA nodes and L3 caches divide the cores of a socket evenly, in their order.

    `gpus` holds the NUMA node of each GPU. `memory_mib` names the memory of each NUMA node; without it, they share
    `memory_gib` evenly, and the tree has no /proc/meminfo. Nodes that it has beyond those of the sockets have memory
    alone (CXL, HBM). `huge_pages` is a number of pages of 2 MiB a node. With `adjacent_siblings` the threads of a core
    have neighbouring numbers, as on POWER; otherwise all first threads come before all second ones, as on x86.
    """

    sockets: int = 2
    cores_per_socket: int = 64
    threads: int = 2
    l3_per_socket: int = 8
    numa_per_socket: int = 1
    gpus: tuple[int, ...] = ()
    adjacent_siblings: bool = False
    memory_gib: int = 1024
    memory_mib: tuple[int, ...] = ()
    huge_pages: int = 0
    model: str = "AMD EPYC 7773X 64-Core Processor"

    def __post_init__(self) -> None:
        for name in ("l3_per_socket", "numa_per_socket"):
            if self.cores_per_socket % getattr(self, name):
                raise ValueError(
                    f"{name} is {getattr(self, name)}: expected a divisor of cores_per_socket ({self.cores_per_socket})"
                )
        if any(node not in range(self.numa_nodes) for node in self.gpus):
            raise ValueError(f"gpus is {self.gpus}: expected NUMA nodes below {self.numa_nodes}")

        if self.memory_mib and len(self.memory_mib) < self.numa_nodes:
            raise ValueError(
                f"memory_mib is {self.memory_mib}: expected one number for each of {self.numa_nodes} NUMA nodes, or more"
            )

    @property
    def cores(self) -> int:
        return self.sockets * self.cores_per_socket

    @property
    def numa_nodes(self) -> int:
        return self.sockets * self.numa_per_socket

    @property
    def memory_nodes(self) -> int:
        """The NUMA nodes with memory: those of the sockets, and those without CPUs."""
        return max(self.numa_nodes, len(self.memory_mib))

    def cpus_of(self, core: int) -> list[int]:
        """The CPUs of a core, counted over the machine."""
        if self.adjacent_siblings:
            return [core * self.threads + thread for thread in range(self.threads)]
        return [core + thread * self.cores for thread in range(self.threads)]

    def cpus_of_part(self, part: int, parts: int) -> list[int]:
        """The CPUs of one of `parts` equal parts of the machine: a socket, NUMA node or L3 group."""
        size = self.cores // parts
        return sorted(cpu for core in range(part * size, (part + 1) * size) for cpu in self.cpus_of(core))


def _eight_gpus(nodes: int) -> tuple[int, ...]:
    """Four GPUs a socket, spread over its NUMA nodes."""
    return tuple(sorted(gpu * nodes // 8 for gpu in range(8)))


_EPYC = Machine(gpus=_eight_gpus(2))
MACHINES: Mapping[str, Machine] = {
    "epyc-7773x-nps1": _EPYC,
    "epyc-7773x-nps2": replace(_EPYC, numa_per_socket=2, gpus=_eight_gpus(4)),
    "epyc-7773x-nps4": replace(_EPYC, numa_per_socket=4, gpus=_eight_gpus(8)),
    "epyc-7773x-l3-as-numa": replace(_EPYC, numa_per_socket=8, gpus=_eight_gpus(16)),
    "epyc-7773x-nps1-no-smt": replace(_EPYC, threads=1),
    "one-socket": Machine(sockets=1, cores_per_socket=16, l3_per_socket=2, gpus=(0, 0), memory_gib=128),
    "four-sockets": Machine(sockets=4, cores_per_socket=24, l3_per_socket=1, gpus=(0, 1, 2, 3)),
    "adjacent-siblings": Machine(
        sockets=2, cores_per_socket=16, threads=4, l3_per_socket=4, adjacent_siblings=True, gpus=(1,)
    ),
    "xeon-8480c": Machine(
        cores_per_socket=56,
        l3_per_socket=1,
        gpus=_eight_gpus(2),
        memory_gib=2048,
        model="Intel(R) Xeon(R) Platinum 8480C",
    ),
    "memory-only-node": Machine(
        cores_per_socket=8, l3_per_socket=2, gpus=(0, 1), memory_mib=(98304, 32768, 262144), huge_pages=4096
    ),
}
"""Machines with a name. The EPYC ones are two sockets of 64 cores, 8 cores an L3 cache, with 8 GPUs; the Xeon ones two of 56
cores, an L3 cache each."""


def tree(machine: Machine) -> Tree:
    """The files of a machine."""
    files: Tree = {**_machine_wide(machine), **_memory(machine), "proc/cpuinfo": _cpuinfo(machine)}
    for core in range(machine.cores):
        for cpu in machine.cpus_of(core):
            files.update(_cpu(machine, core, cpu))
    for node in range(machine.memory_nodes):
        files.update(_numa_node(machine, node))
    for number, node in enumerate(machine.gpus):
        files.update(_gpu(machine, number, node))
    return files


def _memory(machine: Machine) -> Tree:
    """What the kernel says of the memory of all NUMA nodes together."""
    pages = {f"{_PAGES}/hugepages-2048kB/nr_hugepages": str(machine.huge_pages * machine.memory_nodes)}
    total = f"MemTotal: {sum(machine.memory_mib) * 1024} kB\nMemAvailable: {sum(machine.memory_mib) * 1024} kB"
    return {**pages, "proc/meminfo": f"{total}\nSwapTotal: 0 kB"} if machine.memory_mib else {}


def write(files: Mapping[str, str], folder: Path) -> None:
    """Writes a tree below a folder, which is made if it is not there."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_text(content + "\n", encoding="utf-8")


def _machine_wide(machine: Machine) -> Tree:
    cpus = f"0-{machine.cores * machine.threads - 1}"
    nodes, with_cpus = (_list(range(count)) for count in (machine.memory_nodes, machine.numa_nodes))
    return {
        **{f"{_CPU}/{name}": cpus for name in ("online", "possible", "present")},
        f"{_CPU}/isolated": "",
        f"{_CPU}/smt/control": "on" if machine.threads > 1 else "off",
        **{f"{_NODE}/{name}": nodes for name in ("online", "possible", "has_memory")},
        f"{_NODE}/has_cpu": with_cpus,
    }


def _cpu(machine: Machine, core: int, cpu: int) -> Tree:
    socket = core // machine.cores_per_socket
    siblings = machine.cpus_of(core)
    package = machine.cpus_of_part(socket, machine.sockets)
    topology = {
        "physical_package_id": str(socket),
        "die_id": "0",
        "core_id": str(core % machine.cores_per_socket),
        "core_cpus_list": _list(siblings),
        "core_cpus": _mask(machine, siblings),
        "thread_siblings_list": _list(siblings),
        "thread_siblings": _mask(machine, siblings),
        "package_cpus_list": _list(package),
        "package_cpus": _mask(machine, package),
        "core_siblings_list": _list(package),
        "core_siblings": _mask(machine, package),
    }
    files = {f"{_CPU}/cpu{cpu}/topology/{name}": content for name, content in topology.items()}
    if cpu:
        files[f"{_CPU}/cpu{cpu}/online"] = "1"  # the kernel offers no switch for the first
    groups = machine.sockets * machine.l3_per_socket
    group = core * groups // machine.cores
    caches = [
        (1, "Data", "32K", core, siblings),
        (1, "Instruction", "32K", core, siblings),
        (2, "Unified", "512K", core, siblings),
        (3, "Unified", "98304K", group, machine.cpus_of_part(group, groups)),
    ]
    for index, (level, kind, size, number, shared) in enumerate(caches):
        cache = {
            "level": str(level),
            "type": kind,
            "size": size,
            "id": str(number),
            "shared_cpu_list": _list(shared),
            "shared_cpu_map": _mask(machine, shared),
        }
        files.update({f"{_CPU}/cpu{cpu}/cache/index{index}/{name}": content for name, content in cache.items()})
    return files


def _numa_node(machine: Machine, node: int) -> Tree:
    cpus = machine.cpus_of_part(node, machine.numa_nodes) if node < machine.numa_nodes else []
    evenly = machine.memory_gib * 1024 * 1024 // machine.numa_nodes
    kib = machine.memory_mib[node] * 1024 if machine.memory_mib else evenly
    folder = f"{_NODE}/node{node}"
    pages = {f"{folder}/hugepages/hugepages-2048kB/nr_hugepages": str(machine.huge_pages)} if machine.huge_pages else {}
    return {
        **pages,
        f"{folder}/cpulist": _list(cpus),
        f"{folder}/cpumap": _mask(machine, cpus),
        f"{folder}/distance": " ".join(str(_distance(machine, node, other)) for other in range(machine.memory_nodes)),
        f"{folder}/meminfo": f"Node {node} MemTotal:       {kib} kB\nNode {node} MemFree:        {kib} kB",
        **{f"{folder}/cpu{cpu}": f"-> ../../cpu/cpu{cpu}" for cpu in cpus},
    }


def _distance(machine: Machine, node: int, other: int) -> int:
    if node == other:
        return _LOCAL
    same_socket = node // machine.numa_per_socket == other // machine.numa_per_socket
    return _SAME_SOCKET if same_socket else _OTHER_SOCKET


def _gpu(machine: Machine, number: int, node: int) -> Tree:
    """A GeForce RTX 3090, on a bus of its own."""
    cpus = machine.cpus_of_part(node, machine.numa_nodes)
    device = {
        "class": "0x030000",
        "vendor": "0x10de",
        "device": "0x2204",
        "numa_node": str(node),
        "local_cpulist": _list(cpus),
        "local_cpus": _mask(machine, cpus),
    }
    return {f"{_PCI}/0000:{0x01 + 0x10 * number:02x}:00.0/{name}": content for name, content in device.items()}


def _cpuinfo(machine: Machine) -> str:
    core_of = {cpu: core for core in range(machine.cores) for cpu in machine.cpus_of(core)}
    return "\n".join(
        f"processor\t: {cpu}\nmodel name\t: {machine.model}\ncpu MHz\t\t: 2200.000\n"
        f"physical id\t: {core // machine.cores_per_socket}\ncore id\t\t: {core % machine.cores_per_socket}\n"
        for cpu, core in sorted(core_of.items())
    )


def _list(cpus: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _mask(machine: Machine, cpus: Iterable[int]) -> str:
    """Groups of 32 bits in hexadecimal digits, highest first (the kernel's cpumask_pr_args)."""
    bits = sum(1 << cpu for cpu in cpus)
    groups = -(-machine.cores * machine.threads // 32)
    return ",".join(f"{bits >> 32 * group & 0xFFFFFFFF:08x}" for group in reversed(range(groups)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.topologies", description="Write a generated machine's files."
    )
    parser.add_argument(
        "name", nargs="?", choices=list(MACHINES), help="which machine; without it, the names are printed"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="where its sys and proc are made")
    options = parser.parse_args()
    if options.name is None:
        print("\n".join(MACHINES))
    elif options.folder is None:
        parser.error("name a folder to write to")
    elif options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty: name a new folder")
    else:
        write(tree(MACHINES[options.name]), options.folder)


if __name__ == "__main__":
    main()
