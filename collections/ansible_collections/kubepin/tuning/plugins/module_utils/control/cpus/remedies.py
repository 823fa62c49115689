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
    """One change that would be enough: `what` is a resource of the pod, ``topologyManagerPolicy`` or
    ``topologyManagerScope``."""

    what: str
    value: str


def remedies(machine: Machine, rules: Rules, supplies: Supplies, before: Sequence[Pod], pod: Pod) -> list[Remedy]:
    """What would let in a pod, after the pods that come before it.

    Of a pod with one container or with resources of its own, smaller requests, the largest that is found for each resource;
    then the same requests with another scope, and with the strictest policy that admits them. With a scope or policy changed,
    the pods before may be elsewhere too.
    """
    books = Books.of(machine, rules, supplies)
    for earlier in before:
        books.admit(earlier)
    single = ("cpu", *pod.containers[0].others) if len(pod.containers) == 1 else ()
    found = [remedy for resource in dict.fromkeys((*pod.own, *single)) if (remedy := _smaller(books, pod, resource))]
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
    amount = pod_request(pod, minor, resource) if own else amount_of(pod, pod.containers[0], resource)
    needed = pod_request(replace(pod, own={}), minor, resource) if own else 0
    unit, step = _unit(books, resource, amount)
    size = Fraction(_UNITS.get(unit, 1) * step)

    def admits(count: int) -> bool:
        return books.copied().admit(_asking(pod, resource, f"{count * step}{unit}")).refused is None

    most = _last(math.ceil(amount / size) - 1, admits)
    # a pod requests no less than its containers (pkg/apis/core/validation/validation.go)
    return Remedy(resource, f"{most * step}{unit}") if most and most * size >= needed else None


def _unit(books: Books, resource: str, amount: Fraction) -> tuple[str, int]:
    if is_memory(resource):
        return ("Gi" if amount > 4 * _UNITS["Gi"] else "Mi"), 1
    whole_cores = resource == "cpu" and FULL_PCPUS in books.rules.options
    return "", books.machine.cpus_per_core if whole_cores else 1


def _asking(pod: Pod, resource: str, amount: str) -> Pod:
    if resource in pod.own:
        return replace(pod, own={**pod.own, resource: amount})
    container = pod.containers[0]
    if resource == "cpu":
        return replace(pod, containers=(replace(container, cpu=amount),))
    return replace(pod, containers=(replace(container, others={**container.others, resource: amount}),))


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
