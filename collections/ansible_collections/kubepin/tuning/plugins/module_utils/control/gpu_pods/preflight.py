# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch to the static policy would do to GPU pods. Pure: plans, stacks and an audit in, plain data out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import summary_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.problems import (
    gpu_access_lost,
    gpu_access_unknown,
    runtime_unread,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import (
    Forecast,
    forecast,
    refusal_problems,
    whole_gpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.result import with_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import listed

Data = Mapping[str, Any]
Stacks = Sequence[Data]
"""For each node that was read, its name as ``node``, the result of container_runtime_info as ``runtime``, that of
cpu_topology_info as ``topology``, why they could not be read as ``runtime_error`` and ``topology_error``, the fact kubepin_plan as
``plan``, and in check mode the version that an upgrade would install as ``kubelet_version``; all but the name may be empty. A
node that was not read is an empty dictionary."""

_NOT_FACTS = ("schema", "runtime", "unknown")
_BY_THE_NODE = ("too_many_cpus", "smt_alignment")
_BY_OTHER_CONTAINERS = ("other_container", "empty_pod_pool")
_NAMED = 3


def gpu_pods_nodes(stacks: Stacks, supplied: Data) -> dict[str, dict[str, Any]]:
    """The option ``nodes`` of gpu_pod_info.

    Precedence, lowest first: facts read from the node, the operator's facts, the plan. What the operator says of a node
    counts for all handlers of its container runtime, unless the operator names the handlers too.
    """
    nodes = {name: dict(facts) for name, facts in supplied.items()}
    for stack in filter(None, stacks):
        read = {key: value for key, value in stack["runtime"].items() if key not in _NOT_FACTS and value is not None}
        of_operator = supplied.get(stack["node"], {})
        if "handlers" in read:
            read["handlers"] = {name: _without(facts, of_operator) for name, facts in read["handlers"].items()}
        nodes[stack["node"]] = {**read, **of_operator, **_after(stack)}
    return {name: facts for name, facts in nodes.items() if facts}


def _without(facts: Data, others: Data) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in others}


def gpu_pods_preflight(audit: Data, stacks: Stacks, accept_risk: bool, accept_refused: bool) -> dict[str, Any]:
    """``audit`` of the pods that the static policy would not pin, ``plans`` of nodes with problems, and ``warnings``.

    Pods that the drain evicts are created again by their owners, so the owner's template counts.

    :param accept_risk: whether GPU pods that may lose their GPU are a warning rather than a problem
    :param accept_refused: the same for pods that the kubelet would refuse
    """
    owners = {(owner["namespace"], f"{owner['kind']}/{owner['name']}"): owner for owner in audit["owners"]}
    switched = {stack["node"]: stack for stack in stacks if _to_static(stack)}
    restarted = {stack["node"]: stack for stack in stacks if stack and stack["plan"].get("changed")}
    unpinned, warnings = [], []
    found: dict[str, list[Problem]] = {}
    for pod in audit["pods"]:
        stays = pod["node"] in restarted and _name(pod) not in restarted[pod["node"]]["plan"]["pods_to_evict"]
        if stays and pod["risk"]["causes"]:
            warnings.append(_stays(pod))
        template = None if stays else owners.get((pod["namespace"], pod["owner"]))
        if pod["node"] in switched and not _pinned(pod, template):
            unpinned.append(pod)
    for node in switched:
        in_danger = [pod for pod in unpinned if pod["node"] == node and _added(pod)]
        if not in_danger:
            continue
        problem = _gpu_access_risk(in_danger)
        if accept_risk:
            warnings.append(_accepted(node, problem, "gpu_qos_accept_risk"))
        else:
            found[node] = [problem]
    warnings += [problem.text for problem in unread_runtimes([*restarted.values()])]
    for node, stack in restarted.items():
        refused, warned = _refusals(stack, audit["requests"].get(node, []), accept_refused)
        found[node] = [*found.get(node, []), *refused]
        warnings += warned
    makers = {(pod["namespace"], pod["owner"]) for pod in unpinned}
    owners_of_unpinned = [owner for key, owner in owners.items() if key in makers]
    return {
        "audit": {
            "schema": 1,
            "pods": unpinned,
            "owners": owners_of_unpinned,
            "summary": summary_of(unpinned, owners_of_unpinned, 0),
            "problems": audit["problems"],
        },
        "plans": {
            node: with_problems(restarted[node]["plan"], problems) for node, problems in found.items() if problems
        },
        "warnings": warnings,
    }


def unread_runtimes(stacks: Stacks) -> list[Problem]:
    """The nodes whose container runtime could not be read, so that the risk of their pods may be unknown: one problem for all
    nodes with the same reason."""
    nodes: dict[str, list[str]] = {}
    for stack in filter(None, stacks):
        if stack.get("runtime_error"):
            nodes.setdefault(stack["runtime_error"], []).append(stack["node"])
    return [runtime_unread(listed(names, _NAMED), reason) for reason, names in nodes.items()]


def _refusals(stack: Data, requests: Sequence[Data], accepted: bool) -> tuple[list[Problem], list[str]]:
    """The problems with pods that the kubelet would refuse under the static policy, and warnings."""
    if stack["plan"]["policy"] != "static" or not stack["plan"].get("kubelet_after"):
        return [], []
    node, coming = stack["node"], _forecast(stack, requests)
    problems = refusal_problems(coming)
    warnings = [_accepted(node, problem, "gpu_qos_accept_refused") for problem in problems if accepted]
    if coming.no_room:
        names = listed([refusal.pod for refusal in coming.no_room], _NAMED)
        warnings.append(
            f"{node}: if all pods come back to this node, it would refuse {names}: {coming.no_room[0].reason}."
        )
    if coming.unknown:
        warnings.append(f"{node}: it is not known which pods the kubelet would refuse: {coming.unknown}")
    return [] if accepted else problems, warnings


def _forecast(stack: Data, requests: Sequence[Data]) -> Forecast:
    plan = stack["plan"]
    if not stack.get("topology"):
        return Forecast(unknown=stack.get("topology_error") or "its CPUs were not read")
    try:
        topology = Topology.of(stack["topology"])
    except TuningError as exc:
        return Forecast(unknown=str(exc))
    gpus = whole_gpus(plan.get("gpu_resource"), plan.get("gpus_before"))
    return forecast(topology, plan["kubelet_after"], requests, plan["pods_to_evict"], gpus)


def _to_static(stack: Data) -> bool:
    plan = stack.get("plan") or {}
    return bool(plan.get("changed")) and plan["policy"] == "static" != plan["policy_before"]


def _after(stack: Data) -> dict[str, Any]:
    """The node's facts after the switch, as far as the switch determines them."""
    if not _to_static(stack):
        return {}
    facts = {
        "cpu_manager_policy": "static",
        "kubelet_version": stack.get("kubelet_version"),
        "allocatable_cpu": stack["plan"].get("exclusive_cpus"),
    }
    known = ("pod_scope", "full_pcpus_only")
    return {
        **{key: value for key, value in facts.items() if value},
        **{key: stack["plan"][key] for key in known if stack["plan"].get(key) is not None},
    }


def _pinned(pod: Data, template: Data | None) -> bool:
    """Whether the containers that hold the GPU, or those that will hold it in the next pod, share no CPUs with other pods."""
    holders = [container for container in pod["containers"] if container["gpus"]]
    planned = [c for c in (template or {}).get("containers", []) if pod["template"] in (None, c["template"])]
    if not planned:
        return all(container["pool"] != "node" for container in holders)
    injected = {c["name"] for c in pod["containers"]} - {c["name"] for c in planned}
    by_others = (*_BY_THE_NODE, *(_BY_OTHER_CONTAINERS if injected else ()))
    return all(c["pool"] != "node" for c in planned if c["gpus"]) and not any(
        reason in by_others for container in holders for reason in container["reasons"]
    )


def _added(pod: Data) -> list[Data]:
    """The causes that the static policy adds: updates of containers, also where missing links make them take the GPU.
    A daemon-reload does the same under any policy."""
    return [
        cause
        for cause in pod["risk"]["causes"]
        if cause["code"] == "container_update" or (cause["code"] == "dev_char_links" and cause["grade"] == "high")
    ]


def _gpu_access_risk(pods: Sequence[Data]) -> Problem:
    unknown = sorted({name for pod in pods for cause in _added(pod) for name in cause["unknown"]})
    named = listed([_name(pod) for pod in pods], _NAMED)
    return gpu_access_unknown(named, unknown) if unknown else gpu_access_lost(named)


def _accepted(node: str, problem: Problem, variable: str) -> str:
    """A problem as a warning."""
    return f"{node}: {problem.subject} {problem.finding}. {variable} is true, so the run goes on."


def _stays(pod: Data) -> str:
    causes = ", ".join(cause["code"] for cause in pod["risk"]["causes"])
    unknown = pod["risk"]["unknown"]
    effect = (
        f"may cost it its GPU ({causes}; unknown: {', '.join(unknown)})" if unknown else f"costs it its GPU ({causes})"
    )
    return (
        f"{pod['node']}: {_name(pod)} stays through the drain, and the restart of the kubelet {effect}. "
        "Delete the pod after the switch, so that it is made anew."
    )


def _name(pod: Data) -> str:
    return f"{pod['namespace']}/{pod['name']}"
