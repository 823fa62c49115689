# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which memory of each NUMA node the memory manager's policy Static reserves."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import NumaNode, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    memory_parts,
    memory_to_reserve,
    setting_problems,
)

_MIB = 2**20


@dataclass(frozen=True)
class MemoryReservation:
    """reservedMemory as the kubelet's configuration writes it, and where its numbers come from, for people."""

    entries: list[dict[str, Any]]
    reasons: list[str]


def choose_reserved_memory(
    topology: Topology, now: Config, version: str
) -> tuple[MemoryReservation | None, list[Problem]]:
    """What ``auto`` reserves on each NUMA node, or every problem with that.

    The sum is, to the byte, what the kubelet demands: kubeReserved + systemReserved + evictionHard memory.available
    (pkg/kubelet/cm/memorymanager/memory_manager.go validateReservedMemory; "Utilizing the NUMA-aware Memory Manager" of the
    Kubernetes documentation). It is spread over the NUMA nodes with CPUs in proportion to their memory besides huge pages,
    in whole MiB where that fits, so that each keeps the same share for pods. Nodes without CPUs (CXL, HBM) get none: no
    process of the system starts there.

    :param now: the kubelet's effective configuration; a reservedMemory that this machine can have is kept
    """
    unreported = [node.id for node in topology.numa_nodes if "memory" not in node.memory]
    needed, found = memory_to_reserve(now)
    if unreported or not topology.numa_nodes:
        found = [problems.memory_unreported(unreported), *found]
    if found or needed is None:
        return None, found
    if needed.denominator != 1:
        return None, [problems.memory_not_whole_bytes(float(needed))]
    if needed == 0:
        return None, [problems.memory_nothing_reserved()]
    if now["reservedMemory"] and _is_valid(topology, now, version):
        reason = "The kubelet's reservedMemory adds up to what it must, and the NUMA nodes have it: kept."
        return MemoryReservation(list(now["reservedMemory"]), [reason]), []
    with_cpus = [node for node in topology.numa_nodes if node.cpus]
    room = [_room(node) for node in with_cpus]
    if needed > sum(room):
        return None, [problems.memory_exceeds(int(needed), sum(room))]
    shares = _shares(int(needed), room)
    entries = [
        {"numaNode": node.id, "limits": {"memory": _written(share)}}
        for node, share in zip(with_cpus, shares, strict=True)
        if share
    ]
    return MemoryReservation(entries, _reasons(topology, now, int(needed), with_cpus, shares)), []


def _is_valid(topology: Topology, now: Config, version: str) -> bool:
    """Whether the kubelet takes its reservedMemory with the policy Static, and each NUMA node has that much."""
    if any(
        problem.code.startswith(("reserved_memory", "memory_manager"))
        for problem in setting_problems({**now, "memoryManagerPolicy": "Static"}, version, topology)
    ):
        return False
    room = {node.id: _room(node) for node in topology.numa_nodes}
    held: dict[int, Fraction] = {}
    for entry in now["reservedMemory"]:
        amount = parse_quantity(entry["limits"].get("memory", "0"))
        held[entry["numaNode"]] = held.get(entry["numaNode"], Fraction(0)) + amount
    return all(amount <= room[node] for node, amount in held.items())


def _room(node: NumaNode) -> int:
    """The node's bytes besides its huge pages (policy_static.go getDefaultMachineState takes these off)."""
    pages = sum(amount for kind, amount in node.memory.items() if kind != "memory")
    return max(0, node.memory["memory"] - pages)


def _shares(needed: int, room: list[int]) -> list[int]:
    """Split *needed* bytes in proportion to *room*, whose sum must be at least as large.

    Only the borders between two nodes are rounded, each to the nearest MiB, so the sum stays exact. If a node lacks room
    for whole MiB, its border is rounded down to a byte.
    """
    borders = [Fraction(needed * total, sum(room)) for total in accumulate(room)]
    in_mib = [min(round(border / _MIB) * _MIB, needed) for border in borders[:-1]]
    shares = _between([*in_mib, needed])
    fits = all(share <= own for share, own in zip(shares, room, strict=True))
    return shares if fits else _between([int(border) for border in borders])


def _between(borders: list[int]) -> list[int]:
    return [upper - lower for lower, upper in pairwise([0, *borders])]


def _written(amount: int) -> str:
    return f"{amount // _MIB}Mi" if amount % _MIB == 0 else str(amount)


def _reasons(topology: Topology, now: Config, needed: int, nodes: list[NumaNode], shares: list[int]) -> list[str]:
    parts = " + ".join(f"{name} {value}" for name, value in memory_parts(now).items())
    listed = ", ".join(
        f"node {node.id}: {_written(share) if share else 'none'} of {_room(node) // _MIB}Mi"
        for node, share in zip(nodes, shares, strict=True)
    )
    how = "in whole MiB" if needed % _MIB == 0 and all(share % _MIB == 0 for share in shares) else "to the byte"
    reasons = [
        f"{_written(needed)} in all, as the kubelet demands: {parts} (memory.available).",
        f"Spread over the NUMA nodes with CPUs in proportion to their memory besides huge pages, {how}: {listed}.",
    ]
    without = [node.id for node in topology.numa_nodes if not node.cpus]
    if without:
        reasons.append(
            f"None on NUMA node {format_cpuset(without)}: it has no CPU, so no process of the system starts there."
        )
    return reasons
