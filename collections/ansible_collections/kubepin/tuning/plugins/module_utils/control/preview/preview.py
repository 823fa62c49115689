# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: a node's CPU layout under the static policy, the CPUs that pods would get, and settings that improve these."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import admit_all, rules_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    BY_UNCORE,
    AllocationError,
    Container,
    Pod,
    machine_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import MEMORY, is_memory
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.notes import machine_notes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.remedies import Remedy, remedies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.supplies import supplies_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS, Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    minor_of,
    setting_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview import problems as wording
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
)

Facts = t.Dict[str, t.Any]
Options = t.Mapping[str, object]
"""cpuManagerPolicyOptions: name -> value."""

SCHEMA = 1
_LEVELS = {"l3_groups": "L3 group", "numa_nodes": "NUMA node"}
_USUAL_POD_CPUS = 12
_MOST_RESERVED = 8
"""Advice reserves at most one in this many CPUs."""


@dataclass(frozen=True)
class PodRequest:
    """A Guaranteed pod with one container: quantities of CPUs, and of memory, huge pages and devices by name.

    `own` are those of the pod itself (spec.resources); its container then needs no CPUs.
    """

    cpu: str
    others: t.Mapping[str, str] = field(default_factory=dict)
    own: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The request in one cell of a table."""
        own = [f"pod of {' and '.join(f'{amount} {resource}' for resource, amount in self.own.items())}"]
        cpu = [self.cpu] if self.cpu or not self.own else []
        others = [f"{amount} {resource}" for resource, amount in self.others.items()]
        return ", ".join([*(own if self.own else []), *cpu, *others])

    def named(self, name: str) -> Pod:
        """The pod."""
        return Pod(name, (Container("c", self.cpu or "0", others=self.others),), own=self.own)

    @property
    def amounts(self) -> t.Iterator[t.Tuple[str, str]]:
        """Each quantity with its resource."""
        if self.cpu or not self.own:
            yield "cpu", self.cpu
        yield from self.others.items()
        yield from ((f"pod.{resource}", amount) for resource, amount in self.own.items())


@dataclass(frozen=True)
class PreviewRequest:
    """What to preview. Without `pods`, pods of `pod_cpus` fill the node, or of the size that suits it."""

    desired: DesiredSettings
    pod_cpus: t.Optional[int] = None
    pods: t.Tuple[PodRequest, ...] = ()


@dataclass(frozen=True)
class _Node:
    """A node with everything that determines which CPUs pods get."""

    topology: Topology
    version: str
    after: Config

    @property
    def online(self) -> CpuSet:
        return self.topology.online

    def groups(self, level: str) -> t.Dict[int, CpuSet]:
        groups = {
            "sockets": self.topology.sockets,
            "numa_nodes": self.topology.numa_nodes,
            "l3_groups": self.topology.l3_groups,
        }
        return {group.id: group.cpus for group in groups[level] if group.cpus}

    def gpus_near(self, cpus: CpuSet) -> t.List[str]:
        """The GPUs that are near all of `cpus`."""
        return [gpu.address for gpu in self.topology.gpus if cpus and cpus <= self.topology.near(gpu)]


@dataclass(frozen=True)
class _Placement:
    """What the kubelet does with one pod, and the groups that its exclusive CPUs are in, if it gets any."""

    pod: str
    request: str
    cpus: CpuSet
    refused: t.Optional[str]
    certain: bool
    uncertain: t.Mapping[str, t.Optional[str]]
    """`Admission.uncertain`"""
    l3_groups: t.List[int]
    numa_nodes: t.List[int]
    beside_gpus: t.List[str]
    memory_nodes: t.List[int]
    """The NUMA nodes that the memory manager takes memory and huge pages from."""
    device_nodes: t.List[int]
    """The NUMA nodes of its devices."""
    remedies: t.List[Remedy]
    """What would let it in if it is refused."""

    def to_facts(self) -> Facts:
        return {**asdict(self), "cpus": format_cpuset(self.cpus)}


@dataclass(frozen=True)
class _Inside:
    """How many pods have exclusive CPUs, and how many of these stay inside one group of each kind."""

    pods: int
    l3_groups: int
    numa_nodes: int
    beside_gpu: int


@dataclass(frozen=True)
class _Choice:
    """A reservation, a size of pods and policy options, and the result for the groups of `level`."""

    level: str
    reserved: CpuSet
    pod_cpus: int
    policy_options: Options
    inside: _Inside

    @property
    def kept_inside(self) -> int:
        return self.inside.l3_groups if self.level == "l3_groups" else self.inside.numa_nodes

    @property
    def rank(self) -> t.Tuple[float, int, int]:
        """More of the pods inside, then more CPUs for such pods, then fewer reserved."""
        share = self.kept_inside / self.inside.pods if self.inside.pods else 0.0
        return share, self.kept_inside * self.pod_cpus, -len(self.reserved)

    def to_facts(self) -> Facts:
        return {
            "level": _LEVELS[self.level],
            "reserved": format_cpuset(self.reserved),
            "reserved_count": len(self.reserved),
            "pod_cpus": self.pod_cpus,
            "policy_options": dict(self.policy_options),
            "kept_inside": self.kept_inside,
            **asdict(self.inside),
        }


def preview_node(
    topology: Topology, version: t.Optional[str], effective: t.Optional[Config], request: PreviewRequest
) -> Facts:
    """Everything that can be predicted about a node before its kubelet is switched, as plain data.

    :param version: the kubelet's version; None if it could not be read
    :param effective: the kubelet's configuration, `effective` of `read_kubelet`; None: the kubelet's defaults
    :returns: only `problems`, if there are any; otherwise reservation, groups, room, pods, advice and notes
    """
    now = dict(DEFAULTS if effective is None else effective)
    chosen = choose_settings(topology, now, version, request.desired)
    reservation, problems = chosen.reservation, [*_request_problems(request), *chosen.problems]
    if problems or reservation is None or version is None:
        return {"schema": SCHEMA, "problems": to_dicts(problems)}
    after = {**now, **chosen.settings}
    node = _Node(topology, version, after)
    size = request.pod_cpus or _suitable_size(node, reservation.cpus)
    wanted = request.pods or (PodRequest(str(size)),) * (len(node.online - reservation.cpus) // size)
    pods, unknown = _admitted(node, reservation.cpus, wanted)
    advice = [] if unknown else _advice(node, reservation.cpus, size)
    return {
        "schema": SCHEMA,
        "problems": [],
        "online": format_cpuset(topology.online),
        "threads_per_core": topology.threads_per_core,
        "thread_counts": topology.thread_counts,
        "kubelet": {
            "version": version,
            "policy_options": dict(after["cpuManagerPolicyOptions"] or {}),
            "topology_manager_policy": after["topologyManagerPolicy"],
            "topology_manager_scope": after["topologyManagerScope"],
            "memory_manager_policy": after["memoryManagerPolicy"],
        },
        "profile": {
            "name": request.desired.profile,
            "settings": [
                {"name": name, "value": value, "origin": chosen.origins[name]}
                for name, value in chosen.settings.items()
                if name in chosen.origins
            ],
            "memory_reasons": chosen.reasons.get("reservedMemory", []),
        },
        "reservation": {
            "cpus": format_cpuset(reservation.cpus),
            "summary": reservation.explanation,
            "reasons": chosen.reasons["reservedSystemCPUs"],
        },
        "sockets": _left(node, "sockets", reservation.cpus),
        "numa_nodes": _left(node, "numa_nodes", reservation.cpus),
        "l3_groups": _left(node, "l3_groups", reservation.cpus),
        "room": _room(node, reservation.cpus, size),
        "largest_inside": _largest_inside(node),
        "pods_given": bool(request.pods),
        "pods": [pod.to_facts() for pod in pods],
        "pods_unknown": unknown,
        "inside": asdict(_inside(pods)),
        "advice": [choice.to_facts() for choice in advice],
        "notes": [*chosen.notes, *_given_twice(node, reservation.cpus, pods), *_notes(node, reservation.cpus, wanted)],
    }


def _request_problems(request: PreviewRequest) -> t.List[Problem]:
    problems = []
    if request.pod_cpus is not None and request.pod_cpus < 1:
        problems.append(wording.pod_cpus_too_few(request.pod_cpus))
    for number, pod in enumerate(request.pods):
        unknown = [resource for resource in pod.own if resource != "cpu" and not is_memory(resource)]
        problems += [wording.no_pod_level_resource(number, resource) for resource in unknown]
        for resource, amount in pod.amounts:
            try:
                valid = parse_quantity(amount) > 0
            except ValueError:
                valid = False
            if not valid:
                problems.append(wording.amount_invalid(number, resource, amount))
    return problems


def _suitable_size(node: _Node, reserved: CpuSet) -> int:
    """The usual size of a pod, or on a node where it does not fit, the whole cores with which two pods do."""
    free, core = len(node.online - reserved), node.topology.threads_as_counted or 1
    return _USUAL_POD_CPUS if free >= _USUAL_POD_CPUS else max(1, free // 2 // core * core or min(core, free))


def _largest_inside(node: _Node) -> int:
    """The CPUs of the smallest whole group of the kinds that advice works with; 0 if the node has one of each only."""
    return max(
        (min(map(len, node.groups(level).values())) for level in _LEVELS if len(node.groups(level)) > 1), default=0
    )


def _left(node: _Node, level: str, reserved: CpuSet) -> t.List[Facts]:
    """The CPUs of each group that are not reserved."""
    groups = []
    for number, cpus in node.groups(level).items():
        left = cpus - reserved
        groups.append(
            {
                "id": number,
                "cpus": format_cpuset(cpus),
                "reserved": format_cpuset(cpus & reserved),
                "left": format_cpuset(left),
                "left_count": len(left),
                "gpus": [gpu.address for gpu in node.topology.gpus if node.topology.near(gpu) & cpus],
            }
        )
    return groups


def _room(node: _Node, reserved: CpuSet, size: int) -> t.Dict[str, int]:
    """How many pods of `size` CPUs fit: anywhere, and if each stays inside one group."""

    def count(groups: t.Iterable[CpuSet]) -> int:
        return sum(len(cpus - reserved) // size for cpus in groups)

    return {
        "pod_cpus": size,
        "anywhere": count([node.online]),
        "l3_groups": count(node.groups("l3_groups").values()),
        "numa_nodes": count(node.groups("numa_nodes").values()),
        "beside_gpu": count({node.topology.near(gpu) for gpu in node.topology.gpus}),
    }


def _admitted(
    node: _Node, reserved: CpuSet, requests: t.Sequence[PodRequest], options: t.Optional[Options] = None
) -> t.Tuple[t.List[_Placement], t.Optional[str]]:
    """What the kubelet gives each pod, or why that cannot be predicted."""
    after = node.after
    try:
        rules = rules_of(
            node.version,
            reserved,
            after["cpuManagerPolicyOptions"] if options is None else options,
            after["topologyManagerPolicy"],
            after["topologyManagerScope"],
            after["topologyManagerPolicyOptions"],
        )
        machine = machine_of(node.topology)
        supplies = supplies_of(node.topology, after, rules.minor)
        pods = [request.named(f"pod {number}") for number, request in enumerate(requests, 1)]
        admissions = admit_all(machine, rules, pods, supplies).admissions
    except AllocationError as exc:
        return [], str(exc)
    places = {plugin.resource: plugin.devices for plugin in supplies.plugins}
    placements: t.List[_Placement] = []
    explained: t.Set[str] = set()
    for number, (request, admission) in enumerate(zip(requests, admissions)):
        cpus: CpuSet = frozenset().union(*admission.cpus.values())
        refused = admission.refused is not None and request.text not in explained
        explained |= {request.text} if refused else set()
        devices = [
            places[resource][device]
            for found in admission.devices.values()
            for resource, ids in found.items()
            for device in ids
        ]
        placements.append(
            _Placement(
                pod=admission.pod,
                request=request.text,
                cpus=cpus,
                refused=admission.refused,
                certain=admission.certain,
                uncertain=admission.uncertain,
                l3_groups=_touched(node, "l3_groups", cpus),
                numa_nodes=_touched(node, "numa_nodes", cpus),
                beside_gpus=node.gpus_near(cpus),
                memory_nodes=sorted(
                    {place for blocks in admission.memory.values() for b in blocks for place in b.nodes}
                ),
                device_nodes=sorted(frozenset().union(*devices)),
                remedies=remedies(machine, rules, supplies, pods[:number], pods[number]) if refused else [],
            )
        )
    return placements, None


def _touched(node: _Node, level: str, cpus: CpuSet) -> t.List[int]:
    return [number for number, members in node.groups(level).items() if members & cpus]


def _inside(pods: t.Sequence[_Placement]) -> _Inside:
    pinned = [pod for pod in pods if pod.cpus]
    return _Inside(
        pods=len(pinned),
        l3_groups=sum(len(pod.l3_groups) == 1 for pod in pinned),
        numa_nodes=sum(len(pod.numa_nodes) == 1 for pod in pinned),
        beside_gpu=sum(bool(pod.beside_gpus) for pod in pinned),
    )


def _advice(node: _Node, reserved: CpuSet, size: int) -> t.List[_Choice]:
    """Choices of reservation, pod size and policy option with the result of each: first the planned choice, then better
    ones, best first. For each, the node is filled with pods of its size as the kubelet would place them."""
    level, group = _level(node, size)
    if not level:
        return []
    sizes = sorted({size, next(number for number in range(size, group + 1) if group % number == 0)})
    choices = [
        _choice(node, level, cpus, pod_cpus, options)
        for pod_cpus in sizes
        for cpus in _reservations(node, level, reserved, pod_cpus)
        for options in _option_sets(node, level)
    ]
    planned, *others = choices
    better = sorted(
        (choice for choice in others if choice.rank > planned.rank), key=lambda choice: choice.rank, reverse=True
    )
    return [planned, *better]


def _level(node: _Node, size: int) -> t.Tuple[str, int]:
    """The smallest kind of group into which a pod fits, and the CPUs of the smallest whole group; "" if none does."""
    for level in _LEVELS:
        groups = node.groups(level)
        if len(groups) > 1 and size <= min(map(len, groups.values())):
            return level, min(map(len, groups.values()))
    return "", 0


def _reservations(node: _Node, level: str, reserved: CpuSet, size: int) -> t.List[CpuSet]:
    """The planned reservation and, unless it is too large, one that leaves a multiple of a pod's CPUs in its groups."""
    extended = set(reserved)
    for cpus in node.groups(level).values():
        surplus = len(cpus - reserved) % size if cpus & reserved else 0
        for core in node.topology.cores:
            if surplus > 0 and core.cpus <= cpus - reserved:
                extended |= core.cpus
                surplus -= len(core.cpus)
    tried = extended != reserved and len(extended) * _MOST_RESERVED <= len(node.online)
    return [reserved, frozenset(extended)] if tried else [reserved]


def _option_sets(node: _Node, level: str) -> t.List[Options]:
    """The policy options as planned, and with alignment to L3 groups if this kubelet supports it."""
    options = dict(node.after["cpuManagerPolicyOptions"] or {})
    aligned = {**options, BY_UNCORE: "true"}
    takes = not setting_problems({**node.after, "cpuManagerPolicyOptions": aligned}, node.version, node.topology)
    return [options, aligned] if level == "l3_groups" and takes and aligned != options else [options]


def _choice(node: _Node, level: str, reserved: CpuSet, size: int, options: Options) -> _Choice:
    fill = (PodRequest(str(size)),) * (len(node.online - reserved) // size)
    pods, _unknown = _admitted(node, reserved, fill, options)
    return _Choice(level, reserved, size, options, _inside(pods))


def _given_twice(node: _Node, reserved: CpuSet, pods: t.Sequence[_Placement]) -> t.List[str]:
    """The CPUs that pods would share although they are exclusive; `machine_notes` has the cause and the remedy."""
    seen = set(reserved)
    twice: t.Set[int] = set()
    for pod in pods:
        twice |= pod.cpus & seen
        seen |= pod.cpus
    if not twice:
        return []
    return [
        f"Kubelet {node.version} would give CPUs {format_cpuset(twice)} to these pods although they are reserved or another pod's, because "
        "cores or sockets of this machine differ."
    ]


def _notes(node: _Node, reserved: CpuSet, wanted: t.Sequence[PodRequest]) -> t.List[str]:
    topology = node.topology
    notes = []
    if topology.offline:
        notes.append(f"CPUs {format_cpuset(topology.offline)} are offline: the kubelet does not know them.")
    notes += machine_notes(topology, reserved)
    memory_only = [group.id for group in topology.numa_nodes if not group.cpus]
    if memory_only:
        notes.append(f"NUMA nodes {format_cpuset(memory_only)} have memory and no CPU.")
    if not topology.l3_groups:
        notes.append("The machine tells no L3 caches.")
    static = node.after["memoryManagerPolicy"] == "Static"
    if static and not supplies_of(topology, node.after, minor_of(node.version)).memory:
        notes.append("The memory of the NUMA nodes is not known: memory is not previewed.")
    elif static and any(not pod.own and MEMORY not in pod.others for pod in wanted):
        notes.append(
            "Pods without a memory request are previewed as if there were no memory manager, which may confine them to "
            "fewer NUMA nodes, or refuse them."
        )
    if any(pod.own for pod in wanted):
        notes.append(
            "Pods with pod-level resources (spec.resources) share CPUs, and only their devices are aligned, unless the kubelet's feature "
            "gate PodLevelResourceManagers is on, which the preview does not cover."
        )
    if not topology.gpus:
        notes.append("No NVIDIA GPU was found on the PCI bus.")
    elif node.after["topologyManagerPolicy"] == "none":
        notes.append(
            "With topologyManagerPolicy none the kubelet does not look for CPUs beside the GPU that a pod gets: 'beside a GPU' says only "
            "that there is one."
        )
    return notes
