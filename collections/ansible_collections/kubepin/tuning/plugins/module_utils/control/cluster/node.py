# SPDX-License-Identifier: GPL-3.0-or-later
"""One node in the API as a compact fact. Pure: plain API objects in, plain data out."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import (
    counted_resource,
    gpus_expected_by,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import labels_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark, mark_of, why_not_ours
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.other_tools import foreign_work

_STARTING_SECONDS = 120
"""How long a started kubelet may report that it is not Ready."""


def node_facts(
    node: Mapping[str, t.Any], configz: Mapping[str, t.Any] | None, configz_error: str | None, gpu_resource: str
) -> dict[str, t.Any]:
    """The node object and the kubelet's live configuration as one flat fact (schema 1), without the drain.

    :param gpu_resource: the resource that counts its GPUs, or ``auto``
    """
    spec, status = node.get("spec") or {}, node.get("status") or {}
    gpu_resource = counted_resource(status, gpu_resource)
    ready: Mapping[str, t.Any] = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    return {
        "schema": 1,
        "name": node["metadata"]["name"],
        "ready": ready.get("status") == "True",
        "reported_at": _seconds(ready.get("lastHeartbeatTime")),
        "ready_reason": ": ".join(filter(None, (ready.get("reason"), ready.get("message")))) or "no Ready condition",
        "unschedulable": bool(spec.get("unschedulable")),
        "cordoned_by_kubepin": mark_of(node) is not None,
        "labelled": labels_of(node),
        "boot_id": (status.get("nodeInfo") or {}).get("bootID"),
        "kubelet_version": (status.get("nodeInfo") or {}).get("kubeletVersion"),
        "gpu_resource": gpu_resource,
        "gpus_expected_by": gpus_expected_by(node, gpu_resource),
        "allocatable": _resources(status.get("allocatable") or {}, gpu_resource),
        "capacity": _resources(status.get("capacity") or {}, gpu_resource),
        "configz": configz,
        "configz_error": configz_error,
        "addresses": list(status.get("addresses") or []),
        "taints": list(spec.get("taints") or []),
    }


def just_started(node: Mapping[str, t.Any]) -> bool:
    """Whether a node is not Ready because its kubelet was started a moment ago.

    Such a kubelet reports False: it has not checked its runtime yet (kubernetes/kubernetes pkg/kubelet/runtime.go). One
    that does not report at all is Unknown. Both times are by the node's clock.
    """
    conditions = (node.get("status") or {}).get("conditions") or []
    ready: Mapping[str, t.Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    since, reported = _seconds(ready.get("lastTransitionTime")), _seconds(ready.get("lastHeartbeatTime"))
    if ready.get("status") != "False" or since is None or reported is None:
        return False
    return reported - since <= _STARTING_SECONDS


def work_facts(
    node: Mapping[str, t.Any], mine: Mark, now: float, is_running: Callable[[str], bool | None]
) -> dict[str, t.Any]:
    """Who is working on the node, for a run with the mark *mine*.

    ``mark`` is kubepin's mark or None, ``resumable`` whether it is this run's or that of an interrupted one, ``problems``
    are why the node has to be left alone, and ``notes`` name programs that may begin to work on it.
    """
    mark = mark_of(node)
    problem = why_not_ours(node["metadata"]["name"], mark, mine, now, is_running)
    others, notes = foreign_work(node)
    return {
        "mark": asdict(mark) if mark else None,
        "resumable": mark is not None and problem is None,
        "problems": to_dicts([*([problem] if problem else []), *others]),
        "notes": notes,
    }


def manager_policy(configz: Mapping[str, t.Any], manager: str) -> str:
    """The policy of the ``CPU``, ``topology`` or ``memory`` manager that a kubelet runs with. One without such a manager, or
    that does not name it, has its default."""
    return str(configz.get(f"{manager.lower()}ManagerPolicy") or ("None" if manager == "memory" else "none"))


def unmet(facts: Mapping[str, t.Any], wanted: Mapping[str, t.Any]) -> list[str]:
    """The *wanted* states that do not hold, each with its last value; a state that is None is not checked.

    *wanted* has the keys ``ready``, ``kubelet_version`` (as the API shows it), ``cpu_manager_policy``,
    ``topology_manager_policy``, ``memory_manager_policy``, ``allocatable_cpu`` (exactly this many CPUs), ``gpu`` (at least
    this many devices), and ``reported_since`` (seconds since 1970 by the node's clock, which heartbeats use too: a kubelet
    reports as soon as it is up, pkg/kubelet/kubelet_node_status.go; heartbeats are in whole seconds). That clock may be set
    back meanwhile, so a heartbeat other than ``first_report``, which was seen first, is a newer one, too.
    """
    missing = []
    since = wanted.get("reported_since")
    if since is not None and not _is_newer(facts["reported_at"], since, wanted.get("first_report")):
        missing.append("the API has not heard of the node since its kubelet was started")
    if wanted.get("ready") is not None and facts["ready"] != wanted["ready"]:
        state, aim = ("Ready" if ready else "not Ready" for ready in (facts["ready"], wanted["ready"]))
        missing.append(f"the node is {state} ({facts['ready_reason']}), wanted {aim}")
    version = wanted.get("kubelet_version")
    if version is not None and facts["kubelet_version"] != version:
        missing.append(f"the kubelet's version is {facts['kubelet_version']}, wanted {version}")
    for manager in ("CPU", "topology", "memory"):
        policy = wanted.get(f"{manager.lower()}_manager_policy")
        if policy is None:
            continue
        if facts["configz"] is None:
            missing.append(f'the {manager} manager policy is unknown, wanted "{policy}": {facts["configz_error"]}')
            break  # for the same reason
        found = manager_policy(facts["configz"], manager)
        if found != policy:
            missing.append(f'the {manager} manager policy is "{found}", wanted "{policy}"')
    cpu, aim_cpu = facts["allocatable"]["cpu"], wanted.get("allocatable_cpu")
    if aim_cpu is not None and (cpu is None or parse_quantity(cpu) != aim_cpu):
        missing.append(f"allocatable cpu is {cpu}, wanted {aim_cpu}")
    gpu, aim_gpu = facts["allocatable"]["gpu"], wanted.get("gpu")
    if aim_gpu is not None and gpu < aim_gpu:
        missing.append(f"allocatable {facts['gpu_resource']} is {gpu}, wanted at least {aim_gpu}")
    return missing


def _is_newer(reported: float | None, since: float, first: float | None) -> bool:
    if reported is None:
        return False
    return reported >= int(since) or (first is not None and reported != first)


def requested(resource: str, pods: Iterable[Mapping[str, t.Any]]) -> dict[str, Fraction]:
    """namespace/name -> how much *resource* each unfinished pod requests; pods without a request are omitted."""
    found: dict[str, Fraction] = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        amounts = [
            parse_quantity(((container.get("resources") or {}).get("requests") or {}).get(resource, "0"))
            for container in pod["spec"].get("containers") or []
        ]
        if total := sum(amounts, Fraction(0)):
            found[f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"] = total
    return found


def untolerated(node: Mapping[str, t.Any], tolerations: Sequence[Mapping[str, t.Any]]) -> list[str]:
    """The node's taints that a pod with these *tolerations* does not tolerate, in kubectl's notation."""
    taints = (node.get("spec") or {}).get("taints") or []
    return [
        f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
        for taint in taints
        if taint["effect"] != "PreferNoSchedule" and not is_tolerated(taint, tolerations)
    ]


def is_tolerated(taint: Mapping[str, t.Any], tolerations: Iterable[Mapping[str, t.Any]]) -> bool:
    """Whether a pod with these *tolerations* tolerates the taint."""
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, t.Any], taint: Mapping[str, t.Any]) -> bool:
    """k8s.io/api/core/v1 Toleration.ToleratesTaint"""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _seconds(timestamp: str | None) -> int | None:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else None


def _resources(quantities: Mapping[str, str], gpu_resource: str) -> dict[str, t.Any]:
    return {"cpu": quantities.get("cpu"), "gpu": int(parse_quantity(quantities.get(gpu_resource, "0")))}
