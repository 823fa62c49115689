# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods may lose their CPUs to the pods that an upgrade drains."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import requested, untolerated
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Object = Mapping[str, t.Any]


def preemptions(
    nodes: Iterable[Object], pods: Mapping[str, Collection[Object]], leaving: Mapping[str, Collection[str]]
) -> list[str]:
    """Find the drained pods that may preempt pods with whole CPUs, because they do not fit on any other node.

    Only then does the scheduler look for victims of lower priority (Kubernetes ``pkg/scheduler/framework/preemption``).
    "May", because cordons, taints and CPUs are the only scheduling constraints checked here.

    :param pods: node -> its pods
    :param leaving: node -> "namespace/name" of the pods that a drain of the node evicts
    """
    nodes = list(nodes)
    free = {node["metadata"]["name"]: _free(node, pods[node["metadata"]["name"]]) for node in nodes}
    found = []
    for name in sorted(leaving):
        for pod in pods[name]:
            own, wanted = _name(pod), sum(requested("cpu", [pod]).values(), Fraction(0))
            if own not in leaving[name] or not wanted or pod["spec"].get("preemptionPolicy") == "Never":
                continue
            others = [n["metadata"]["name"] for n in nodes if n["metadata"]["name"] != name and _admits(n, pod)]
            if any(free[other] >= wanted for other in others):
                continue
            victims = [
                f"{_name(victim)} on {other}"
                for other in sorted(others)
                for victim in pods[other]
                if _priority(victim) < _priority(pod) and _has_whole_cpus(victim)
            ]
            if victims:
                found.append(
                    f"pod {own} (priority {_priority(pod)}) leaves {name} when it is drained, and no other node has "
                    f"{counted(float(wanted), 'CPU')} free for it: it may preempt {' or '.join(victims)}. Leave room, or give "
                    "pods with exclusive CPUs a priority class."
                )
    return found


def _free(node: Object, pods: Iterable[Object]) -> Fraction:
    return parse_quantity(node["status"]["allocatable"]["cpu"]) - sum(requested("cpu", pods).values(), Fraction(0))


def _has_whole_cpus(pod: Object) -> bool:
    """Whether the static policy gives a container of the pod exclusive CPUs."""
    asked = [
        parse_quantity(((container.get("resources") or {}).get("requests") or {}).get("cpu", "0"))
        for container in pod["spec"]["containers"]
    ]
    status = pod.get("status") or {}
    lives = status.get("phase") not in ("Succeeded", "Failed")
    return lives and status.get("qosClass") == "Guaranteed" and any(one and one.denominator == 1 for one in asked)


def _admits(node: Object, pod: Object) -> bool:
    """Whether no cordon or taint keeps the pod off the node."""
    return not node["spec"].get("unschedulable") and not untolerated(node, pod["spec"].get("tolerations") or [])


def _priority(pod: Object) -> int:
    return pod["spec"].get("priority") or 0


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
