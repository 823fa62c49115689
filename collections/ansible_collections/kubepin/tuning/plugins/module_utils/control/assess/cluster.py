# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a cluster's API says about its GPU nodes and GPU pods, and the next step for each finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import (
    FIRST_WITHOUT_RECONCILE_OF_PINNED,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.installer import (
    Installer,
    installer_of,
    traces_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cpu_managers import other_cpu_managers
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import (
    DEFAULT_PREFIXES,
    offered_gpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.inventory import node_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import (
    Node,
    Object,
    node_from_api,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.outlook import too_big
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config

SCHEMA = 1
_PRESENT = "nvidia.com/gpu.present"
"""The label of nodes with an NVIDIA GPU, also where a DRA driver offers them (NVIDIA/gpu-operator, controllers/state_manager.go)."""


@dataclass(frozen=True)
class Seen:
    """What could be read of a cluster; an error stands for what could not."""

    server: str
    version: str | None
    version_error: str
    nodes: Sequence[Object]
    configz: Mapping[str, Config] = field(default_factory=dict)
    configz_errors: Mapping[str, str] = field(default_factory=dict)
    pods: Sequence[Object] | None = None
    """Of the whole cluster; None if they could not be read."""
    pods_error: str = ""
    owners: Sequence[Object] = ()
    owners_error: str = ""


def has_gpu(node: Object) -> bool:
    """Whether the node has GPUs, also if none is allocatable at present."""
    labels = node["metadata"].get("labels") or {}
    return bool(offered_gpus(node.get("status") or {})) or labels.get(_PRESENT) == "true"


class _Source:
    """What was read, for the audit."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._nodes = {node["metadata"]["name"]: node for node in seen.nodes}

    def pods(self) -> Iterator[Object]:
        return iter(self._seen.pods or ())

    def owners(self) -> Iterator[Object]:
        return iter(self._seen.owners)

    def claims(self) -> Iterator[Object]:
        return iter(())

    def runtime_classes(self) -> Iterator[Object]:
        return iter(())

    def unread(self) -> Sequence[Problem]:
        return ()

    def node_facts(self, name: str) -> Node:
        node = self._nodes.get(name)
        return Node() if node is None else node_from_api(node, self._seen.configz.get(name))


def assess_cluster(seen: Seen) -> dict[str, Any]:
    """The assessment (schema 1): nodes, owners of GPU pods, findings and what was not seen, both as problems.

    :raises TuningError: if a pod cannot be understood
    """
    gpu_nodes = [node for node in seen.nodes if has_gpu(node)]
    traces = traces_of(seen.pods or ())
    installers = {node["metadata"]["name"]: installer_of(node, traces) for node in gpu_nodes}
    nodes = [_node(node, seen, installers[node["metadata"]["name"]]) for node in gpu_nodes]
    static = {node["metadata"]["name"]: {"cpu_manager_policy": "static"} for node in seen.nodes}
    now = audit(_Source(seen), {}, DEFAULT_PREFIXES, 1)["pods"]
    if_static = audit(_Source(seen), static, DEFAULT_PREFIXES, 1)
    then, refused = if_static["pods"], _too_big(seen, nodes, if_static["requests"])
    owners = _owners(seen, now, then)
    return {
        "schema": SCHEMA,
        "server": seen.server,
        "version": seen.version,
        "other_nodes": len(seen.nodes) - len(gpu_nodes),
        "nodes": nodes,
        "pods": {
            "total": len(now),
            "exclusive": sum(_is_exclusive(pod, seen) is True for pod in now),
            "exclusive_if_static": sum(pod["exclusive"] for pod in then),
        }
        if seen.pods is not None
        else None,
        "owners": owners,
        "findings": to_dicts(_findings(seen, nodes, installers, now, then, owners, refused)),
        "unseen": to_dicts(_unseen(seen)),
    }


def _is_exclusive(pod: Mapping[str, Any], seen: Seen) -> bool | None:
    """Whether a pod of the audit has exclusive CPUs now; None if the policy of its node is unknown."""
    if not pod["exclusive"]:
        return False
    return None if pod["node"] not in seen.configz else True


def _node(node: Object, seen: Seen, installer: Installer) -> dict[str, Any]:
    facts = node_facts(node, DEFAULT_PREFIXES)
    name = node["metadata"]["name"]
    configz = seen.configz.get(name)
    known = configz or {}
    return {
        "name": name,
        **{key: facts[key] for key in ("ready", "gpus", "gpu_model", "kubelet_version", "container_runtime", "os")},
        "cpus": facts["cpu"]["capacity"],
        "policy": None if configz is None else known.get("cpuManagerPolicy") or "none",
        "policy_options": dict(known.get("cpuManagerPolicyOptions") or {}),
        "reserved": _reserved(known),
        "topology_manager": None
        if configz is None
        else {
            "policy": known.get("topologyManagerPolicy") or "none",
            "scope": known.get("topologyManagerScope") or "container",
        },
        "memory_manager_policy": None if configz is None else known.get("memoryManagerPolicy") or "None",
        "configz_error": seen.configz_errors.get(name),
        "installer": {"name": installer.name, "evidence": installer.evidence, "tuned_by_kubepin": installer.by_tune},
    }


def _reserved(configz: Config) -> str | None:
    """The CPUs or the amounts that are kept from pods; None if there are none, or they are unknown."""
    if configz.get("reservedSystemCPUs"):
        return f"CPUs {configz['reservedSystemCPUs']}"
    amounts = [(configz.get(field) or {}).get("cpu") for field in ("kubeReserved", "systemReserved")]
    return " + ".join(str(amount) for amount in amounts if amount) or None


def _owners(seen: Seen, now: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The GPU pods by what created them: how many have exclusive CPUs (null if that is unknown of one of them), and why
    others have none under either policy."""
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = defaultdict(list)
    for pod, if_static in zip(now, then, strict=True):
        groups[pod["namespace"], pod["owner"] or f"Pod/{pod['name']}"].append((pod, if_static))
    return [
        {
            "namespace": namespace,
            "owner": owner,
            "pods": len(pods),
            "nodes": sorted({pod["node"] for pod, _then in pods if pod["node"]}),
            "exclusive": _sum_known(_is_exclusive(pod, seen) for pod, _then in pods),
            "exclusive_if_static": sum(if_static["exclusive"] for _now, if_static in pods),
            "reasons": _reasons(pod for pod, _then in pods),
            "reasons_if_static": _reasons(if_static for _now, if_static in pods),
            "no_thread_count": any(one["no_thread_count"] for pod, _then in pods for one in pod["containers"]),
        }
        for (namespace, owner), pods in sorted(groups.items())
    ]


def _sum_known(values: Iterable[bool | None]) -> int | None:
    """How many are true; None if one is unknown."""
    listed = list(values)
    return None if None in listed else listed.count(True)


def _reasons(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    found = [reason for pod in pods for container in pod["containers"] for reason in container["reasons"]]
    return list(dict.fromkeys(found))


def _findings(
    seen: Seen,
    nodes: Sequence[Mapping[str, Any]],
    installers: Mapping[str, Installer],
    now: Sequence[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    owners: Sequence[Mapping[str, Any]],
    refused: Sequence[str],
) -> list[Problem]:
    """The findings with the next step, in the order in which to take them."""
    if not nodes:
        return [problems.no_gpu_nodes(len(seen.nodes))]
    found = []
    if names := [node["name"] for node in nodes if not node["ready"]]:
        found.append(problems.node_not_ready(names))
    if names := [node["name"] for node in nodes if _is_old(node["name"], seen)]:
        found.append(problems.old_kubelet(names))
    on_gpu_nodes = [pod for pod in seen.pods or () if (pod.get("spec") or {}).get("nodeName") in installers]
    found += other_cpu_managers(on_gpu_nodes)
    if pods := sum(any(one["no_thread_count"] for one in pod["containers"]) for pod in now):
        found.append(problems.threads_not_set(pods))
    by_way: dict[Installer, list[str]] = defaultdict(list)
    for node in nodes:
        if node["policy"] == "none":
            installer = installers[node["name"]]
            by_way[replace(installer, evidence="")].append(node["name"])
    found += [problems.policy_none(names, installer) for installer, names in by_way.items()]
    if refused:
        found.append(problems.pods_too_big(refused))
    if names := [node["name"] for node in nodes if node["policy"] == "static"]:
        found.append(problems.policy_static(names))
    if seen.pods is not None and not now:
        found.append(problems.no_gpu_pods())
    if pods := sum(if_static["exclusive"] and not pod["exclusive"] for pod, if_static in zip(now, then, strict=True)):
        found.append(problems.pods_wait_for_policy(pods))
    if pods := sum(not pod["exclusive"] for pod in then):
        found.append(problems.pods_not_exclusive(pods, sum(bool(owner["reasons_if_static"]) for owner in owners)))
    return found


def _too_big(
    seen: Seen, nodes: Sequence[Mapping[str, Any]], requests: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    """The pods that are certainly too big for their node after a switch, of nodes whose configuration could be read."""
    found = []
    for node in nodes:
        if node["policy"] != "none" or node["kubelet_version"] is None:
            continue
        try:
            cpus = int(parse_quantity(node["cpus"] or "0"))
            configz = seen.configz[node["name"]]
            found += too_big(requests[node["name"]], cpus, configz, node["kubelet_version"].removeprefix("v"))
        except TuningError:
            continue  # tune says why such a node cannot be switched
    return found


def _is_old(name: str, seen: Seen) -> bool:
    node = next(node for node in seen.nodes if node["metadata"]["name"] == name)
    version = node_from_api(node, None).kubelet
    return version is not None and version.line < FIRST_WITHOUT_RECONCILE_OF_PINNED


def _unseen(seen: Seen) -> list[Problem]:
    found = []
    if seen.version is None:
        found.append(problems.version_unseen(seen.version_error))
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in seen.configz_errors.items():
        by_reason[reason.replace(name, "NODE")].append(name)
    found += [problems.configz_unseen(names, reason) for reason, names in by_reason.items()]
    if seen.pods is None:
        found.append(problems.pods_unseen(seen.pods_error))
    if seen.owners_error:
        found.append(problems.owners_unseen(seen.owners_error))
    return [*found, problems.only_on_nodes(), problems.only_by_measuring()]
