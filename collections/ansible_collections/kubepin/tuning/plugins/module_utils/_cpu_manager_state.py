# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# Pure: the state files of the kubelet's CPU and memory managers, and whether a kubelet would refuse them.
from __future__ import annotations

import json
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils._cpuset import CpusetError, format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils._errors import TuningError

CORRUPTED = "checkpoint is corrupted"
"""The kubelet's word for a checksum that does not fit (pkg/kubelet/checkpointmanager/errors)."""

Entries = t.Dict[str, t.Dict[str, str]]

_WAY_OUT = "Drain the node and remove the file before the kubelet starts."


class CpuManagerState(t.TypedDict):
    """What a cpu_manager_state file says; CPU sets are texts.

    `format` is «V1» to «V4». `entries` maps the pod's UID and the container's name to its exclusive CPUs; V1 knows
    only container IDs, which stand for the UID there, with an empty container name. `pod_entries` maps a UID to CPUs
    of the whole pod (from V3 on). `checksum_ok` is None where the checksum was not checked: it is 0, which V1 and V2
    accept, or of an unknown kind.
    """

    format: str
    policy: str
    default_cpus: str
    entries: Entries
    pod_entries: t.Dict[str, str]
    checksum_ok: t.Optional[bool]


class MemoryManagerState(t.TypedDict):
    """What a memory_manager_state file says; its checksum is not checked."""

    policy: str
    entries: t.Dict[str, t.Any]
    machine_state: t.Dict[str, t.Any]
    checksum_ok: t.Optional[bool]


class StateFileError(TuningError):
    """A state file's text is nothing that the kubelet could have written."""


def parse_state(text: str) -> CpuManagerState:
    """Reads the text of a cpu_manager_state file (pkg/kubelet/cm/cpumanager/state/checkpoint.go).

    V1 is from before Kubernetes 1.18, V2 what most versions write, V3 and V4 belong to the gate
    PodLevelResourceManagers (1.36). A V3 file without pod entries looks like V2; its checksum tells them apart.

    Raises StateFileError for text that is no such file, or whose CPU sets are none.
    """
    data = _object(text, "cpu_manager_state")
    newest = "dataChecksum" in data
    if newest and isinstance(data.get("data"), str):
        inner = _object(data["data"], "cpu_manager_state")
        data = {**data, **inner} if "policyName" in inner else data
    policy = _text(data, "policyName")
    default_cpus = _text(data, "defaultCpuSet")
    found = _mapping(data, "entries")
    found_pods = _mapping(data, "podEntries")
    pod_entries = {uid: _text(_mapping(found_pods, uid), "cpuSet") for uid in found_pods}
    v1_entries = {name: cpus for name, cpus in found.items() if isinstance(cpus, str)}
    if v1_entries and len(v1_entries) != len(found):
        raise StateFileError(f"state file: 'entries' mixes the formats V1 (text) and V2 (mappings). {_WAY_OUT}")
    entries: Entries = {uid: {"": cpus} for uid, cpus in v1_entries.items()} or {
        uid: {name: _text(_mapping(found, uid), name) for name in _mapping(found, uid)} for uid in found
    }
    for cpus in (default_cpus, *pod_entries.values(), *(cpus for pod in entries.values() for cpus in pod.values())):
        _check_cpus(cpus)
    checksum = data.get("checksum", 0)
    if not isinstance(checksum, int):
        raise StateFileError(f"state file: 'checksum' is {checksum!r}; expected a whole number. {_WAY_OUT}")
    if newest or pod_entries:
        kind, checksum_ok = "V4" if newest else "V3", None
    else:
        kind, checksum_ok = _identify(policy, default_cpus, entries, bool(v1_entries), checksum)
    return {
        "format": kind,
        "policy": policy,
        "default_cpus": default_cpus,
        "entries": entries,
        "pod_entries": pod_entries,
        "checksum_ok": checksum_ok,
    }


def rejected_because(
    state: t.Optional[CpuManagerState], policy: str, reserved: t.FrozenSet[int], online: t.FrozenSet[int], strict: bool
) -> t.Optional[str]:
    """Why a kubelet with these settings would refuse the state file at its start, in the kubelet's words; None if it
    would take it.

    :param state: the parsed file, None if there is no file (the kubelet then makes one)
    :param policy: cpuManagerPolicy; only `static` looks at more than checksum and policy name
    :param reserved: the reserved CPUs
    :param strict: the policy option strict-cpu-reservation

    The rules are those of restoreState() in pkg/kubelet/cm/cpumanager/state/state_checkpoint.go and validateState() in
    pkg/kubelet/cm/cpumanager/policy_static.go, in their order. A V1 file with entries may also be refused because a
    container is gone, and a V3 or V4 file because the kubelet is too old for it; neither can be seen from the file.
    """
    if state is None:
        return None
    if state["checksum_ok"] is False:
        return CORRUPTED
    if state["policy"] != policy:
        return f'configured policy "{policy}" differs from state checkpoint policy "{state["policy"]}"'
    return _static_rejects(state, reserved, online, strict) if policy == "static" else None


def parse_memory_state(text: str) -> MemoryManagerState:
    """Reads the text of a memory_manager_state file (pkg/kubelet/cm/memorymanager/state/checkpoint.go).

    Raises StateFileError for text that is no such file.
    """
    data = _object(text, "memory_manager_state")
    return {
        "policy": _text(data, "policyName"),
        "entries": _mapping(data, "entries"),
        "machine_state": _mapping(data, "machineState"),
        "checksum_ok": None,
    }


def memory_rejected_because(state: t.Optional[MemoryManagerState], policy: str) -> t.Optional[str]:
    """Why a kubelet with this memoryManagerPolicy («None» or «Static», with capitals) would refuse the file; None if
    not for that.

    The kubelet also compares the memory of each NUMA node with the file (policy_static.go of the memory manager);
    this does not.
    """
    if state is None or state["policy"] == policy:
        return None
    return f'[memorymanager] configured policy "{policy}" differs from state checkpoint policy "{state["policy"]}"'


def _static_rejects(
    state: CpuManagerState, reserved: t.FrozenSet[int], online: t.FrozenSet[int], strict: bool
) -> t.Optional[str]:
    default = parse_cpuset(state["default_cpus"])
    if not default:
        return "default cpuset cannot be empty" if state["entries"] else None
    if strict and reserved & default:
        return (
            f'some of strictly reserved cpus: "{format_cpuset(reserved & default)}" are present in '
            f'defaultCpuSet: "{format_cpuset(default)}"'
        )
    if not strict and not reserved <= default:
        return (
            f'not all reserved cpus: "{format_cpuset(reserved)}" are present in '
            f'defaultCpuSet: "{format_cpuset(default)}"'
        )
    known = default
    for pod, containers in state["entries"].items():
        for container, text in containers.items():
            cpus = parse_cpuset(text)
            if cpus & default:
                return (
                    f'pod: {pod}, container: {container} cpuset: "{format_cpuset(cpus)}" overlaps with '
                    f'default cpuset "{format_cpuset(default)}"'
                )
            known |= cpus
    for text in state["pod_entries"].values():
        known |= parse_cpuset(text)
    available = online - reserved if strict else online
    if known != available:
        return (
            f'current set of available CPUs "{format_cpuset(available)}" '
            f'doesn\'t match with CPUs in state "{format_cpuset(known)}"'
        )
    return None


def _identify(
    policy: str, default_cpus: str, entries: Entries, is_v1: bool, checksum: int
) -> t.Tuple[str, t.Optional[bool]]:
    """Format and `checksum_ok` of a file of the format V1, V2 or V3 without pod entries."""
    if checksum == 0:
        return ("V1" if is_v1 else "V2"), None
    dumps: t.Dict[str, str] = {}
    if not is_v1:
        dumps["V2"] = _v2_entries(entries)
        dumps["V3"] = f"{dumps['V2']} PodEntries:(state.PodCPUAssignments)map[]"
    if is_v1 or not entries:
        dumps["V1"] = _v1_entries({container: pod[""] for container, pod in entries.items()})
    for kind, dump in dumps.items():
        if checksum == _fnv32a(_DUMP.format(policy, default_cpus, dump)):
            return kind, True
    return ("V1" if is_v1 else "V2"), False


# The kubelet hashes go-spew's text of the Go struct (k8s.io/utils/dump ForHash), with the checksum set to 0.
_DUMP = (
    "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:{} "
    "Checksum:(checksum.Checksum)0}}"
)


def checksum_of(policy: str, default_cpus: str, entries: Entries) -> int:
    """The checksum that a kubelet writes into a file of the format V2."""
    return _fnv32a(_DUMP.format(policy, default_cpus, _v2_entries(entries)))


def _v1_entries(entries: t.Mapping[str, str]) -> str:
    return f"(map[string]string){_go_map(entries)}"


def _v2_entries(entries: Entries) -> str:
    return f"(map[string]map[string]string){_go_map({uid: _go_map(pod) for uid, pod in entries.items()})}"


def _go_map(entries: t.Mapping[str, str]) -> str:
    return "map[" + " ".join(f"{key}:{entries[key]}" for key in sorted(entries)) + "]"


def _fnv32a(text: str) -> int:
    """The 32-bit FNV-1a hash of the text's UTF-8 bytes (Go's hash/fnv New32a)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def _object(text: str, what: str) -> t.Dict[str, t.Any]:
    try:
        data = json.loads(text)
    except ValueError as exc:
        raise StateFileError(f"{what} is not JSON: {exc}. {_WAY_OUT}") from exc
    if not isinstance(data, dict):
        raise StateFileError(f"{what} holds {data!r}; expected a JSON object. {_WAY_OUT}")
    return data


def _text(data: t.Mapping[str, t.Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise StateFileError(f"state file: '{key}' is {value!r}; expected text. {_WAY_OUT}")
    return value


def _mapping(data: t.Mapping[str, t.Any], key: str) -> t.Dict[str, t.Any]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StateFileError(f"state file: '{key}' is {value!r}; expected a mapping. {_WAY_OUT}")
    return value


def _check_cpus(text: str) -> None:
    try:
        parse_cpuset(text)
    except CpusetError as exc:
        raise StateFileError(f"state file: {exc} {_WAY_OUT}") from exc
