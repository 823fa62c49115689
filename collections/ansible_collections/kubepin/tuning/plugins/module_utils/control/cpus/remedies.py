# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what would let in a pod that the kubelet refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import Books, Supplies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    FULL_PCPUS,
    Container,
    Machine,
    Pod,
    Rules,
    amount_of,
    pod_request,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import is_memory

POLICIES = ("restricted", "best-effort", "none")
"""Topology manager policies, from the strictest to the most lenient, after single-numa-node."""
_UNITS = {"Gi": 1024**3, "Mi": 1024**2}


@dataclass(frozen=True)
class Remedy:
    """One change that would be enough: `what` is a resource of the pod, with its container if the pod has several,
    ``topologyManagerPolicy`` or ``topologyManagerScope``."""

    what: str
    value: str


def remedies(machine: Machine, rules: Rules, supplies: Supplies, before: Sequence[Pod], pod: Pod) -> list[Remedy]:
    """What would let a pod in, after the pods that come before it.

    Smaller requests, the largest that is found for each resource: of the pod itself if it has pod-level resources, or of
    the container that requests most. Then the same requests with another scope, and with the strictest policy that admits
    them. With a scope or policy changed, the pods before may be elsewhere too.
    """
    books = Books.of(machine, rules, supplies)
    for earlier in before:
        books.admit(earlier)
    asked = ("cpu", *(resource for container in pod.containers for resource in container.others))
    found = [remedy for resource in dict.fromkeys((*pod.own, *asked)) if (remedy := _smaller(books, pod, resource))]
    if rules.policy == "none":
        return found

    def admits(changed: Rules) -> bool:
        others = Books.of(machine, changed, supplies)
        for earlier in before:
            others.admit(earlier)
        return others.admit(pod).refused is None

    scope = "container" if rules.scope == "pod" else "pod"
    if admits(replace(rules, scope=scope)):
        found.append(Remedy("topologyManagerScope", scope))
    lenient = POLICIES[POLICIES.index(rules.policy) + 1 :] if rules.policy in POLICIES else POLICIES
    policy = next((name for name in lenient if admits(replace(rules, policy=name))), None)
    return [*found, *([Remedy("topologyManagerPolicy", policy)] if policy else [])]


def _smaller(books: Books, pod: Pod, resource: str) -> Remedy | None:
    """The largest request of this resource alone that would do, found by halving."""
    minor, own = books.rules.minor, resource in pod.own
    largest = max(pod.containers, key=lambda container: amount_of(pod, container, resource))
    amount = pod_request(pod, minor, resource) if own else amount_of(pod, largest, resource)
    needed = pod_request(replace(pod, own={}), minor, resource) if own else 0
    unit, step = _unit(books, resource, amount)
    size = Fraction(_UNITS.get(unit, 1) * step)

    def admits(count: int) -> bool:
        smaller = _asking(pod, None if own else largest, resource, f"{count * step}{unit}")
        return books.copied().admit(smaller).refused is None

    most = _last(math.ceil(amount / size) - 1, admits)
    # a pod requests no less than its containers (pkg/apis/core/validation/validation.go)
    if not most or most * size < needed:
        return None
    what = resource if own or len(pod.containers) == 1 else f"{resource} of container {largest.name}"
    return Remedy(what, f"{most * step}{unit}")


def _unit(books: Books, resource: str, amount: Fraction) -> tuple[str, int]:
    if is_memory(resource):
        return ("Gi" if amount > 4 * _UNITS["Gi"] else "Mi"), 1
    whole_cores = resource == "cpu" and FULL_PCPUS in books.rules.options
    return "", books.machine.cpus_per_core if whole_cores else 1


def _asking(pod: Pod, container: Container | None, resource: str, amount: str) -> Pod:
    """The pod with another request of one container, or another pod-level request."""
    if container is None:
        return replace(pod, own={**pod.own, resource: amount})
    others = {**container.others, resource: amount}
    changed = replace(container, cpu=amount) if resource == "cpu" else replace(container, others=others)
    return replace(pod, containers=tuple(changed if one is container else one for one in pod.containers))


def _last(most: int, admits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that is admitted, as if all smaller ones were; 0 if none is."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if admits(middle):
            low = middle
        else:
            most = middle - 1
    return low
