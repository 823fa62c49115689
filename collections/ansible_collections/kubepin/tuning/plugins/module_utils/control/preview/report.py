# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a preview. Pure: what was read from each node in, plain data and text out."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, module_failed, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import is_memory
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuGroup, CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.preview import (
    PodRequest,
    PreviewRequest,
    preview_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.problems import pod_cpus_not_a_number
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    is_unset,
    static_policy_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import BALANCED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

_LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
_RESERVED, _FREE, _FREE_BESIDE_GPU = "#", ".", ":"
_LEGEND = (
    f"{_RESERVED} reserved   {_FREE} free: shared until a pod gets it for itself   {_FREE_BESIDE_GPU} the same, beside a GPU   "
    "letter: a pod's own   (one row: a core's first threads, then its second ones)"
)
_ROW = 64


def preview_nodes(nodes: Sequence[Data]) -> list[dict[str, Any]]:
    """The preview of each node.

    :param nodes: for each node its name as `node`, what `node_facts` says of it, and role node_preview's variables without
        their prefix as `settings`
    """
    previews = []
    for node in nodes:
        kubelet, settings = node["kubelet"], node["settings"]
        topology, desired, problems = _read(node)
        result: dict[str, Any] = {"node": node["node"], "problems": problems}
        if topology is not None and desired is not None and not problems:
            version = settings["kubelet_version"] or kubelet.get("version")
            request = _request(desired, settings)
            result = {**result, **preview_node(topology, version, kubelet.get("effective"), request)}
            if kubelet.get("start_problem") and not result["problems"]:
                result["notes"] = [kubelet["start_problem"]["text"], *result["notes"]]
            if not result["problems"]:
                result["drawing"] = list(_drawing(topology, result))
        previews.append(result)
    return previews


def _read(node: Data) -> tuple[Topology | None, DesiredSettings | None, list[dict[str, Any]]]:
    """The node's topology and what is desired, and every problem with what was read and set."""
    error = node["error"] or node.get("kubelet_error")
    if error:
        return None, None, to_dicts([module_failed(error)])
    desired, found = static_policy_of(node["settings"])
    problems = to_dicts([*_setting_problems(node["settings"]), *found])
    try:
        return Topology.of(node["topology"]), desired, problems
    except TuningError as exc:
        return None, desired, [*exc.details["problems"], *problems]


def _setting_problems(settings: Data) -> list[Problem]:
    value = settings["pod_cpus"]
    problems = []
    if not is_unset(value) and not str(value).isdigit():
        problems.append(pod_cpus_not_a_number(value))
    return problems


def _request(desired: DesiredSettings, settings: Data) -> PreviewRequest:
    pods = settings["pods"]
    return PreviewRequest(
        desired,
        pod_cpus=None if is_unset(settings["pod_cpus"]) else int(settings["pod_cpus"]),
        pods=tuple(map(_pod_request, pods.split(",") if isinstance(pods, str) else pods)),
    )


def _pod_request(pod: object) -> PodRequest:
    """A CPU request, or quantities by resource; `pod` holds pod-level resources."""
    if not isinstance(pod, Mapping):
        return PodRequest(str(pod).strip())
    own = pod.get("pod", {})
    amounts = _amounts({resource: amount for resource, amount in pod.items() if resource != "pod"})
    return PodRequest(amounts.pop("cpu", ""), amounts, _amounts(own if isinstance(own, Mapping) else {"cpu": own}))


def _amounts(quantities: Mapping[Any, object]) -> dict[str, str]:
    return {str(resource): str(amount).strip() for resource, amount in quantities.items()}


def _drawing(topology: Topology, preview: Data) -> Iterator[str]:
    """Sockets, NUMA nodes and L3 groups, a character for each CPU."""
    beside: CpuSet = frozenset().union(
        *(parse_cpuset(node["cpus"]) for node in preview["numa_nodes"] if node["gpus"])
    ) or frozenset().union(*(gpu.local_cpus for gpu in topology.gpus))
    marks = {cpu: _FREE_BESIDE_GPU if cpu in beside else _FREE for cpu in topology.online}
    marks.update(dict.fromkeys(parse_cpuset(preview["reservation"]["cpus"]), _RESERVED))
    for number, pod in enumerate(preview["pods"]):
        marks.update(dict.fromkeys(parse_cpuset(pod["cpus"]), _letter(number)))
    cores = [sorted(core.cpus) for core in topology.cores]
    for socket_name, in_socket in _parts("socket", topology.sockets, topology.online):
        yield f"  {socket_name}"
        for node_name, in_node in _parts("NUMA", topology.numa_nodes, in_socket):
            gpus = [
                gpu.address
                for gpu in topology.gpus
                if gpu.numa_node is not None and node_name == f"NUMA {gpu.numa_node}"
            ]
            yield f"    {node_name}" + (f"   GPUs {', '.join(gpus)}" if gpus else "")
            for cache_name, in_cache in _parts("L3", topology.l3_groups, in_node):
                yield from _rows(cache_name, [core for core in cores if set(core) & in_cache], in_cache, marks)


def _parts(kind: str, groups: Iterable[CpuGroup], within: CpuSet) -> Iterator[tuple[str, CpuSet]]:
    """The groups inside `within`, and the CPUs in none of them."""
    left = within
    for group in groups:
        cpus = group.cpus & within
        if cpus:
            yield f"{kind} {group.id}", cpus
            left -= cpus
    if left:
        yield f"{kind} unknown", left


def _rows(name: str, cores: Sequence[Sequence[int]], within: CpuSet, marks: Mapping[int, str]) -> Iterator[str]:
    for start in range(0, len(cores), _ROW):
        part = cores[start : start + _ROW]
        threads = [
            "".join(marks[core[thread]] for core in part if len(core) > thread) for thread in range(max(map(len, part)))
        ]
        cpus = format_cpuset(cpu for core in part for cpu in core if cpu in within)
        yield f"      {name if start == 0 else '':<10} {' '.join(threads)}   {cpus}"


def _letter(number: int) -> str:
    return _LETTERS[number % len(_LETTERS)]


def preview_text(previews: Sequence[Data]) -> str:
    """The previews as text; nodes with the same preview share one."""
    lines = [f"kubepin: preview of {counted(len(previews), 'node')} under the static policy. Nothing was changed."]
    groups: list[tuple[list[str], Data]] = []
    for preview in previews:
        content = {key: value for key, value in preview.items() if key != "node"}
        same = next((names for names, other in groups if other == content), None)
        if same is None:
            groups.append(([preview["node"]], content))
        else:
            same.append(preview["node"])
    for names, preview in groups:
        lines += ["", f"== {', '.join(names)}"]
        lines += [f"  problem: {problem['text']}" for problem in preview["problems"]] or _node_lines(preview)
    return "\n".join(line.rstrip() for line in lines)


def _node_lines(preview: Data) -> list[str]:
    kubelet, reservation, room = preview["kubelet"], preview["reservation"], preview["room"]
    size = room["pod_cpus"]
    gpus = {gpu for node in preview["numa_nodes"] for gpu in node["gpus"]}
    groups = [
        counted(len(preview[level]), word)
        for level, word in (("sockets", "socket"), ("numa_nodes", "NUMA node"), ("l3_groups", "L3 group"))
    ]
    return [
        f"  CPUs {preview['online']} online: {', '.join(groups)}, {_threads(preview['thread_counts'])} a core, "
        f"{counted(len(gpus), 'GPU')}",
        f"  kubelet {kubelet['version']}, {_options(kubelet['policy_options'])}, {_managers(kubelet)}",
        *_profile_lines(preview["profile"]),
        "",
        f"  reserved {reservation['cpus']}   ({reservation['summary']})",
        *(f"    {reason}" for reason in reservation["reasons"]),
        "",
        *_table(
            [
                ["group", "CPUs", "reserved", "left", f"pods of {size}", "GPUs"],
                *(
                    [
                        f"{word} {group['id']}",
                        group["cpus"],
                        group["reserved"] or "-",
                        str(group["left_count"]),
                        str(group["left_count"] // size),
                        str(len(group["gpus"])),
                    ]
                    for level, word in (("numa_nodes", "NUMA"), ("l3_groups", "L3"))
                    for group in preview[level]
                ),
            ]
        ),
        f"  room for pods of {counted(size, 'CPU')}: {room['anywhere']} anywhere; each inside one NUMA node {room['numa_nodes']}, "
        f"inside one L3 group {room['l3_groups']}, beside a GPU {room['beside_gpu']}",
        "",
        *preview["drawing"],
        f"  {_LEGEND}",
        "",
        *_pod_lines(preview),
        *_advice_lines(preview),
        *(f"  note: {note}" for note in preview["notes"]),
    ]


def _profile_lines(profile: Data) -> list[str]:
    """What the profile and the operator ask for; nothing for the default without further settings."""
    rows = [[one["name"], one["origin"], shown(one["value"])] for one in profile["settings"]]
    if profile["name"] == BALANCED and not rows:
        return []
    lines = [f"  profile {profile['name']}", *(_table(rows) if rows else [])]
    return [*lines, *(f"    {reason}" for reason in profile["memory_reasons"])]


def _managers(kubelet: Data) -> str:
    """The policies that decide on NUMA nodes."""
    policy, memory = kubelet["topology_manager_policy"], kubelet["memory_manager_policy"]
    scope = f" per {kubelet['topology_manager_scope']}" if policy != "none" else ""
    return f"topology manager {policy}{scope}" + (f", memory manager {memory}" if memory != "None" else "")


def _pod_lines(preview: Data) -> list[str]:
    if preview["pods_unknown"]:
        return [f"  which CPUs pods get is not known: {preview['pods_unknown']}", ""]
    pods, inside = preview["pods"], preview["inside"]
    title = "these pods" if preview["pods_given"] else f"as many pods of {preview['room']['pod_cpus']} as fit"
    beside = any(pod["memory_nodes"] or pod["device_nodes"] for pod in pods)
    rows = [["", "request", "CPUs", "L3", "NUMA", "beside GPUs", *(["memory on", "devices on"] if beside else [])]]
    for number, pod in enumerate(pods):
        cpus = pod["cpus"] or ("REFUSED" if pod["refused"] else "shared pool")
        of_cpus, of_memory, of_devices = _marks(pod)
        rows.append(
            [
                f"{_letter(number)}  {pod['pod']}",
                pod["request"],
                cpus + of_cpus,
                format_cpuset(pod["l3_groups"]) or "-",
                format_cpuset(pod["numa_nodes"]) or "-",
                str(len(pod["beside_gpus"])) if pod["cpus"] else "-",
                *([(format_cpuset(pod["memory_nodes"]) or "-") + of_memory] if beside else []),
                *([(format_cpuset(pod["device_nodes"]) or "-") + of_devices] if beside else []),
            ]
        )
    if not pods:
        size = preview["room"]["pod_cpus"]
        left = len(parse_cpuset(preview["online"]) - parse_cpuset(preview["reservation"]["cpus"]))
        return [
            f"  no pod of {counted(size, 'CPU')} fits: {counted(left, 'CPU')} can be exclusive. Set node_preview_pod_cpus to {left} or "
            "less.",
            "",
        ]
    refused = [line for pod in pods if pod["refused"] for line in _refusal_lines(pod)]
    return [
        f"  what kubelet {preview['kubelet']['version']} gives {title}, in this order, on an empty node:",
        *_table(rows),
        *refused,
        *(_uncertain_line(pod) for pod in pods if not pod["certain"]),
        f"  of {inside['pods']} with exclusive CPUs: {inside['l3_groups']} inside one L3 group, {inside['numa_nodes']} inside one NUMA "
        f"node, {inside['beside_gpu']} beside a GPU",
        "",
    ]


def _marks(pod: Data) -> list[str]:
    """What is added to a pod's CPUs, memory and devices: whether others are possible."""
    uncertain: Iterable[str] = pod["uncertain"]
    kinds = {"cpu" if name == "cpu" else "memory" if is_memory(name) else "devices" for name in uncertain}
    if pod["refused"] and kinds:
        kinds = {"cpu"}
    return [" (one of several)" if kind in kinds else "" for kind in ("cpu", "memory", "devices")]


def _uncertain_line(pod: Data) -> str:
    """Why a pod's result is one of several."""
    by_decider: dict[str | None, list[str]] = {}
    for resource, decider in pod["uncertain"].items():
        noun = "CPUs" if resource == "cpu" else resource if is_memory(resource) else f"{resource} devices"
        by_decider.setdefault(decider, []).append(noun)
    reasons = [
        f"the kubelet may choose other {' and '.join(nouns)}"
        if decider is None
        else f"its {' and '.join(nouns)} depend on what {decider} gets"
        for decider, nouns in by_decider.items()
    ]
    return f"  {pod['pod']} is one of several possible results: {', and '.join(reasons)}"


def _refusal_lines(pod: Data) -> list[str]:
    """Why a pod is refused, and what would let it in."""
    enough = ", ".join(f"{remedy['what']} {remedy['value']}" for remedy in pod["remedies"])
    lines = [f"  {pod['pod']} would be refused: {pod['refused']}"]
    return [*lines, f"    any of these would let it in: {enough}"] if enough else lines


def _advice_lines(preview: Data) -> list[str]:
    if preview["pods_unknown"]:
        return []
    size = preview["room"]["pod_cpus"]
    if not preview["advice"]:
        if not preview["largest_inside"]:
            return ["  advice: none is needed. The node has one NUMA node and one L3 group: every pod is inside.", ""]
        return [
            f"  advice: none. Pods of {counted(size, 'CPU')} fit into no L3 group or NUMA node that is one of several here. Set "
            f"node_preview_pod_cpus to {preview['largest_inside']} or less.",
            "",
        ]
    planned, *better = preview["advice"]
    level, pods = planned["level"], counted(planned["pods"], "pod")
    if planned["kept_inside"] == planned["pods"]:
        stay = (
            f"All {pods} of {counted(size, 'CPU')} stay"
            if planned["pods"] > 1
            else f"A pod of {counted(size, 'CPU')} stays"
        )
        return [
            f"  advice: nothing to change. {stay} inside one {level}.",
            "",
        ]
    if not better:
        return [
            f"  advice: {planned['kept_inside']} of {pods} of {counted(size, 'CPU')} stay inside one {level}; no reservation, pod size or "
            "policy option that was tried does better.",
            "",
        ]
    best = better[0]
    same_size = next((choice for choice in better if choice["pod_cpus"] == size), None)
    rows = [["", "reserved", "pods of", "policy options", f"inside one {level}", "CPUs to pods"]]
    for name, choice in [("planned", planned), *(("", choice) for choice in better)]:
        rows.append(
            [
                name,
                choice["reserved"],
                str(choice["pod_cpus"]),
                _options(choice["policy_options"]),
                f"{choice['kept_inside']} of {choice['pods']}",
                str(choice["pods"] * choice["pod_cpus"]),
            ]
        )
    return [
        f"  advice: {_does(best, planned)}: {best['kept_inside']} of {counted(best['pods'], 'pod')} stay inside one {level}, instead of "
        f"{planned['kept_inside']} of {planned['pods']}.",
        f"    {_why(best, planned)}",
        *(
            [
                f"    With pods of {counted(size, 'CPU')}: {_does(same_size, planned)}: {same_size['kept_inside']} of {same_size['pods']}."
            ]
            if same_size and same_size != best
            else []
        ),
        *_table(rows),
        "",
    ]


def _does(choice: Data, planned: Data) -> str:
    """The changes that a choice needs."""
    parts = []
    if choice["reserved"] != planned["reserved"]:
        parts.append(f"reserve {choice['reserved']} (cpu_manager_reserved_cpus)")
    if choice["pod_cpus"] != planned["pod_cpus"]:
        parts.append(f"ask for {counted(choice['pod_cpus'], 'CPU')} a pod")
    if choice["policy_options"] != planned["policy_options"]:
        parts.append(f"set {_options(choice['policy_options'])} (cpu_manager_policy_options)")
    return ", ".join(parts)


def _why(choice: Data, planned: Data) -> str:
    level = planned["level"]
    if choice["policy_options"] != planned["policy_options"]:
        return f"This kubelet then looks for a whole {level}, or one with room, before it takes the lowest free cores."
    return (
        f"The kubelet hands out the lowest free cores one after the other and knows no border: where the pod size divides every {level}, "
        "and what the reservation leaves of its own, pods begin and end at the borders."
    )


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={str(value).lower()}" for name, value in sorted(options.items())) or "no policy options"


def _threads(counts: Sequence[int]) -> str:
    """``2 threads``, or ``1 or 2 threads`` on a hybrid processor."""
    return counted(counts[0], "thread") if len(counts) == 1 else f"{' or '.join(map(str, counts))} threads"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
