# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods of a node its kubelet would refuse after a switch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import Books, Supplies, rules_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    Container,
    Machine,
    Pod,
    Rules,
    machine_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import is_memory
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.remedies import Remedy, remedies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.supplies import WHOLE_GPUS, supplies_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import Container as Specified
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import own_resources, qos

Data = Mapping[str, Any]
_ROLES = {"container": "app"}


def request_of(item: Data, containers: Sequence[Specified]) -> dict[str, Any]:
    """What a pod asks of its node, as plain data.

    :param item: the pod as the API gives it
    """
    spec, metadata = item["spec"], item["metadata"]
    return {
        "name": f"{metadata.get('namespace') or 'default'}/{metadata['name']}",
        "created": metadata.get("creationTimestamp") or "",
        "qos": qos(spec, containers),
        "as_a_whole": bool(own_resources(spec)),
        "containers": [
            {"name": one.name, "role": _ROLES.get(one.kind, one.kind), "requests": _requests(one)} for one in containers
        ],
    }


def _requests(container: Specified) -> dict[str, str]:
    """CPU, memory, huge pages and extended resources; a missing request is the limit."""
    resources = container.spec.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    counted = ((name, str(amount)) for name, amount in asked.items() if amount is not None)
    return {name: amount for name, amount in counted if name == "cpu" or is_memory(name) or "/" in name}


@dataclass(frozen=True)
class Refusal:
    """A pod that the kubelet would refuse, and what would let it in."""

    pod: str
    reason: str
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """What becomes of a node's pods: those that are `refused` whatever else is on the node, those for which there is `no_room`
    if all pods come back to it, or why that is `unknown`."""

    refused: tuple[Refusal, ...] = ()
    no_room: tuple[Refusal, ...] = ()
    unknown: str = ""


def forecast(stack: Data, requests: Sequence[Data]) -> Forecast:
    """What the kubelet does with the pods of a node when it starts with the planned settings.

    Pods that stay through the drain are admitted again, the oldest first (pkg/kubelet/kubelet.go HandlePodAdditions). The others
    may come back, and are each tried beside those. Pods with resources of their own (spec.resources) take room and are not
    tried.

    :param stack: a node as in `preflight.Stacks`, with its `topology`
    :param requests: `request_of` each of its pods
    """
    plan = stack["plan"]
    try:
        topology = Topology.of(stack["topology"])
        settings = plan["kubelet_after"]
        rules = rules_of(
            settings["version"],
            parse_cpuset(settings["reservedSystemCPUs"] or ""),
            settings["cpuManagerPolicyOptions"],
            settings["topologyManagerPolicy"],
            settings["topologyManagerScope"],
            settings["topologyManagerPolicyOptions"],
        )
        supplies = _known(supplies_of(topology, settings, rules.minor), plan)
        return _forecast(machine_of(topology), rules, supplies, requests, plan["pods_to_evict"])
    except TuningError as exc:
        return Forecast(unknown=str(exc))


def _known(supplies: Supplies, plan: Data) -> Supplies:
    """Without GPUs unless the node offers exactly those on its bus, whole."""
    whole = plan.get("gpu_resource") == WHOLE_GPUS
    plugins = tuple(plugin for plugin in supplies.plugins if whole and plan.get("gpus_before") == len(plugin.devices))
    return replace(supplies, plugins=plugins)


def _forecast(
    machine: Machine, rules: Rules, supplies: Supplies, requests: Sequence[Data], evicted: Iterable[str]
) -> Forecast:
    coming = set(evicted)
    by_age = sorted(requests, key=lambda request: (request["created"], request["name"]))
    staying = [request for request in by_age if request["name"] not in coming]
    books = Books.of(machine, rules, supplies)
    before: list[Pod] = []
    refused, no_room = [], []
    for request in staying:
        pod = _pod(request)
        reason = _reason(books, pod, request)
        if reason:
            refused.append(Refusal(pod.name, reason, tuple(remedies(machine, rules, supplies, before, pod))))
        before.append(pod)
    together = books.copied()
    for request in by_age:
        if request["name"] not in coming:
            continue
        pod = _pod(request)
        alone = _reason(books.copied(), pod, request)
        reason = _reason(together, pod, request)
        if alone:
            refused.append(Refusal(pod.name, alone, tuple(remedies(machine, rules, supplies, before, pod))))
        elif reason:
            no_room.append(Refusal(pod.name, reason))
    return Forecast(tuple(refused), tuple(no_room))


def _reason(books: Books, pod: Pod, request: Data) -> str | None:
    """Why a pod is certainly refused, if it is."""
    admission = books.admit(pod)
    return admission.refused if admission.certain and not request["as_a_whole"] else None


def _pod(request: Data) -> Pod:
    containers = []
    for container in request["containers"]:
        others = dict(container["requests"])
        containers.append(Container(container["name"], others.pop("cpu", "0"), container["role"], others))
    return Pod(request["name"], tuple(containers), request["qos"] == "Guaranteed" and not request["as_a_whole"])


def refusal_problems(found: Forecast) -> list[Problem]:
    """The problems with a switch that makes the kubelet refuse pods."""
    return [
        problems.pod_refused(one.pod, one.reason, [f"{remedy.what} {remedy.value}" for remedy in one.remedies])
        for one in found.refused
    ]
