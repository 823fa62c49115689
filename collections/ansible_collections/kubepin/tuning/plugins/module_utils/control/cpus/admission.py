# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods a kubelet admits one after the other, and what it gives them. Ported from Kubernetes (Apache License
2.0)."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    NO_HINT,
    REFUSED,
    Hint,
    Refused,
    TopologyManager,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    STRICT,
    AllocationError,
    Container,
    CpuSet,
    Machine,
    Pod,
    Pool,
    Rules,
    amount_of,
    in_order,
    pod_request,
    pod_total,
    starts_before,
    whole_cpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import (
    DeviceManager,
    DevicePlugin,
    Ids,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import (
    Amounts,
    Block,
    MemoryManager,
    is_memory,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import minor_of, options_on

CLOSEST = "prefer-closest-numa-nodes"
"""An option of the topology manager."""


@dataclass(frozen=True)
class Supplies:
    """What a node has beside CPUs, as far as it is known.

    `memory` maps NUMA nodes to all that they have ("memory", which includes the huge pages, and "hugepages-SIZE"); empty
    without a memory manager of the policy Static. `reserved_memory` is the kubelet's reservedMemory. `allocatable` maps
    "memory" and "hugepages-SIZE" to what pods may request together; what is not in it has no limit.
    """

    memory: Mapping[int, Amounts] = field(default_factory=dict)
    reserved_memory: Sequence[Mapping[str, Any]] = ()
    allocatable: Amounts = field(default_factory=dict)
    plugins: tuple[DevicePlugin, ...] = ()


@dataclass(frozen=True)
class Missing:
    """A resource of which the pods on a node request more than it has: CPUs in thousandths, all else in bytes."""

    resource: str
    requested: int
    used: int
    capacity: int

    def __str__(self) -> str:
        """The reason and the message of a pod that is refused (pkg/kubelet/lifecycle/predicate.go)."""
        return (
            f"OutOf{self.resource}: Node didn't have enough resource: {self.resource}, requested: {self.requested}, "
            f"used: {self.used}, capacity: {self.capacity}"
        )


@dataclass(frozen=True)
class Admission:
    """What the kubelet does with one pod.

    `cpus` maps containers to their exclusive CPUs, `memory` to what the memory manager gives them, and `devices` to their
    devices by resource; all are empty for a refused pod. `refused` is None, or the reason and message that the pod's
    status would show, and `missing` what it is about if the node's total is too small.

    If `uncertain` has any resources, this is one of several possible results. It maps each resource of which the pod may get
    others to the reason: None if the choice depends on the order of a Go map or on the sort algorithm of the Go version, or
    else the earlier pod whose choice decides.
    """

    pod: str
    cpus: dict[str, CpuSet] = field(default_factory=dict)
    refused: str | None = None
    uncertain: Mapping[str, str | None] = field(default_factory=dict)
    memory: dict[str, tuple[Block, ...]] = field(default_factory=dict)
    devices: dict[str, dict[str, Ids]] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether this is the only possible result."""
        return not self.uncertain


@dataclass(frozen=True)
class Preview:
    """What the kubelet does with all pods; `shared` is the pool for containers without exclusive CPUs (the
    defaultCpuSet of the state file, which contains the reserved CPUs unless strict-cpu-reservation is on)."""

    admissions: list[Admission]
    shared: CpuSet


def rules_of(
    version: str,
    reserved: Iterable[int],
    options: Mapping[str, object] | None = None,
    topology_policy: str = "none",
    topology_scope: str = "container",
    topology_options: Mapping[str, object] | None = None,
) -> Rules:
    """The rules of a kubelet with the static policy.

    :param version: the kubelet's, 1.20 or newer
    :param reserved: reservedSystemCPUs
    :param options: cpuManagerPolicyOptions; valid for this version (`setting_problems`)
    :param topology_policy: topologyManagerPolicy
    :param topology_scope: topologyManagerScope
    :param topology_options: topologyManagerPolicyOptions
    :raises AllocationError: for prefer-closest-numa-nodes, for which the distances of NUMA nodes would have to be known
    """
    if topology_policy != "none" and CLOSEST in options_on(topology_options):
        raise AllocationError(
            f"topologyManagerPolicyOptions {CLOSEST} is on: allocations cannot be previewed with it, because the "
            "distances of the NUMA nodes are not read.",
            value=CLOSEST,
        )
    return Rules(minor_of(version), frozenset(reserved), options_on(options), topology_policy, topology_scope)


def admit_all(machine: Machine, rules: Rules, pods: Sequence[Pod], supplies: Supplies | None = None) -> Preview:
    """What a kubelet without pods does when it admits `pods` in this order.

    :param supplies: memory and devices; without them, as if the pods requested CPUs alone
    :raises AllocationError: for an invalid role or request of a container
    """
    books = Books.of(machine, rules, supplies or Supplies())
    return Preview([books.admit(pod) for pod in pods], books.shared)


@dataclass
class Books:
    """What a kubelet has given to whom. Pods are admitted one right after the other: none has ended before the next.

    `shared` are the CPUs that are not exclusive to any container (defaultCpuSet), `used` what the admitted pods request.
    `undecided` maps resources to the first pod that may have others than these books say.
    """

    machine: Machine
    rules: Rules
    supplies: Supplies
    shared: CpuSet
    devices: DeviceManager
    memory: MemoryManager | None
    used: Counter[str] = field(default_factory=Counter)
    undecided: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, machine: Machine, rules: Rules, supplies: Supplies) -> Books:
        """The books of a kubelet without pods (policy_static.go validateState)."""
        memory = MemoryManager.of(rules.minor, supplies.memory, supplies.reserved_memory) if supplies.memory else None
        return cls(
            machine,
            rules,
            supplies,
            machine.cpus - rules.reserved if STRICT in rules.options else machine.cpus,
            DeviceManager(rules.minor, machine.numa_nodes, {plugin.resource: plugin for plugin in supplies.plugins}),
            memory,
        )

    def admit(self, pod: Pod) -> Admission:
        """What the kubelet does with one pod.

        The managers give each container devices, CPUs and memory, in this order, init containers first
        (pkg/kubelet/cm/container_manager_linux.go AddHintProvider, topologymanager/scope_{container,pod}.go Admit).
        Then the kubelet compares the sum of requests with what the node has (pkg/kubelet/lifecycle/predicate.go). What a
        refused pod got is free again when the next one is admitted.
        """
        admission = _Admitting(self, pod).admit()
        for resource in admission.uncertain:
            self.undecided.setdefault(resource, pod.name)
        if admission.refused is not None:
            self.devices.release(pod.name)
            if self.memory:
                self.memory.release(pod.name)
            return admission
        self.shared = self.shared.difference(*admission.cpus.values())
        for resource in ("cpu", *self.supplies.allocatable):
            self.used[resource] += _counted(pod, self.rules.minor, resource)
        return admission

    def missing(self, pod: Pod) -> list[Missing]:
        """What the node does not have enough of for one pod more."""
        capacities = {"cpu": (len(self.machine.cpus) - len(self.rules.reserved)) * 1000, **self.supplies.allocatable}
        found = (
            Missing(resource, _counted(pod, self.rules.minor, resource), self.used[resource], capacity)
            for resource, capacity in capacities.items()
        )
        return [one for one in found if one.requested and one.requested + one.used > one.capacity]

    def copied(self) -> Books:
        """The same books once more, to try something."""
        never_change = (self.machine, self.rules, self.supplies, *self.supplies.plugins)
        return copy.deepcopy(self, {id(one): one for one in never_change})


def _counted(pod: Pod, minor: int, resource: str) -> int:
    """A pod's request in the units of `Missing`."""
    return int(pod_request(pod, minor, resource) * (1000 if resource == "cpu" else 1))


class _Admitting:
    """One pod while the kubelet admits it."""

    def __init__(self, books: Books, pod: Pod) -> None:
        self._books, self._pod, self._rules = books, pod, books.rules
        self._pool = Pool(books.machine, books.rules, books.shared)
        self._uncertain: dict[str, str | None] = {}
        rules = books.rules
        self._manager = (
            TopologyManager(rules.policy, rules.scope, books.machine.numa_nodes, rules.minor)
            if rules.policy != "none"
            else None
        )

    def admit(self) -> Admission:
        name = self._pod.name
        cpus: dict[str, CpuSet] = {}
        try:
            hint = NO_HINT
            if self._manager and self._manager.per_pod:
                hint = self._align(
                    self._manager, self._pod_cpus(), self._pod_amounts(), self._pod_devices(), whole_pod=True
                )
            for container in in_order(self._pod):
                wanted = whole_cpus(self._pod, container)
                amounts, devices = self._amounts(container), self._devices(container)
                if self._manager and not self._manager.per_pod:
                    hint = self._align(self._manager, wanted, amounts, devices, whole_pod=False)
                ends = starts_before(container.role, self._rules.minor)
                self._note(self._books.devices.allocate(name, container.name, ends, devices, hint))
                if wanted:
                    answer = self._pool.give(wanted, container.role, hint.nodes)
                    self._note(() if answer.certain else ("cpu",))
                    cpus[container.name] = answer.cpus
                if self._books.memory and amounts:
                    self._books.memory.allocate(name, container.name, ends, amounts, hint)
        except Refused as exc:
            self._note(() if exc.certain else self._pod_devices())
            return Admission(name, {}, str(exc), self._with_earlier(refused=True))
        missing = self._books.missing(self._pod)
        if missing:
            return Admission(name, {}, str(missing[0]), self._with_earlier(refused=True), missing=tuple(missing))
        return Admission(
            name,
            cpus,
            None,
            self._with_earlier(refused=False),
            dict(self._books.memory.blocks.get(name, {})) if self._books.memory else {},
            {c: dict(found) for c, found in self._books.devices.given.get(name, {}).items() if found},
        )

    def _note(self, resources: Iterable[str]) -> None:
        """Of these resources, the kubelet may as well give others."""
        self._uncertain.update(dict.fromkeys(resources))

    def _with_earlier(self, refused: bool) -> dict[str, str | None]:
        """`Admission.uncertain`, with what earlier pods decide.

        Without a topology manager, each resource is given by itself, and devices are refused by their number alone. A
        topology manager chooses NUMA nodes for all resources of a pod, by what is left of each.
        """
        devices = self._pod_devices()
        cpus = any(whole_cpus(self._pod, container) for container in self._pod.containers)
        wanted = [*(["cpu"] if cpus else []), *devices, *(self._pod_amounts() if self._books.memory else ())]
        undecided = {name: self._books.undecided[name] for name in wanted if name in self._books.undecided}
        if undecided and self._manager:
            undecided = {**dict.fromkeys(wanted, next(iter(undecided.values()))), **undecided}
        elif refused:
            undecided = {name: pod for name, pod in undecided.items() if name not in devices}
        return {**undecided, **self._uncertain}

    def _align(
        self, manager: TopologyManager, cpus: int, amounts: Amounts, devices: Mapping[str, int], whole_pod: bool
    ) -> Hint:
        """The topology manager's choice (scope_{container,pod}.go calculateAffinity).

        :raises Refused: if it refuses the pod
        """
        name, memory = self._pod.name, self._books.memory
        hint, admitted = manager.align(
            [
                *self._books.devices.hints(name, devices, whole_pod).values(),
                self._pool.hints(cpus, whole_pod),
                *(memory.hints(name, amounts).values() if memory and amounts else ()),
            ]
        )
        if not admitted:
            raise Refused(REFUSED)
        return hint

    def _amounts(self, container: Container) -> dict[str, int]:
        """What the memory manager counts for a container: nothing unless the pod is Guaranteed, and nothing of a pod with
        pod-level resources (policy_static.go getContainerRequestedResources, GetTopologyHints, Allocate)."""
        asked = filter(is_memory, container.others) if self._pod.pinned else ()
        return {resource: int(amount_of(self._pod, container, resource)) for resource in asked}

    def _devices(self, container: Container) -> dict[str, int]:
        """How many devices of the known resources a container requests (topology_hints.go getContainerDeviceRequest)."""
        found = {
            resource: int(amount_of(self._pod, container, resource))
            for resource in container.others
            if resource in self._books.devices.plugins
        }
        return {resource: number for resource, number in found.items() if number}

    def _pod_cpus(self) -> int:
        return int(pod_total(self._pod, self._rules.minor, whole_cpus))

    def _pod_amounts(self) -> dict[str, int]:
        """policy_static.go getPodRequestedResources: resources that only init containers request do not count."""
        named = [resource for c in self._pod.containers if c.role == "app" for resource in self._amounts(c)]
        return {resource: self._total(resource) for resource in dict.fromkeys(named)}

    def _pod_devices(self) -> dict[str, int]:
        """topology_hints.go getPodDeviceRequest"""
        named = [resource for c in self._pod.containers for resource in self._devices(c)]
        return {resource: self._total(resource) for resource in dict.fromkeys(named)}

    def _total(self, resource: str) -> int:
        return int(pod_request(self._pod, self._rules.minor, resource))
