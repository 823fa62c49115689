# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods of a node its kubelet would refuse after a switch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import manages_pod_level
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import stays_through_drain
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import WHOLE_GPUS
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
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.supplies import supplies_of
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
    own = own_resources(spec).get("resources") or {}
    return {
        "name": f"{metadata.get('namespace') or 'default'}/{metadata['name']}",
        "created": metadata.get("creationTimestamp") or "",
        "qos": qos(spec, containers),
        "stays": stays_through_drain(item),
        "own": _amounts(own),
        "containers": [
            {
                "name": one.name,
                "role": _ROLES.get(one.kind, one.kind),
                "requests": _amounts(one.spec.get("resources") or {}),
            }
            for one in containers
        ],
    }


def _amounts(resources: Data) -> dict[str, str]:
    """CPU, memory, huge pages and extended resources; a missing request is the limit."""
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    counted = ((name, str(amount)) for name, amount in asked.items() if amount is not None)
    return {name: amount for name, amount in counted if name == "cpu" or is_memory(name) or "/" in name}


@dataclass(frozen=True)
class Refusal:
    """A pod that the kubelet would refuse, and what would let it in."""

    pod: str
    reason: str
    remedies: tuple[Remedy, ...] = ()

    def to_facts(self) -> dict[str, Any]:
        """The refusal as plain data."""
        return {"pod": self.pod, "reason": self.reason, "remedies": [asdict(remedy) for remedy in self.remedies]}


@dataclass(frozen=True)
class Forecast:
    """What becomes of a node's pods: those that are `refused` whatever else is on the node, those for which there is `no_room`
    if all pods come back to it, or why that is `unknown`."""

    refused: tuple[Refusal, ...] = ()
    no_room: tuple[Refusal, ...] = ()
    unknown: str = ""

    def to_facts(self) -> dict[str, Any]:
        """The forecast as plain data, without why it is unknown."""
        return {
            "refused": [one.to_facts() for one in self.refused],
            "no_room": [one.to_facts() for one in self.no_room],
        }


def forecast(
    topology: Topology, settings: Data, requests: Sequence[Data], evicted: Collection[str], gpus: int | None
) -> Forecast:
    """What the kubelet does with the pods of a node when it starts with other settings.

    Pods that stay through the drain are admitted again, the oldest first (pkg/kubelet/kubelet.go HandlePodAdditions). The others
    may come back, and are each tried beside those. With the feature gate PodLevelResourceManagers, pods with pod-level
    resources (spec.resources) take room and are not tried.

    :param settings: the kubelet's `version`, and the fields of its configuration that decide which pods it admits
    :param requests: `request_of` each of the node's pods
    :param evicted: the names of those that the drain evicts
    :param gpus: how many whole GPUs the node offers; None if it offers others, or that is unknown. They count if these are
        all GPUs on its bus.
    """
    try:
        rules = rules_of(
            settings["version"],
            parse_cpuset(settings["reservedSystemCPUs"] or ""),
            settings["cpuManagerPolicyOptions"],
            settings["topologyManagerPolicy"],
            settings["topologyManagerScope"],
            settings["topologyManagerPolicyOptions"],
        )
        supplies = supplies_of(topology, settings, rules.minor)
        known = replace(supplies, plugins=tuple(each for each in supplies.plugins if gpus == len(each.devices)))
        managed = manages_pod_level(settings["featureGates"], rules.minor)
        return _forecast(machine_of(topology), rules, known, requests, evicted, managed)
    except TuningError as exc:
        return Forecast(unknown=str(exc))


def _forecast(
    machine: Machine,
    rules: Rules,
    supplies: Supplies,
    requests: Sequence[Data],
    evicted: Collection[str],
    manages_whole_pods: bool,
) -> Forecast:
    by_age = sorted(requests, key=lambda request: (request["created"], request["name"]))
    staying = [request for request in by_age if request["name"] not in evicted]
    books = Books.of(machine, rules, supplies)
    before: list[Pod] = []
    refused, no_room = [], []

    def refusal(tried: Books, pod: Pod) -> str | None:
        """Why a pod is certainly refused, if it is."""
        admission = tried.admit(pod)
        return admission.refused if admission.certain and not (pod.own and manages_whole_pods) else None

    for pod in map(_pod, staying):
        reason = refusal(books, pod)
        if reason:
            refused.append(Refusal(pod.name, reason, tuple(remedies(machine, rules, supplies, before, pod))))
        before.append(pod)
    together = books.copied()
    alone: dict[str, Refusal | None] = {}
    for pod in (_pod(request) for request in by_age if request["name"] in evicted):
        reason = refusal(together, pod)
        kind = repr(replace(pod, name=""))  # a Deployment has many pods of one kind
        if kind not in alone:
            by_itself = refusal(books.copied(), pod)
            enough = tuple(remedies(machine, rules, supplies, before, pod)) if by_itself else ()
            alone[kind] = Refusal("", by_itself, enough) if by_itself else None
        found = alone[kind]
        if found:
            refused.append(replace(found, pod=pod.name))
        elif reason:
            no_room.append(Refusal(pod.name, reason))
    return Forecast(tuple(refused), tuple(no_room))


def _pod(request: Data) -> Pod:
    containers = []
    for container in request["containers"]:
        others = dict(container["requests"])
        containers.append(Container(container["name"], others.pop("cpu", "0"), container["role"], others))
    return Pod(request["name"], tuple(containers), request["qos"] == "Guaranteed", request["own"])


def whole_gpus(resource: str | None, number: int | None) -> int | None:
    """The argument `gpus` of `forecast`.

    :param resource: the resource that counts the node's GPUs
    :param number: how many it offers
    """
    return number if resource == WHOLE_GPUS else None


def refusal_problems(found: Forecast) -> list[Problem]:
    """The problems with a switch that makes the kubelet refuse pods."""
    return [
        problems.pod_refused(one.pod, one.reason, [f"{remedy.what} {remedy.value}" for remedy in one.remedies])
        for one in found.refused
    ]
