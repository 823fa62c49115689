# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: decides which CPUs are reserved for the system."""

from __future__ import annotations

import enum
import math
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Core, CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

AUTO = "auto"
_MOST_ROUNDED = 8
"""Rounding to whole L3 groups reserves at most one in this many CPUs."""


class Spread(enum.Enum):
    """Which cores ``auto`` takes."""

    LOWEST = "the lowest cores of one NUMA node"
    L3 = "whole L3 groups"


@dataclass(frozen=True)
class Reservation:
    """CPUs reserved for the kubelet, the runtime and the system, and why these were chosen."""

    cpus: CpuSet
    explanation: str


def auto_count(online: int, millicores_configured: int = 0) -> int:
    """How many CPUs ``auto`` reserves on a node with *online* CPUs, before rounding up to whole cores.

    6 % of the first CPU, 1 % of the second, 0.5 % of the next two and 0.25 % of the rest: the formula by which GKE sizes
    kubeReserved ("Plan GKE node sizes"). Never fewer than the node's own kubeReserved and systemReserved require
    (*millicores_configured*), because reservedSystemCPUs replaces both (cmd/kubelet/app/server.go).
    """
    return max(1, math.ceil(max(auto_millicores(online), float(millicores_configured)) / 1000))


def auto_millicores(online: int) -> float:
    """The result of the formula in `auto_count`, in thousandths of a CPU."""
    shares = [60.0, 10.0, 5.0, 5.0]
    return sum(shares[:online]) + max(0, online - len(shares)) * 2.5


def reservation_reasons(
    topology: Topology,
    reservation: Reservation,
    wanted: str,
    count: t.Optional[int],
    configured: str,
    millicores_configured: int,
    spread: Spread = Spread.LOWEST,
) -> t.List[str]:
    """Why `choose`, with the same arguments, reserved this number of CPUs, and these: sentences for people."""
    total = len(reservation.cpus)
    if wanted != AUTO:
        return [f"reserved_cpus names {'it' if total == 1 else 'them'}."]
    if count is None and configured and parse_cpuset(configured) == reservation.cpus:
        return ["The kubelet's reservedSystemCPUs has them already, and they are whole cores of this machine: kept."]
    online = len(topology.online)
    if count is not None:
        many = f"reserved_cpu_count is {count}."
    else:
        many = (
            f"{auto_millicores(online):.0f} millicores for {counted(online, 'CPU')} online (6 % of the first, 1 % of the second, 0.5 % of "
            f"the next two, 0.25 % of the rest); kubeReserved and systemReserved ask for {millicores_configured}. The larger of both, in "
            f"whole {_units(topology, reservation.cpus, spread)}: {counted(total, 'CPU')}."
        )
    return [many, _why_these(topology, reservation.cpus, spread)]


def _units(topology: Topology, cpus: CpuSet, spread: Spread) -> str:
    """What the reservation consists of."""
    if spread is Spread.L3 and _is_whole_l3(topology, cpus):
        return "L3 groups"
    return f"cores of {_threads(topology)}"


def _threads(topology: Topology) -> str:
    """``2 threads``, or ``1 or 2 threads`` on a hybrid processor."""
    counts = topology.thread_counts
    return " or ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")


def _why_these(topology: Topology, cpus: CpuSet, spread: Spread) -> str:
    isolated = topology.isolated
    if spread is Spread.L3 and _is_whole_l3(topology, cpus):
        these = "Whole L3 groups, of the NUMA nodes with the fewest GPUs: no pod shares its L3 cache with the system's reserved CPUs."
    else:
        these = _why_this_node(topology, cpus)
    if topology.housekeeping and cpus <= topology.system:
        settings, left = ", ".join(sorted(topology.housekeeping)), format_cpuset(topology.system)
        return f"{these} They are among those that are left to the system ({settings}): {left}."
    if isolated and not isolated & cpus:
        return f"{these} Isolated CPUs ({format_cpuset(isolated)}) are left out: the system runs on the others."
    return these


def l3_rounding_note(topology: Topology, cpus: CpuSet) -> t.Optional[str]:
    """Why a reservation that was to be of whole L3 groups is not."""
    if _is_whole_l3(topology, cpus):
        return None
    largest = max((len(group.cpus) for group in topology.l3_groups), default=0)
    return (
        f"The reserved CPUs are not rounded to whole L3 groups: groups have up to {largest} of the {len(topology.online)} CPUs here, and "
        f"at most one CPU in {_MOST_ROUNDED} is reserved for that. Name whole groups in reserved_cpus to reserve them all the same."
    )


def _is_whole_l3(topology: Topology, cpus: CpuSet) -> bool:
    groups = [group.cpus for group in topology.l3_groups if group.cpus & cpus]
    return bool(groups) and frozenset().union(*groups) == cpus


def _why_this_node(topology: Topology, cpus: CpuSet) -> str:
    nodes = _numbers(core.numa_node for core in topology.cores if core.cpus & cpus)
    if not nodes:
        return "The lowest cores: the machine tells no NUMA nodes."
    if not topology.gpus:
        return "The lowest cores of the lowest NUMA node: no GPU was found whose CPUs are worth keeping."
    per_node = {node.id: _gpus_on(topology, node.id) for node in topology.numa_nodes}
    held = ", ".join(f"{node}: {gpus}" for node, gpus in sorted(per_node.items()))
    return (
        f"The lowest cores of NUMA node {format_cpuset(nodes)}, as no node has fewer GPUs (GPUs per node: {held}): CPUs beside GPUs are "
        "for their pods, and low neighbours share as few L3 groups as can be."
    )


def choose_reservation(
    topology: Topology,
    wanted: str,
    count: t.Optional[int],
    configured: str,
    millicores_configured: int,
    spread: Spread = Spread.LOWEST,
) -> t.Tuple[t.Optional[Reservation], t.List[Problem]]:
    """The reservation, or every problem with the requested one.

    :param wanted: a CPU list such as ``0,128``, or ``auto``
    :param count: how many CPUs ``auto`` takes; None lets it decide
    :param configured: the kubelet's current reservedSystemCPUs ("" if none); ``auto`` keeps it if it is valid
    :param millicores_configured: the current kubeReserved.cpu + systemReserved.cpu
    :param spread: which cores ``auto`` takes; the kubelet's own are kept only if they are such
    """
    if wanted != AUTO:
        return _listed(topology, wanted, count)
    chosen, problems_found = _automatic(topology, count, millicores_configured, spread)
    if count is None and configured:
        kept, found = _listed(topology, configured, None)
        if kept and not found and _is_like(topology, kept, chosen, spread):
            return Reservation(kept.cpus, f"{kept.explanation}; kept as configured"), []
    return chosen, problems_found


def _is_like(topology: Topology, kept: Reservation, chosen: t.Optional[Reservation], spread: Spread) -> bool:
    """Whether a configured reservation is spread as the chosen one."""
    if spread is Spread.LOWEST or chosen is None:
        return True
    return _is_whole_l3(topology, kept.cpus) or not _is_whole_l3(topology, chosen.cpus)


def _listed(
    topology: Topology, wanted: str, count: t.Optional[int]
) -> t.Tuple[t.Optional[Reservation], t.List[Problem]]:
    found: t.List[Problem] = []
    if count is not None:
        found.append(problems.list_and_count(wanted, count))
    try:
        cpus = parse_cpuset(wanted)
    except CpusetError as exc:
        return None, [*found, problems.not_a_list(wanted, exc)]
    online = topology.online
    if not cpus:
        found.append(problems.empty(wanted))
    absent = cpus - online
    if absent:
        found.append(problems.offline(wanted, format_cpuset(absent), format_cpuset(online)))
    whole = set(cpus)
    for core in topology.cores:
        if core.cpus & cpus and not core.cpus <= cpus:
            whole |= core.cpus
            found.append(problems.splits_core(wanted, sorted(core.cpus), format_cpuset(cpus | core.cpus)))
    if online and online <= whole:
        found.append(problems.nothing_left(wanted, format_cpuset(online)))
    if found:
        return None, found
    taken = [core for core in topology.cores if core.cpus <= cpus]
    return Reservation(cpus, _describe(topology, taken)), []


def _automatic(
    topology: Topology, count: t.Optional[int], millicores_configured: int, spread: Spread
) -> t.Tuple[t.Optional[Reservation], t.List[Problem]]:
    online, isolated = topology.online, topology.isolated
    if len(topology.cores) < 2:
        return None, [problems.too_few_cores(len(topology.cores), format_cpuset(online))]
    needed = count if count is not None else auto_count(len(online), millicores_configured)
    if needed < 1:
        return None, [problems.count_too_low(needed)]
    taken = _taken(topology, needed, count is None, spread)
    have = sum(len(core.cpus) for core in taken)
    if any(core.cpus <= isolated for core in taken):
        return None, [problems.isolated_needed(needed, format_cpuset(online - isolated), format_cpuset(isolated))]
    if count is not None and have != count:
        lower = have - len(taken[-1].cpus) or have
        return None, [problems.count_splits_core(count, _threads(topology), lower, have)]
    if len(taken) == len(topology.cores):
        return None, [problems.count_leaves_nothing(needed, format_cpuset(online))]
    return Reservation(frozenset().union(*(core.cpus for core in taken)), _describe(topology, taken)), []


def _taken(topology: Topology, needed: int, may_round: bool, spread: Spread) -> t.List[Core]:
    """The cores for *needed* CPUs or more.

    :param may_round: whether more may be taken, for whole L3 groups
    """
    taken = _enough(_by_preference(topology), needed)
    whole = _rounded_to_l3(topology, taken) if spread is Spread.L3 and may_round else taken
    return whole if sum(len(core.cpus) for core in whole) * _MOST_ROUNDED <= len(topology.online) else taken


def _enough(cores: t.Iterable[Core], needed: int) -> t.List[Core]:
    taken: t.List[Core] = []
    have = 0
    for core in cores:
        if have >= needed:
            break
        taken.append(core)
        have += len(core.cpus)
    return taken


def _rounded_to_l3(topology: Topology, taken: t.Sequence[Core]) -> t.List[Core]:
    """These cores, and the others of their L3 groups that are not isolated."""
    groups = {core.l3 for core in taken}
    whole = [core for core in topology.cores if core.l3 in groups and not core.cpus & topology.isolated]
    return whole if None not in groups else list(taken)


def _by_preference(topology: Topology) -> t.List[Core]:
    """Cores in the order in which ``auto`` takes them: those with the fewest isolated threads first, then those with the
    fewest threads that other settings keep the system from, then NUMA nodes with the fewest GPUs, then the lowest CPU.

    The reservation is for the system, which does not run on isolated CPUs (isolcpus), and little on those that nohz_full,
    CPUAffinity= and irqaffinity keep it from. Using one NUMA node and its lowest
    CPUs keeps the reservation within as few L3 groups as possible.
    """

    def key(core: Core) -> t.Tuple[int, int, int, int, int]:
        node = -1 if core.numa_node is None else core.numa_node
        return (
            len(core.cpus & topology.isolated),
            len(core.cpus - topology.system),
            _gpus_on(topology, node),
            node,
            min(core.cpus),
        )

    return sorted(topology.cores, key=key)


def _gpus_on(topology: Topology, numa_node: int) -> int:
    return sum(gpu.numa_node == numa_node for gpu in topology.gpus)


def _numbers(values: t.Iterable[t.Optional[int]]) -> t.List[int]:
    return sorted({value for value in values if value is not None})


def _describe(topology: Topology, taken: t.Sequence[Core]) -> str:
    """A description such as ``1 core, L3 0, NUMA 0, no GPU``; unknown parts are left out."""
    parts = [counted(len(taken), "core")]
    l3 = _numbers(core.l3 for core in taken)
    if l3:
        parts.append(f"L3 {format_cpuset(l3)}")
    nodes = _numbers(core.numa_node for core in taken)
    if nodes:
        gpus = sum(_gpus_on(topology, node) for node in nodes)
        parts.append(f"NUMA {format_cpuset(nodes)}")
        parts.append(counted(gpus, "GPU") if gpus else "no GPU")
    return ", ".join(parts)
