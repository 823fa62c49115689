# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the state file of the kubelet's memory manager, and whether a kubelet would refuse it."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import (
    CORRUPTED,
    Refusal,
    StateFileError,
    fnv32a,
    go_map,
    is_sealed,
    is_sealed_well,
    json_object,
    mapping_of,
    sealed_data,
    text_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity

V3_MINOR = 37
"""Since this minor version of 1.x, kubelets write V3 (kubernetes/kubernetes#139102)."""
ZERO_MINOR = 36
"""Since this minor version of 1.x, a checksum of 0 is accepted."""
GROUPS_MINOR = 32
"""Since this minor version of 1.x, the kubelet compares the free memory of each group of NUMA nodes instead of each
node (kubernetes/kubernetes#127074)."""

Machine = t.Dict[str, t.Dict[str, t.Any]]
"""NUMA node, as text -> `numberOfAssignments`, `memoryMap` (resource -> total, systemReserved, allocatable, reserved and
free, in bytes) and `cells` (the numbers of its group), as the file has it."""
Entries = t.Dict[str, t.Dict[str, t.List[t.Dict[str, t.Any]]]]
"""Pod UID -> container -> blocks of `numaAffinity`, `type` and `size` in bytes."""

_TABLE = ("total", "systemReserved", "allocatable", "reserved", "free")
_GO_TABLE = ("TotalMemSize", "SystemReserved", "Allocatable", "Reserved", "Free")
_UINT64 = 2**64
_DIFFERENT = Refusal("other_machine_state", "[memorymanager] the expected machine state is different from the real one")
_NO_MACHINE = Refusal(
    "machine_state_empty", "[memorymanager] machine state can not be empty when it has memory assignments"
)


class MemoryManagerState(t.TypedDict):
    """The content of a memory_manager_state file. `checksum_ok` is None if the checksum is 0, which some versions
    accept. The memory of a whole pod is in `entries` under an empty container name."""

    policy: str
    entries: Entries
    machine_state: Machine
    checksum_ok: t.Optional[bool]


def parse_memory_state(text: str, minor: int, pod_level: bool) -> MemoryManagerState:
    """Reads the text of a memory_manager_state file as a kubelet does (pkg/kubelet/cm/memorymanager/state/checkpoint.go, and
    restoreState() in state_checkpoint.go).

    Kubelets up to 1.36 write V1, or V2 with `pod_level` in 1.36, and all since 1.37 V3, which is V1 with the same again, and
    more, as a text with a checksum of its own. 1.37 reads all three.

    :param minor: the kubelet's minor version of 1.x
    :param pod_level: whether it manages resources of whole pods (`feature_gates.manages_pod_level`)
    :raises StateFileError: if the text is not such a file
    """
    data = json_object(text, "memory_manager_state")
    sealed = minor >= V3_MINOR and is_sealed(data)
    content = sealed_data(data, "memory_manager_state") if sealed else data
    policy, machine = text_of(content, "policyName"), mapping_of(content, "machineState")
    entries, pod_entries = mapping_of(content, "entries"), mapping_of(content, "podEntries")
    checksum = data.get("checksum", 0)
    try:
        v1 = memory_checksum_of(policy, machine, entries)
        v2 = memory_checksum_of(policy, machine, entries, pod_entries) if minor >= V3_MINOR or pod_level else v1
        with_pods = {**entries, **_of_whole_pods(entries, pod_entries)}
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise StateFileError(f"memory_manager_state is none that a kubelet writes: {exc!r}") from exc
    checksum_ok = is_sealed_well(data) if sealed else None if checksum == 0 else checksum in (v1, v2)
    counts_pods = pod_level and (sealed or checksum == v2)
    return {
        "policy": policy,
        "entries": with_pods if counts_pods else entries,
        "machine_state": machine,
        "checksum_ok": checksum_ok,
    }


def _of_whole_pods(entries: Entries, pod_entries: t.Mapping[str, t.Any]) -> Entries:
    """The blocks of pods that count instead of those of their containers (validateState in policy_static.go)."""
    return {
        uid: {"": pod["memoryBlocks"]} for uid, pod in pod_entries.items() if uid in entries and pod.get("memoryBlocks")
    }


def memory_checksum_of(
    policy: str, machine: Machine, entries: Entries, pod_entries: t.Optional[t.Mapping[str, t.Any]] = None
) -> int:
    """The checksum that a kubelet writes: the hash of go-spew's text of the Go struct (k8s.io/utils/dump ForHash).

    :param pod_entries: pod UID -> `memoryBlocks`, of the format V2 only
    """
    nodes = {int(node): _go_node(state) for node, state in machine.items()}
    pods = {uid: go_map({name: _go_blocks(blocks) for name, blocks in pod.items()}) for uid, pod in entries.items()}
    whole = ""
    if pod_entries is not None:
        blocks = {
            uid: f"{{MemoryBlocks:([]state.Block){_go_blocks(pod.get('memoryBlocks') or [])}}}"
            for uid, pod in pod_entries.items()
        }
        whole = f"PodEntries:(state.PodMemoryAssignments){go_map(blocks)} "
    return fnv32a(
        f"(*state.MemoryManagerCheckpoint){{PolicyName:(string){policy} MachineState:(state.NUMANodeMap){go_map(nodes)} "
        f"Entries:(state.ContainerMemoryAssignments){go_map(pods)} {whole}Checksum:(checksum.Checksum)0}}"
    )


def _go_node(state: t.Mapping[str, t.Any]) -> str:
    tables = {
        resource: "<*>{" + " ".join(f"{go}:(uint64){int(table[name])}" for go, name in zip(_GO_TABLE, _TABLE)) + "}"
        for resource, table in state["memoryMap"].items()
    }
    return (
        f"<*>{{NumberOfAssignments:(int){int(state['numberOfAssignments'])} "
        f"MemoryMap:(map[v1.ResourceName]*state.MemoryTable){go_map(tables)} Cells:([]int){_go_list(state['cells'])}}}"
    )


def _go_blocks(blocks: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    return _go_list(
        [
            f"{{NUMAAffinity:([]int){_go_list(block['numaAffinity'])} Type:(v1.ResourceName){block['type']} "
            f"Size:(uint64){int(block['size'])}}}"
            for block in blocks
        ]
    )


def _go_list(items: t.Iterable[t.Any]) -> str:
    return "[" + " ".join(str(item) for item in items) + "]"


def default_machine(
    memory: t.Mapping[int, t.Mapping[str, int]], reserved_memory: t.Sequence[t.Mapping[str, t.Any]]
) -> Machine:
    """A kubelet's initial machine state (policy_static.go of the memory manager, getDefaultMachineState).

    :param memory: NUMA node -> resource, such as ``memory`` or ``hugepages-2Mi`` -> bytes
    :param reserved_memory: reservedMemory of the kubelet's configuration
    :raises ValueError: for an amount that is not a quantity
    """
    reserved = {
        (entry["numaNode"], resource): int(parse_quantity(amount))
        for entry in reserved_memory
        for resource, amount in entry["limits"].items()
    }
    machine: Machine = {}
    for node, totals in memory.items():
        pages = sum(amount for resource, amount in totals.items() if resource != "memory")
        tables = {}
        for resource, total in totals.items():
            held = reserved.get((node, resource), 0)
            free = (total - held - (pages if resource == "memory" else 0)) % _UINT64
            tables[resource] = dict(zip(_TABLE, (total, held, free, 0, free)))
        machine[str(node)] = {"numberOfAssignments": 0, "memoryMap": tables, "cells": [node]}
    return machine


def memory_refusal_of(
    state: t.Optional[MemoryManagerState], policy: str, machine: Machine, minor: int
) -> t.Optional[Refusal]:
    """Why a kubelet with this memoryManagerPolicy ("None" or "Static", with capitals) would refuse the file; None if it
    would accept it.

    :param machine: `default_machine` of this machine; empty if unknown, and then not compared with the file
    :param minor: the kubelet's minor version of 1.x
    """
    if state is None:
        return None
    if state["checksum_ok"] is False or (state["checksum_ok"] is None and minor < ZERO_MINOR):
        return Refusal("memory_state_corrupted", CORRUPTED)
    if state["policy"] != policy:
        return Refusal(
            "memory_state_other_policy",
            f'[memorymanager] configured policy "{policy}" differs from state checkpoint policy "{state["policy"]}"',
        )
    if policy != "Static" or not machine:
        return None
    if not state["machine_state"]:
        return _NO_MACHINE if state["entries"] else None
    expected = copy.deepcopy(machine)
    for pod, containers in state["entries"].items():
        for container, blocks in containers.items():
            problem = next(filter(None, (_assign(expected, block) for block in blocks)), None)
            if problem:
                return Refusal(
                    "memory_unknown_to_machine",
                    f"[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses {problem}",
                )
    return None if _equal(state["machine_state"], expected, minor) else _DIFFERENT


def _assign(machine: Machine, block: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """Takes a block from the machine's free memory as validateState does; returns what the machine lacks for it."""
    remaining = block["size"]
    for number in block["numaAffinity"]:
        node = machine.get(str(number))
        if node is None:
            return "the NUMA that does not exist"
        node["numberOfAssignments"] += 1
        node["cells"] = block["numaAffinity"]
        table = node["memoryMap"].get(block["type"])
        if table is None:
            return "memory resource that does not exist"
        taken = min(remaining, table["free"])
        table["reserved"] += taken
        table["free"] -= taken
        remaining -= taken
    return None


def _equal(found: Machine, expected: Machine, minor: int) -> bool:
    """areMachineStatesEqual of policy_static.go"""
    if found.keys() != expected.keys() or any(
        str(cell) not in found for node in found.values() for cell in node["cells"]
    ):
        return False
    for number, one in found.items():
        other = expected[number]
        if one["numberOfAssignments"] != other["numberOfAssignments"] or sorted(one["cells"]) != sorted(other["cells"]):
            return False
        if one["memoryMap"].keys() != other["memoryMap"].keys():
            return False
        for resource, table in one["memoryMap"].items():
            alike = _TABLE[:3] if minor >= GROUPS_MINOR else _TABLE
            if any(table[name] != other["memoryMap"][resource][name] for name in alike):
                return False
            groups = [[side[str(cell)]["memoryMap"][resource] for cell in one["cells"]] for side in (found, expected)]
            for name in _TABLE[3:]:
                if sum(member[name] for member in groups[0]) != sum(member[name] for member in groups[1]):
                    return False
    return True
