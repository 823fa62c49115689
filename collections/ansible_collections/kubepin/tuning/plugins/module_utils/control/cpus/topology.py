# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the machine as decisions see it, parsed once from the facts of the module cpu_topology_info."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpus.cores import threads_as_counted
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus import problems

CpuSet = frozenset[int]

SCHEMA = 1
"""The version of the facts that `Topology.of` reads."""
_MISSING = object()
_LONGEST = 60
"""How much of a value a message quotes."""


@dataclass(frozen=True)
class Cpu:
    """One logical CPU. Numbers that the kernel does not report are None."""

    id: int
    online: bool
    socket: int | None
    core: int | None
    """Unique within a die or socket only."""
    numa_node: int | None
    l3: int | None


@dataclass(frozen=True)
class CpuGroup:
    """The online CPUs of one socket, NUMA node or L3 cache."""

    id: int
    cpus: CpuSet


@dataclass(frozen=True)
class NumaNode(CpuGroup):
    """A NUMA node; one of memory alone has no CPU."""

    memory: Mapping[str, int]
    """"memory", which includes the huge pages, and "hugepages-SIZE", as Kubernetes names them, to bytes; empty if the
    kernel does not report it."""


@dataclass(frozen=True)
class Core:
    """The online CPUs of one physical core, at least one."""

    socket: int | None
    numa_node: int | None
    l3: int | None
    cpus: CpuSet


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU on the PCI bus."""

    address: str
    numa_node: int | None
    local_cpus: CpuSet
    """Empty if the kernel does not report them."""


@dataclass(frozen=True)
class Topology:
    """What decisions use of the facts. Cores are in the order of their lowest CPU, everything else of its number."""

    cpus: tuple[Cpu, ...]
    """Offline ones too."""
    online: CpuSet
    offline: CpuSet
    isolated: CpuSet
    """The online CPUs that the kernel's parameter isolcpus takes from its scheduler."""
    sockets: tuple[CpuGroup, ...]
    numa_nodes: tuple[NumaNode, ...]
    l3_groups: tuple[CpuGroup, ...]
    cores: tuple[Core, ...]
    gpus: tuple[Gpu, ...]
    housekeeping: Mapping[str, CpuSet] = field(default_factory=dict)
    """What confines the system's own work (nohz_full, CPUAffinity, irqaffinity) -> the online CPUs that it leaves to it."""

    @classmethod
    def of(cls, facts: object) -> Topology:
        """The machine that the facts describe; they may come from a file.

        :param facts: `topology` of the module cpu_topology_info
        :raises TuningError: naming every fact that cannot be read
        """
        if not isinstance(facts, Mapping):
            raise _unreadable([_finding("it", facts, "a dictionary")])
        schema = facts.get("schema", _MISSING)
        if schema != SCHEMA:
            raise _unreadable([_finding("schema", schema, str(SCHEMA))])
        found: list[str] = []
        topology = _parsed(_Entry(facts, "", found))
        if found:
            raise _unreadable(found)
        return topology

    @property
    def system(self) -> CpuSet:
        """The online CPUs that everything leaves to the system; without contradictory settings, none of them isolated."""
        free = self.online - self.isolated
        return free.intersection(*self.housekeeping.values()) or free

    @property
    def thread_counts(self) -> list[int]:
        """The different numbers of online CPUs that the cores have, in order: 1 and 2 for hybrid processors."""
        return sorted({len(core.cpus) for core in self.cores})

    @property
    def threads_per_core(self) -> int:
        """The most online CPUs that a core has; 1 if no core is known."""
        return max(self.thread_counts, default=1)

    @property
    def threads_as_counted(self) -> int | None:
        """How many CPUs a core has for the kubelet; None if no core is known."""
        return threads_as_counted(len(self.online), len(self.cores))

    def near(self, gpu: Gpu) -> CpuSet:
        """The online CPUs near a GPU: its local CPUs, or those of its NUMA node."""
        of_node = (node.cpus for node in self.numa_nodes if node.id == gpu.numa_node)
        return (gpu.local_cpus or next(of_node, frozenset())) & self.online


def _parsed(facts: _Entry) -> Topology:
    online = facts.cpus("online")
    return Topology(
        cpus=tuple(
            Cpu(
                id=cpu.number("id"),
                online=cpu.flag("online"),
                socket=cpu.number_or_null("socket"),
                core=cpu.number_or_null("core"),
                numa_node=cpu.number_or_null("numa_node"),
                l3=cpu.number_or_null("l3"),
            )
            for cpu in facts.entries("cpus")
        ),
        online=online,
        offline=facts.cpus("offline"),
        isolated=facts.cpus("isolated") & online,
        sockets=_groups(facts, "sockets"),
        numa_nodes=tuple(
            NumaNode(node.number("id"), node.cpus("cpus"), node.amounts("memory"))
            for node in facts.entries("numa_nodes")
        ),
        l3_groups=_groups(facts, "l3_groups"),
        cores=tuple(
            Core(
                socket=core.number_or_null("socket"),
                numa_node=core.number_or_null("numa_node"),
                l3=core.number_or_null("l3"),
                cpus=core.some_of("cpus", online),
            )
            for core in facts.entries("cores")
        ),
        gpus=tuple(
            Gpu(gpu.text("address"), gpu.number_or_null("numa_node"), gpu.cpus("local_cpus"))
            for gpu in facts.entries("gpus")
        ),
        housekeeping=facts.cpu_sets_if_any("housekeeping", online),
    )


def _groups(facts: _Entry, name: str) -> tuple[CpuGroup, ...]:
    return tuple(CpuGroup(group.number("id"), group.cpus("cpus")) for group in facts.entries(name))


class _Entry:
    """One dictionary of the facts. A value that cannot be read is noted, and a placeholder of its type returned, so that
    all of them are found.

    :param path: where it is in the facts, such as ``cores[3].``
    :param found: what cannot be read, for people
    """

    def __init__(self, values: Mapping[object, object], path: str, found: list[str]) -> None:
        self._values = values
        self._path = path
        self._found = found

    def number(self, name: str) -> int:
        value = self._values.get(name, _MISSING)
        if _is_number(value):
            return value
        self._refuse(name, value, "a whole number from 0 on")
        return 0

    def number_or_null(self, name: str) -> int | None:
        value = self._values.get(name, _MISSING)
        if value is None or _is_number(value):
            return value
        self._refuse(name, value, "a whole number from 0 on, or null")
        return None

    def flag(self, name: str) -> bool:
        value = self._values.get(name, _MISSING)
        if isinstance(value, bool):
            return value
        self._refuse(name, value, "true or false")
        return False

    def text(self, name: str) -> str:
        value = self._values.get(name, _MISSING)
        if isinstance(value, str):
            return value
        self._refuse(name, value, "a text")
        return ""

    def cpus(self, name: str) -> CpuSet:
        value = self._values.get(name, _MISSING)
        if isinstance(value, str):
            try:
                return parse_cpuset(value)
            except CpusetError:
                pass
        self._refuse(name, value, 'a CPU list such as "0-3,8", or an empty text')
        return frozenset()

    def some_of(self, name: str, online: CpuSet) -> CpuSet:
        """A CPU list that is not empty, of online CPUs only."""
        noted = len(self._found)
        cpus = self.cpus(name)
        if len(self._found) == noted and not (cpus and cpus <= online):
            self._refuse(
                name, self._values[name], f"one or more of the online CPUs ({format_cpuset(online) or 'none'})"
            )
        return cpus

    def cpu_sets_if_any(self, name: str, online: CpuSet) -> dict[str, CpuSet]:
        """Sets of online CPUs by name; facts of earlier releases do not have them."""
        value = self._values.get(name, {})
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            sets = _Entry(value, f"{self._path}{name}.", self._found)
            return {key: sets.some_of(key, online) for key in value}
        self._refuse(name, value, "a dictionary of CPU lists")
        return {}

    def amounts(self, name: str) -> dict[str, int]:
        value = self._values.get(name, _MISSING)
        if isinstance(value, Mapping) and all(isinstance(kind, str) for kind in value):
            amounts = _Entry(value, f"{self._path}{name}.", self._found)
            return {kind: amounts.number(kind) for kind in value}
        self._refuse(name, value, "a dictionary of bytes")
        return {}

    def entries(self, name: str) -> Iterator[_Entry]:
        value = self._values.get(name, _MISSING)
        if not isinstance(value, list):
            self._refuse(name, value, "a list of dictionaries")
            return
        for number, entry in enumerate(value):
            if isinstance(entry, Mapping):
                yield _Entry(entry, f"{self._path}{name}[{number}].", self._found)
            else:
                self._refuse(f"{name}[{number}]", entry, "a dictionary")

    def _refuse(self, name: str, value: object, expected: str) -> None:
        self._found.append(_finding(f"{self._path}{name}", value, expected))


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _finding(place: str, value: object, expected: str) -> str:
    if value is _MISSING:
        return f"{place} is missing (expected {expected})"
    shown = f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value)
    return f"{place} is {shown if len(shown) <= _LONGEST else f'{shown[:_LONGEST]}...'} (expected {expected})"


def _unreadable(found: list[str]) -> TuningError:
    return TuningError(problems.topology_unreadable(found))
