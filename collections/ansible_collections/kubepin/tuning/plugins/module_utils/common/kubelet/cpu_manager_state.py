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
    Refusal,
    StateFileError,
    fnv32a,
    go_map,
    is_sealed,
    is_sealed_well,
    json_object,
    mapping_of,
    number_of,
    sealed_data,
    text_of,
)

V4_MINOR = 37
"""Since this minor version of 1.x, kubelets write V4 (kubernetes/kubernetes#139102) and no longer read V1."""

Entries = t.Dict[str, t.Dict[str, str]]


class CpuManagerState(t.TypedDict):
    """The content of a cpu_manager_state file; CPU sets are texts.

    `format` is "V1" to "V4". `entries` maps the pod's UID and the container's name to its exclusive CPUs; V1 has only
    container IDs, which take the place of the UID here, with an empty container name. `pod_entries` maps a UID to the
    CPUs of the whole pod (since V3). `checksum_ok` is None if the checksum was not checked, because it is 0, which V1
    and V2 accept.
    """

    format: str
    policy: str
    default_cpus: str
    entries: Entries
    pod_entries: t.Dict[str, str]
    checksum_ok: t.Optional[bool]


def parse_state(text: str, minor: int, pod_level: bool) -> CpuManagerState:
    """Reads the text of a cpu_manager_state file as a kubelet does (pkg/kubelet/cm/cpumanager/state/checkpoint.go, and
    restoreState() in state_checkpoint.go).

    Kubelets before 1.18 wrote V1, those up to 1.36 write V2, or V3 with `pod_level` in 1.36, and all since 1.37 V4, which is
    V2 with the same again, and more, as a text with a checksum of its own. 1.37 reads V2 to V4, of which older kubelets take
    what is V2. A V3 file without pod entries looks like V2 and differs only in its checksum.

    :param minor: the kubelet's minor version of 1.x
    :param pod_level: whether it manages resources of whole pods (`feature_gates.manages_pod_level`)
    :raises StateFileError: if the text is not such a file, or contains an invalid CPU set
    """
    data = json_object(text, "cpu_manager_state")
    policy = text_of(data, "policyName")
    default_cpus = text_of(data, "defaultCpuSet")
    found = mapping_of(data, "entries")
    v1_entries = {name: cpus for name, cpus in found.items() if isinstance(cpus, str)}
    if v1_entries and len(v1_entries) != len(found):
        raise StateFileError("state file: 'entries' mixes the formats V1 (text) and V2 (mappings)")
    if v1_entries and minor >= V4_MINOR:
        raise StateFileError("state file: 'entries' has the format V1, which no kubelet since 1.37 reads")
    entries = {uid: {"": cpus} for uid, cpus in v1_entries.items()} or _entries_of(found)
    checksum = number_of(data, "checksum")
    if minor >= V4_MINOR and is_sealed(data):
        inner = sealed_data(data, "cpu_manager_state")
        return _state(
            "V4",
            text_of(inner, "policyName"),
            text_of(inner, "defaultCpuSet"),
            _entries_of(mapping_of(inner, "entries")),
            _pod_entries_of(inner) if pod_level else {},
            is_sealed_well(data),
        )
    pod_entries = _pod_entries_of(data) if minor >= V4_MINOR or pod_level else None
    kind, checksum_ok = _identify(policy, default_cpus, entries, pod_entries, bool(v1_entries), checksum, minor)
    counted = pod_entries if kind == "V3" and pod_level and pod_entries else {}
    return _state(kind, policy, default_cpus, entries, counted, checksum_ok)


def _state(
    kind: str,
    policy: str,
    default_cpus: str,
    entries: Entries,
    pod_entries: t.Dict[str, str],
    checksum_ok: t.Optional[bool],
) -> CpuManagerState:
    for cpus in (default_cpus, *pod_entries.values(), *(cpus for pod in entries.values() for cpus in pod.values())):
        _check_cpus(cpus)
    return {
        "format": kind,
        "policy": policy,
        "default_cpus": default_cpus,
        "entries": entries,
        "pod_entries": pod_entries,
        "checksum_ok": checksum_ok,
    }


def _entries_of(found: t.Mapping[str, t.Any]) -> Entries:
    return {uid: {name: text_of(mapping_of(found, uid), name) for name in mapping_of(found, uid)} for uid in found}


def _pod_entries_of(data: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    found = mapping_of(data, "podEntries")
    return {uid: text_of(mapping_of(found, uid), "cpuSet") for uid in found}


def refusal_of(
    state: t.Optional[CpuManagerState], policy: str, reserved: t.FrozenSet[int], online: t.FrozenSet[int], strict: bool
) -> t.Optional[Refusal]:
    """Why a kubelet with these settings would refuse the state file when it starts; None if it would accept the file.

    :param state: the parsed file, None if there is no file (the kubelet then makes one)
    :param policy: cpuManagerPolicy; only `static` checks more than the checksum and the policy name
    :param reserved: the reserved CPUs
    :param strict: the policy option strict-cpu-reservation

    The rules are those of restoreState() in pkg/kubelet/cm/cpumanager/state/state_checkpoint.go and validateState() in
    pkg/kubelet/cm/cpumanager/policy_static.go, in the same order. The kubelet may also refuse a V1 file with entries
    because a container is gone, which the file does not show.
    """
    if state is None:
        return None
    if state["checksum_ok"] is False:
        return Refusal("cpu_state_corrupted", CORRUPTED)
    if state["policy"] != policy:
        return Refusal(
            "cpu_state_other_policy",
            f'configured policy "{policy}" differs from state checkpoint policy "{state["policy"]}"',
        )
    return _static_refusal(state, reserved, online, strict) if policy == "static" else None


def _static_refusal(
    state: CpuManagerState, reserved: t.FrozenSet[int], online: t.FrozenSet[int], strict: bool
) -> t.Optional[Refusal]:
    default = parse_cpuset(state["default_cpus"])
    if not default:
        return Refusal("shared_pool_empty", "default cpuset cannot be empty") if state["entries"] else None
    if strict and reserved & default:
        return Refusal(
            "strictly_reserved_cpus_in_shared_pool",
            f'some of strictly reserved cpus: "{format_cpuset(reserved & default)}" are present in '
            f'defaultCpuSet: "{format_cpuset(default)}"',
        )
    if not strict and not reserved <= default:
        return Refusal(
            "reserved_cpus_outside_shared_pool",
            f'not all reserved cpus: "{format_cpuset(reserved)}" are present in '
            f'defaultCpuSet: "{format_cpuset(default)}"',
        )
    known = default
    for pod, containers in state["entries"].items():
        for container, text in containers.items():
            cpus = parse_cpuset(text)
            if cpus & default:
                return Refusal(
                    "exclusive_cpus_in_shared_pool",
                    f'pod: {pod}, container: {container} cpuset: "{format_cpuset(cpus)}" overlaps with '
                    f'default cpuset "{format_cpuset(default)}"',
                )
            known |= cpus
    for text in state["pod_entries"].values():
        known |= parse_cpuset(text)
    available = online - reserved if strict else online
    if known != available:
        return Refusal(
            "other_cpus",
            f'current set of available CPUs "{format_cpuset(available)}" '
            f'doesn\'t match with CPUs in state "{format_cpuset(known)}"',
        )
    return None


def _identify(
    policy: str,
    default_cpus: str,
    entries: Entries,
    pod_entries: t.Optional[t.Dict[str, str]],
    is_v1: bool,
    checksum: int,
    minor: int,
) -> t.Tuple[str, t.Optional[bool]]:
    """The format, V1 to V3, in which the kubelet can read the file, and `checksum_ok`.

    :param pod_entries: None if the kubelet does not know V3
    """
    if checksum == 0:
        return ("V1" if is_v1 else "V2"), None
    if not is_v1 and checksum == checksum_of(policy, default_cpus, entries):
        return "V2", True
    if not is_v1 and pod_entries is not None and checksum == checksum_of(policy, default_cpus, entries, pod_entries):
        return "V3", True
    if (is_v1 or not entries) and minor < V4_MINOR:
        dump = _v1_entries({container: pod[""] for container, pod in entries.items()})
        if checksum == fnv32a(_DUMP.format(policy, default_cpus, dump)):
            return "V1", True
    return ("V1" if is_v1 else "V2"), False


# The kubelet hashes go-spew's text of the Go struct (k8s.io/utils/dump ForHash), with the checksum set to 0.
_DUMP = (
    "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:{} "
    "Checksum:(checksum.Checksum)0}}"
)


def checksum_of(
    policy: str, default_cpus: str, entries: Entries, pod_entries: t.Optional[t.Mapping[str, str]] = None
) -> int:
    """The checksum that a kubelet writes into a V3 file, or into a V2 file, which has no *pod_entries*."""
    dump = _v2_entries(entries)
    if pod_entries is not None:
        dump += f" PodEntries:(state.PodCPUAssignments){_v3_entries(pod_entries)}"
    return fnv32a(_DUMP.format(policy, default_cpus, dump))


def _v1_entries(entries: t.Mapping[str, str]) -> str:
    return f"(map[string]string){go_map(entries)}"


def _v2_entries(entries: Entries) -> str:
    return f"(map[string]map[string]string){go_map({uid: go_map(pod) for uid, pod in entries.items()})}"


def _v3_entries(entries: t.Mapping[str, str]) -> str:
    sets = {uid: go_map(dict.fromkeys(parse_cpuset(cpus), "{}")) for uid, cpus in entries.items()}
    return go_map(
        {uid: f"{{CPUSet:(cpuset.CPUSet){{elems:(map[int]struct {{}}){cpus}}}}}" for uid, cpus in sets.items()}
    )


def _check_cpus(text: str) -> None:
    try:
        parse_cpuset(text)
    except CpusetError as exc:
        raise StateFileError(f"state file: {exc}") from exc
