# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the state file of the kubelet's CPU manager, and whether a kubelet would refuse it."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import (
    CORRUPTED,
    WAY_OUT,
    StateFileError,
    fnv32a,
    go_map,
    json_object,
    mapping_of,
    text_of,
)

Entries = t.Dict[str, t.Dict[str, str]]


class CpuManagerState(t.TypedDict):
    """The content of a cpu_manager_state file; CPU sets are texts.

    `format` is "V1" to "V4". `entries` maps the pod's UID and the container's name to its exclusive CPUs; V1 has only
    container IDs, which take the place of the UID here, with an empty container name. `pod_entries` maps a UID to the
    CPUs of the whole pod (since V3). `checksum_ok` is None if the checksum was not checked, because it is 0, which V1
    and V2 accept, or of an unknown kind.
    """

    format: str
    policy: str
    default_cpus: str
    entries: Entries
    pod_entries: t.Dict[str, str]
    checksum_ok: t.Optional[bool]


def parse_state(text: str) -> CpuManagerState:
    """Reads the text of a cpu_manager_state file (pkg/kubelet/cm/cpumanager/state/checkpoint.go).

    V1 predates Kubernetes 1.18, most versions write V2, and V3 and V4 belong to the gate PodLevelResourceManagers
    (1.36). A V3 file without pod entries looks like V2 and differs only in its checksum.

    :raises StateFileError: if the text is not such a file, or contains an invalid CPU set
    """
    data = json_object(text, "cpu_manager_state")
    newest = "dataChecksum" in data
    if newest and isinstance(data.get("data"), str):
        inner = json_object(data["data"], "cpu_manager_state")
        data = {**data, **inner} if "policyName" in inner else data
    policy = text_of(data, "policyName")
    default_cpus = text_of(data, "defaultCpuSet")
    found = mapping_of(data, "entries")
    found_pods = mapping_of(data, "podEntries")
    pod_entries = {uid: text_of(mapping_of(found_pods, uid), "cpuSet") for uid in found_pods}
    v1_entries = {name: cpus for name, cpus in found.items() if isinstance(cpus, str)}
    if v1_entries and len(v1_entries) != len(found):
        raise StateFileError(f"state file: 'entries' mixes the formats V1 (text) and V2 (mappings). {WAY_OUT}")
    entries: Entries = {uid: {"": cpus} for uid, cpus in v1_entries.items()} or {
        uid: {name: text_of(mapping_of(found, uid), name) for name in mapping_of(found, uid)} for uid in found
    }
    for cpus in (default_cpus, *pod_entries.values(), *(cpus for pod in entries.values() for cpus in pod.values())):
        _check_cpus(cpus)
    checksum = data.get("checksum", 0)
    if not isinstance(checksum, int):
        raise StateFileError(f"state file: 'checksum' is {checksum!r}; expected a whole number. {WAY_OUT}")
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
    """Why a kubelet with these settings would refuse the state file when it starts, in the kubelet's words; None if it
    would accept the file.

    :param state: the parsed file, None if there is no file (the kubelet then makes one)
    :param policy: cpuManagerPolicy; only `static` checks more than the checksum and the policy name
    :param reserved: the reserved CPUs
    :param strict: the policy option strict-cpu-reservation

    The rules are those of restoreState() in pkg/kubelet/cm/cpumanager/state/state_checkpoint.go and validateState() in
    pkg/kubelet/cm/cpumanager/policy_static.go, in the same order. The kubelet may also refuse a V1 file with entries
    because a container is gone, and a V3 or V4 file because it is too old for the format; the file shows neither.
    """
    if state is None:
        return None
    if state["checksum_ok"] is False:
        return CORRUPTED
    if state["policy"] != policy:
        return f'configured policy "{policy}" differs from state checkpoint policy "{state["policy"]}"'
    return _static_rejects(state, reserved, online, strict) if policy == "static" else None


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
    """The format (V1, V2, or V3 without pod entries) and `checksum_ok`."""
    if checksum == 0:
        return ("V1" if is_v1 else "V2"), None
    dumps: t.Dict[str, str] = {}
    if not is_v1:
        dumps["V2"] = _v2_entries(entries)
        dumps["V3"] = f"{dumps['V2']} PodEntries:(state.PodCPUAssignments)map[]"
    if is_v1 or not entries:
        dumps["V1"] = _v1_entries({container: pod[""] for container, pod in entries.items()})
    for kind, dump in dumps.items():
        if checksum == fnv32a(_DUMP.format(policy, default_cpus, dump)):
            return kind, True
    return ("V1" if is_v1 else "V2"), False


# The kubelet hashes go-spew's text of the Go struct (k8s.io/utils/dump ForHash), with the checksum set to 0.
_DUMP = (
    "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:{} "
    "Checksum:(checksum.Checksum)0}}"
)


def checksum_of(policy: str, default_cpus: str, entries: Entries) -> int:
    """The checksum that a kubelet writes into a V2 file."""
    return fnv32a(_DUMP.format(policy, default_cpus, _v2_entries(entries)))


def _v1_entries(entries: t.Mapping[str, str]) -> str:
    return f"(map[string]string){go_map(entries)}"


def _v2_entries(entries: Entries) -> str:
    return f"(map[string]map[string]string){go_map({uid: go_map(pod) for uid, pod in entries.items()})}"


def _check_cpus(text: str) -> None:
    try:
        parse_cpuset(text)
    except CpusetError as exc:
        raise StateFileError(f"state file: {exc} {WAY_OUT}") from exc
