# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which CPUs the kubelet's static policy will hand out. Ported from Kubernetes (Apache License 2.0)."""

from __future__ import annotations

import itertools
import math
import typing as t
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    Hint,
    Nodes,
    Refused,
    fewest_nodes,
    hints_for,
    unexpected,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Cpu, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

CpuSet = t.FrozenSet[int]

FULL_PCPUS = "full-pcpus-only"
ACROSS_NUMA = "distribute-cpus-across-numa"
BY_SOCKET = "align-by-socket"
ACROSS_CORES = "distribute-cpus-across-cores"
STRICT = "strict-cpu-reservation"
BY_UNCORE = "prefer-align-cpus-by-uncorecache"

ENDLESS = "the kubelet would not end: full-pcpus-only and distribute-cpus-across-numa find no whole core for the rest"
"""The message for a pod that the kubelet never finishes admitting (takeByTopologyNUMADistributed,
`for remainder > 0`)."""

# the minor versions of 1.x in which pkg/kubelet/cm/cpumanager introduced these
_SORTS_SOUNDLY = 22
_KNOWS_NUMA = 23
_ALIGNS_BY_SOCKET = 25
_CHECKS_PHYSICAL = 27
_KNOWS_SIDECARS = 29
_TELLS_NUMBERS = 29
_TELLS_NO_PHYSICAL = 32
_PACKS_ODD_IN_UNCORE = 34
_DISTRIBUTES_IN_SOCKET = 37

_ROLES = ("app", "init", "sidecar")
_MAX_PERMUTED_SOCKETS = 4
_MAX_INSERTED = 6


class AllocationError(InvalidText):
    """The request cannot be previewed."""

    code = "allocation_not_previewed"


@dataclass(frozen=True)
class Container:
    """One container: `cpu` is its CPU request, a quantity such as ``12`` or ``500m``; `role` is ``app``, ``init``, or
    ``sidecar`` for an init container with restartPolicy Always.

    `others` maps memory, huge pages and devices, as Kubernetes names them, to what it requests of them.
    """

    name: str
    cpu: str
    role: str = "app"
    others: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pod:
    """One pod in the order of its admission. Only containers of Guaranteed pods get exclusive CPUs.

    `own` maps CPUs, memory and huge pages to what the pod itself requests (spec.resources, KEP-2837). The CPU and memory
    managers then neither align nor pin anything (policy_static.go Allocate, GetTopologyHints, GetPodTopologyHints),
    unless the feature gate PodLevelResourceManagers is on, which is not previewed.
    """

    name: str
    containers: t.Tuple[Container, ...]
    guaranteed: bool = True
    own: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether the CPU and memory managers assign anything to its containers exclusively."""
        return self.guaranteed and not self.own


class _Place(t.NamedTuple):
    numa: int
    socket: int
    core: int
    uncore: int


@dataclass(frozen=True)
class Machine:
    """The machine as the kubelet's CPU manager sees it (pkg/kubelet/cm/cpumanager/topology/topology.go CPUTopology).

    `members` maps a level ("numa", "socket", "core", "uncore") and a number to the CPUs. A core has the number of its
    lowest CPU. `sockets` includes those of CPUs outside all NUMA nodes. `cpus_per_core`, `cpus_per_socket` and
    `cpus_per_uncore` are the kubelet's averages, rounded down.
    """

    places: t.Dict[int, _Place]
    members: t.Dict[str, t.Dict[int, CpuSet]]
    sockets: int
    cpus_per_core: int
    cpus_per_socket: int
    cpus_per_uncore: int
    numa_nodes: CpuSet
    """The numbers of all NUMA nodes, those without CPUs too."""

    @property
    def cpus(self) -> CpuSet:
        """All online CPUs that the kubelet knows."""
        return frozenset(self.places)

    def count(self, level: str) -> int:
        """How many sockets, NUMA nodes, ... there are."""
        return len(self.members[level])


@dataclass(frozen=True)
class Rules:
    """The kubelet settings that determine the allocation; `options` are the policy options that are on.

    `policy` and `scope` are topologyManagerPolicy and topologyManagerScope.
    """

    minor: int
    reserved: CpuSet
    options: t.FrozenSet[str] = frozenset()
    policy: str = "none"
    scope: str = "container"


@dataclass
class Answer:
    """CPUs for one container; `certain` as in `admission.Admission`."""

    cpus: CpuSet
    certain: bool = True


def initial_shared(machine: Machine, rules: Rules) -> CpuSet:
    """The defaultCpuSet of a new state file (policy_static.go validateState)."""
    return machine.cpus - rules.reserved if STRICT in rules.options else machine.cpus


def machine_of(topology: Topology) -> Machine:
    """The kubelet's view of a machine.

    cAdvisor (utils/sysinfo/sysinfo.go GetNodesInfo, getCoresInfo, addCacheInfo) treats CPUs of one NUMA node with the
    same core and socket number as one core, and ignores dies, offline CPUs and CPUs without these numbers. Without
    NUMA nodes, it uses sockets instead. The "uncore cache" is an L3 cache that does not span its whole NUMA node;
    cores without one are grouped by their socket's number (topology.go getUncoreCacheID).

    :raises AllocationError: if no CPU has core and socket numbers
    """
    has_nodes = bool(topology.numa_nodes)
    cores: t.Dict[t.Tuple[int, int, int], t.List[Cpu]] = {}
    for cpu in topology.cpus:
        node = cpu.numa_node if has_nodes else cpu.socket
        if cpu.online and node is not None and cpu.socket is not None and cpu.core is not None:
            cores.setdefault((node, cpu.socket, cpu.core), []).append(cpu)
    if not cores:
        online = format_cpuset(topology.online)
        raise AllocationError("this machine does not tell the cores and sockets of its CPUs.", value=online)
    cores_of_node: t.Dict[int, int] = {}
    for node, _socket, _core in cores:
        cores_of_node[node] = cores_of_node.get(node, 0) + 1
    sharing = Counter(thread.l3 for threads in cores.values() for thread in threads)
    places: t.Dict[int, _Place] = {}
    for (node, socket, _core), threads in cores.items():
        first = min(threads, key=lambda thread: str(thread.id))  # cAdvisor reads the first one by file name
        spans_node = sharing[first.l3] == cores_of_node[node] * len(threads)
        uncore = socket if first.l3 is None or spans_node else first.l3
        number = min(thread.id for thread in threads)
        for thread in threads:
            places[thread.id] = _Place(node, socket, number, uncore)
    members: t.Dict[str, t.Dict[int, t.Set[int]]] = {level: {} for level in _Place._fields}
    for number, place in places.items():
        for level, group in zip(_Place._fields, place):
            members[level].setdefault(group, set()).add(number)
    # machine.go GetSockets reads /proc/cpuinfo, which knows nothing of NUMA nodes
    sockets = {cpu.socket for cpu in topology.cpus if cpu.online and cpu.socket is not None}
    return Machine(
        places,
        {level: {group: frozenset(found) for group, found in groups.items()} for level, groups in members.items()},
        sockets=len(sockets),
        cpus_per_core=len(places) // len(cores),
        cpus_per_socket=len(places) // len(sockets),
        cpus_per_uncore=len(places) // len(members["uncore"]),
        numa_nodes=frozenset(node.id for node in topology.numa_nodes) or frozenset(members["numa"]),
    )


def reserved_of(machine: Machine, minor: int, options: t.FrozenSet[str], count: int) -> CpuSet:
    """The CPUs that the static policy reserves if kubeReserved and systemReserved give only an amount (policy_static.go
    NewStaticPolicy).

    :param count: kubeReserved.cpu + systemReserved.cpu, rounded up
    :raises AllocationError: if there are fewer CPUs
    """
    try:
        return _take(machine, Rules(minor, frozenset(), options), machine.cpus, count).cpus
    except Refused as exc:
        raise AllocationError(f"{counted(count, 'CPU')} cannot be reserved: {exc}.", value=count) from exc


@dataclass
class Pool:
    """The CPUs from which the kubelet gives to one pod.

    `left` are the CPUs that are not exclusive to any container (defaultCpuSet). `reusable` are those of the pod's init
    containers: later ones may have them too, but not those of a sidecar (policy_static.go updateCPUsToReuse).
    """

    machine: Machine
    rules: Rules
    left: CpuSet
    reusable: CpuSet = frozenset()

    def hints(self, wanted: int, whole_pod: bool) -> t.Optional[t.List[Hint]]:
        """The hints for `wanted` exclusive CPUs; None without any (policy_static.go GetTopologyHints,
        GetPodTopologyHints).

        :param whole_pod: for all containers at once, none of which has CPUs yet
        """
        if not wanted:
            return None
        free = self.left - self.rules.reserved
        return _cpu_hints(self.machine, self.rules, free, frozenset() if whole_pod else self.reusable, wanted)

    def give(self, wanted: int, role: str, nodes: t.Optional[Nodes]) -> Answer:
        """Exclusive CPUs for one container, as many of them as possible from these NUMA nodes (policy_static.go
        Allocate).

        :raises Refused: if the kubelet refuses the pod
        """
        machine, rules = self.machine, self.rules
        if FULL_PCPUS in rules.options:
            reserved_cores = {machine.places[cpu].core for cpu in rules.reserved if cpu in machine.places}
            physical = rules.reserved.union(*(machine.members["core"][core] for core in reserved_cores))
            _check_smt(rules.minor, wanted, machine.cpus_per_core, len(self.left - physical))
        answer = _take_aligned(machine, rules, (self.left - rules.reserved) | self.reusable, wanted, nodes)
        self.left -= answer.cpus
        if starts_before(role, rules.minor):
            self.reusable |= answer.cpus
        else:
            self.reusable -= answer.cpus
        return answer


def starts_before(role: str, minor: int) -> bool:
    """Whether a container ends before the next one starts. Below 1.29, kubelets take a sidecar for such a one."""
    return role == "init" or (role == "sidecar" and minor < _KNOWS_SIDECARS)


def in_order(pod: Pod) -> t.List[Container]:
    """The containers in the order in which the kubelet admits them.

    :raises AllocationError: for a role that no container has
    """
    for container in pod.containers:
        if container.role not in _ROLES:
            raise AllocationError(
                f'container {container.name} of pod {pod.name} has the role "{container.role}": expected one of '
                f"{', '.join(_ROLES)}.",
                value=container.role,
            )
    return [c for c in pod.containers if c.role != "app"] + [c for c in pod.containers if c.role == "app"]


def amount_of(pod: Pod, container: Container, resource: str) -> Fraction:
    """How much of a resource a container requests.

    :raises AllocationError: for anything but a quantity of 0 or more
    """
    asked = container.cpu if resource == "cpu" else container.others.get(resource, "0")
    return _amount(f"container {container.name} of pod {pod.name}", resource, asked)


def _amount(who: str, resource: str, asked: str) -> Fraction:
    what = "CPUs" if resource == "cpu" else resource
    try:
        amount = parse_quantity(asked)
    except ValueError as exc:
        raise AllocationError(f"{who}: {exc}.", value=asked) from exc
    if amount < 0:
        raise AllocationError(f'{who} asks for "{asked}" {what}: expected none or more.', value=asked)
    return amount


def whole_cpus(pod: Pod, container: Container) -> int:
    """The number of exclusive CPUs; 0 for a container in the shared pool (policy_static.go guaranteedCPUs)."""
    request = amount_of(pod, container, "cpu")
    return int(request) if pod.pinned and request.denominator == 1 else 0


def pod_request(pod: Pod, minor: int, resource: str = "cpu") -> Fraction:
    """What a pod requests of a resource (k8s.io/component-helpers/resource PodRequests): its pod-level requests count
    instead of those of its containers."""
    if resource in pod.own:
        return _amount(f"pod {pod.name}", resource, pod.own[resource])
    return pod_total(pod, minor, lambda of, container: amount_of(of, container, resource))


def pod_total(pod: Pod, minor: int, amount: t.Callable[[Pod, Container], t.Union[int, Fraction]]) -> Fraction:
    """What a pod needs at most at a time: the larger one of initializing and running."""
    running = starting = sidecars = Fraction(0)
    for container in in_order(pod):
        needed = amount(pod, container)
        if container.role == "app":
            running += needed
        elif container.role == "sidecar" and minor >= _KNOWS_SIDECARS:
            sidecars += needed
        else:
            starting = max(starting, sidecars + needed)
    return max(starting, running + sidecars)


def _cpu_hints(machine: Machine, rules: Rules, free: CpuSet, reusable: CpuSet, wanted: int) -> t.List[Hint]:
    """policy_static.go generateCPUTopologyHints; the same CPU may be both free and reusable, and counts twice then."""

    def per_node(cpus: CpuSet) -> t.Dict[int, int]:
        return {node: len(members & cpus) for node, members in machine.members["numa"].items()}

    fewest = fewest_nodes(per_node(machine.cpus), wanted)
    hints = hints_for(per_node(free), per_node(reusable), wanted, fewest)
    if BY_SOCKET not in rules.options or rules.minor < _ALIGNS_BY_SOCKET:
        return hints
    per_socket = machine.count("numa") // machine.sockets
    sockets = -(-fewest // per_socket) if per_socket else 0
    return [replace(hint, preferred=hint.preferred or _spans(machine, hint.nodes) == sockets) for hint in hints]


def _spans(machine: Machine, nodes: t.Optional[Nodes]) -> int:
    """The number of sockets that have CPUs in these NUMA nodes."""
    return len({machine.places[cpu].socket for node in nodes or () for cpu in machine.members["numa"][node]})


def _take_aligned(machine: Machine, rules: Rules, available: CpuSet, wanted: int, nodes: t.Optional[Nodes]) -> Answer:
    """policy_static.go allocateCPUs: as many CPUs as possible from these NUMA nodes, the rest from any."""
    if nodes is None:
        return _take(machine, rules, available, wanted)
    level, numbers = "numa", nodes & machine.members["numa"].keys()
    if BY_SOCKET in rules.options and rules.minor >= _ALIGNS_BY_SOCKET:
        level = "socket"
        numbers = frozenset(machine.places[cpu].socket for node in numbers for cpu in machine.members["numa"][node])
    aligned = available.intersection(frozenset().union(*(machine.members[level][number] for number in numbers)))
    first = _take(machine, rules, aligned, min(wanted, len(aligned)))
    rest = _take(machine, rules, available - first.cpus, wanted - len(first.cpus))
    return Answer(first.cpus | rest.cpus, first.certain and rest.certain)


def _check_smt(minor: int, wanted: int, per_core: int, available: int) -> None:
    """policy_static.go SMTAlignmentError; 1.27 to 1.31 give the wrong text if no physical CPU is free."""
    name = "SMTAlignmentError: SMT Alignment Error"
    odd = f"{name}: requested {wanted} cpus not multiple cpus per core = {per_core}"
    if wanted % per_core:
        raise Refused(odd)
    if minor >= _CHECKS_PHYSICAL and wanted > available:
        if available == 0 and minor < _TELLS_NO_PHYSICAL:
            raise Refused(odd)
        raise Refused(
            f"{name}: not enough free physical CPUs: available physical CPUs = {available}, requested CPUs = {wanted}, "
            f"CPUs per core = {per_core}"
        )


def _take(machine: Machine, rules: Rules, available: CpuSet, wanted: int) -> Answer:
    """policy_static.go takeByTopology (up to 1.21 and 1.22: cpu_assignment.go takeByTopology)."""
    if wanted == 0:
        return Answer(frozenset())
    if rules.minor < _SORTS_SOUNDLY:
        return _take_unsorted(machine, rules, available, wanted)
    if ACROSS_NUMA in rules.options and rules.minor >= _KNOWS_NUMA:
        group = machine.cpus_per_core if FULL_PCPUS in rules.options else 1
        return Answer(_take_distributed(machine, rules, available, wanted, group))
    return Answer(_take_packed(machine, rules, available, wanted, BY_UNCORE in rules.options))


def _check_enough(minor: int, wanted: int, available: t.Collection[int]) -> None:
    if wanted > len(available):
        numbers = f": requested={wanted}, available={len(available)}" if minor >= _TELLS_NUMBERS else ""
        raise unexpected(f"not enough cpus available to satisfy request{numbers}")


@dataclass
class _Accumulator:
    """cpu_assignment.go cpuAccumulator, 1.22 to 1.37: takes from `free` until `needed` is 0."""

    machine: Machine
    minor: int
    free: CpuSet
    needed: int
    result: CpuSet = field(default_factory=frozenset)

    def satisfied(self) -> bool:
        return self.needed < 1

    def free_in(self, level: str, number: int) -> CpuSet:
        return self.free & self.machine.members[level][number]

    def sort(self, level: str, within: CpuSet) -> t.List[int]:
        """The groups of a level with CPUs in `within`, ordered by the number of free CPUs, then by number."""
        numbers = {getattr(self.machine.places[cpu], level) for cpu in within}
        return sorted(numbers, key=lambda number: (len(self.free_in(level, number)), number))

    def in_one_socket(self, nodes: t.Iterable[int]) -> bool:
        """CPUDetails.AreNUMANodesInSameSocket"""
        members = self.machine.members["numa"]
        return len({self.machine.places[cpu].socket for node in nodes for cpu in members[node]}) <= 1

    @property
    def _numa_first(self) -> bool:
        return self.machine.sockets >= self.machine.count("numa")

    def sockets(self) -> t.List[int]:
        if self.minor < _KNOWS_NUMA or not self._numa_first:
            return self.sort("socket", self.free)
        return [s for node in self.numa_nodes() for s in self.sort("socket", self.free_in("numa", node))]

    def numa_nodes(self) -> t.List[int]:
        if self._numa_first:
            return self.sort("numa", self.free)
        return [node for socket in self.sockets() for node in self.sort("numa", self.free_in("socket", socket))]

    def uncores(self) -> t.List[int]:
        return [u for node in self.numa_nodes() for u in self.sort("uncore", self.free_in("numa", node))]

    def cores(self) -> t.List[int]:
        if self.minor < _KNOWS_NUMA or self._numa_first:
            return [core for socket in self.sockets() for core in self.sort("core", self.free_in("socket", socket))]
        return [core for node in self.numa_nodes() for core in self.sort("core", self.free_in("numa", node))]

    def take(self, cpus: CpuSet) -> None:
        self.result |= cpus
        self.free -= cpus
        self.needed -= len(cpus)

    def take_whole(self, level: str, numbers: t.Iterable[int], size: t.Optional[int] = None) -> None:
        """Takes groups whose CPUs are all free, as long as at least a whole group is needed.

        :param size: the number of CPUs in a whole group; the kubelet uses the machine's average for sockets and cores
        """
        members = self.machine.members[level]
        whole = [n for n in numbers if len(self.free_in(level, n)) == (len(members[n]) if size is None else size)]
        for number in whole:
            if self.needed >= len(members[number]):
                self.take(members[number])

    def take_whole_numa_nodes_and_sockets(self) -> None:
        """Takes from the level with the larger groups first."""
        levels = ["numa", "socket"] if self._numa_first else ["socket", "numa"]
        for level in levels if self.minor >= _KNOWS_NUMA else ["socket"]:
            if level == "numa":
                self.take_whole("numa", self.numa_nodes())
            else:
                self.take_whole("socket", self.sockets(), self.machine.cpus_per_socket)
            if self.satisfied():
                return

    def take_uncores(self) -> None:
        """takeUncoreCache: whole uncore caches, then part of one that can hold the remainder."""
        for uncore in self.uncores():
            if self.needed >= self.machine.cpus_per_uncore:
                self.take_whole("uncore", self.uncores())
            if self.satisfied():
                return
            self._take_part_of_uncore(uncore)
            if self.satisfied():
                return

    def _take_part_of_uncore(self, uncore: int) -> None:
        """takePartialUncore; before 1.34 an odd number of CPUs never fits if cores have two threads."""
        per_core = self.machine.cpus_per_core
        packs_odd = self.minor >= _PACKS_ODD_IN_UNCORE
        cores_needed = (self.needed + per_core - 1) // per_core if packs_odd else self.needed // per_core
        cores = sorted({self.machine.places[cpu].core for cpu in self.free_in("uncore", uncore)})[:cores_needed]
        cpus = sorted(cpu for core in cores for cpu in self.free_in("core", core))
        if packs_odd and self.needed % 2 and per_core > 1 and len(cpus) > self.needed:
            cpus = cpus[:-1]
        if len(cpus) == self.needed:
            self.take(frozenset(cpus))

    def take_single(self, spread: bool) -> None:
        """takeRemainingCPUs."""
        if spread:
            cpus = [cpu for socket in self.sockets() for cpu in sorted(self.free_in("socket", socket))]
        else:
            cpus = [cpu for core in self.cores() for cpu in sorted(self.free_in("core", core))]
        for cpu in cpus[: self.needed]:
            self.take(frozenset({cpu}))


def _take_packed(machine: Machine, rules: Rules, available: CpuSet, wanted: int, by_uncore: bool) -> CpuSet:
    """cpu_assignment.go takeByTopologyNUMAPacked (1.23 to 1.37), and takeByTopology (1.22), which has no NUMA level."""
    spread = ACROSS_CORES in rules.options
    acc = _Accumulator(machine, rules.minor, available & machine.cpus, wanted)
    if acc.satisfied():
        return acc.result
    _check_enough(rules.minor, wanted, acc.free)
    acc.take_whole_numa_nodes_and_sockets()
    if not acc.satisfied() and by_uncore:
        acc.take_uncores()
    if not acc.satisfied() and not spread:
        acc.take_whole("core", acc.cores(), machine.cpus_per_core)
    if not acc.satisfied():
        acc.take_single(spread)
    if not acc.satisfied():
        raise unexpected("failed to allocate cpus")
    return acc.result


def _take_distributed(machine: Machine, rules: Rules, available: CpuSet, wanted: int, group: int) -> CpuSet:
    """cpu_assignment.go takeByTopologyNUMADistributed (1.23 to 1.37; KEP 2902): evenly over as few NUMA nodes as
    possible.

    :param group: how many CPUs are allocated together: the threads of a core with full-pcpus-only, otherwise 1
    """
    if wanted % group:
        return _take_packed(machine, rules, available, wanted, False)
    acc = _Accumulator(machine, rules.minor, available & machine.cpus, wanted)
    if acc.satisfied():
        return acc.result
    _check_enough(rules.minor, wanted, acc.free)
    nodes = acc.numa_nodes()
    groups = (len(machine.cpus) - 1) // group + 1
    groups_per_node = (groups - 1) // machine.count("numa") + 1
    groups_needed = (wanted - 1) // group + 1
    fewest = (groups_needed - 1) // groups_per_node + 1
    for size in range(fewest, min(groups_needed, len(nodes)) + 1):
        by_socket = BY_SOCKET in rules.options and rules.minor >= _DISTRIBUTES_IN_SOCKET
        combination, remainder_nodes = _best_combination(acc, nodes, size, wanted, group, by_socket)
        if combination is None:
            continue
        each = _even_share(acc, combination, wanted, group, rules.minor >= _DISTRIBUTES_IN_SOCKET)
        for node in combination:
            _take_in_node(acc, rules, node, each)
        left = wanted - each * len(combination)
        while left > 0:
            before = left
            for node in remainder_nodes:
                if left > 0 and len(acc.free_in("numa", node)) >= group:
                    _take_in_node(acc, rules, node, group)
                    left -= group
            if left == before:
                raise Refused(ENDLESS)
        if acc.needed:
            which = "not enough" if acc.needed > 0 else "too many"
            raise unexpected(f"accounting error, {which} CPUs allocated, remaining: {acc.needed}")
        return acc.result
    return _take_packed(machine, rules, available, wanted, False)


def _take_in_node(acc: _Accumulator, rules: Rules, node: int, count: int) -> None:
    try:
        acc.take(_take_packed(acc.machine, rules, acc.free_in("numa", node), count, False))
    except Refused:
        return  # takeByTopologyNUMADistributed ignores the error, and later finds that the sum is wrong


def _even_share(acc: _Accumulator, nodes: t.Sequence[int], wanted: int, group: int, capped: bool) -> int:
    """How many CPUs each of the NUMA nodes gives.

    :param capped: no more than the fullest one has: since 1.37 once the nodes are chosen, with align-by-socket before too
    """
    share = wanted // len(nodes)
    if capped:
        share = min(share, *(len(acc.free_in("numa", node)) for node in nodes))
    return share // group * group


def _best_combination(
    acc: _Accumulator, nodes: t.Sequence[int], size: int, wanted: int, group: int, by_socket: bool
) -> t.Tuple[t.Optional[t.List[int]], t.List[int]]:
    """The `size` NUMA nodes that leave the free CPUs most balanced, and those of them that give the remainder.

    :param by_socket: prefers nodes of one socket to all others, as align-by-socket does since 1.37
    """
    best, best_balance, best_in_socket = None, math.inf, False
    best_remainder: t.Optional[_GoSlice] = None
    free = {node: len(acc.free_in("numa", node)) for node in nodes}
    for combination in _combinations(nodes, size):
        if best_balance == 0 and (not by_socket or best_in_socket):
            break
        chosen = combination.items()
        each = _even_share(acc, chosen, wanted, group, by_socket)
        if (
            sum(free[node] for node in chosen) < wanted
            or sum(free[node] // group for node in chosen) * group < wanted
            or any(free[node] < each for node in chosen)
        ):
            continue
        after = {node: free[node] - (each if node in chosen else 0) for node in nodes}
        remainder = wanted - each * size
        balance: float = math.inf
        remainder_nodes: t.Optional[_GoSlice] = None
        if remainder == 0:
            balance = _standard_deviation(list(after.values()))
        else:
            givers = [node for node in chosen if after[node] >= group]
            for count in range(len(givers), 0, -1):
                for subset in _combinations(givers, count):
                    candidate = _balance_after(after, subset.items(), remainder, group)
                    if candidate < balance:
                        balance, remainder_nodes = candidate, subset
        in_socket = by_socket and acc.in_one_socket(chosen)
        if in_socket if in_socket != best_in_socket else balance < best_balance:
            best, best_balance, best_remainder, best_in_socket = combination, balance, remainder_nodes, in_socket
    return (best.items() if best else None), (best_remainder.items() if best_remainder else [])


def _balance_after(after: t.Mapping[int, int], subset: t.Sequence[int], remainder: int, group: int) -> float:
    """How unbalanced the NUMA nodes are once `subset` has given the remainder in turn; infinity if it has too few
    CPUs."""
    if sum(after[node] for node in subset) < remainder:
        return math.inf
    left = dict(after)
    while remainder > 0:
        before = remainder
        for node in subset:
            if remainder > 0 and left[node] >= group:
                left[node] -= group
                remainder -= group
        if remainder == before:
            raise Refused(ENDLESS)
    return _standard_deviation(list(left.values()))


def _standard_deviation(numbers: t.Sequence[int]) -> float:
    mean = _rounded(sum(numbers) / len(numbers))
    return _rounded(math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers)))


def _rounded(number: float) -> float:
    """Rounds to thousandths, halves up, as Go's math.Round does for non-negative numbers."""
    return math.floor(number * 1000 + 0.5) / 1000


class _GoSlice(t.NamedTuple):
    """The first `length` items of an array that other slices may share and modify."""

    array: t.List[int]
    length: int

    def items(self) -> t.List[int]:
        return self.array[: self.length]


def _combinations(numbers: t.Sequence[int], size: int) -> t.Iterator[_GoSlice]:
    """cpu_assignment.go iterateCombinations, including its bug: from four numbers on, combinations with the same prefix
    share an array, so that the best one so far is overwritten by the last of them.
    """

    def extend(so_far: _GoSlice, start: int) -> t.Iterator[_GoSlice]:
        missing = size - so_far.length
        if missing == 0:
            yield so_far
            return
        for index in range(start, len(numbers) - missing + 1):
            array = so_far.array
            if so_far.length == len(array):  # Go's append allocates an array of twice the size
                array = array + [0] * max(1, len(array))
            array[so_far.length] = numbers[index]
            yield from extend(_GoSlice(array, so_far.length + 1), index + 1)

    return extend(_GoSlice([], 0), 0)


def _take_unsorted(machine: Machine, rules: Rules, available: CpuSet, wanted: int) -> Answer:
    """cpu_assignment.go takeByTopology, 1.20 and 1.21: whole sockets, whole cores, single CPUs; no NUMA level.

    Its comparisons are joined by "or", so that a socket may be both less and greater than another. In that case the
    result depends on the order of a Go map and on the sort algorithm, and is not certain. This happens in `freeCores`
    once a socket has more free cores than one with a higher number.
    """
    _check_enough(rules.minor, wanted, available & machine.cpus)
    orders = _socket_orders(machine, available)
    answers = [_take_in_order(machine, available, wanted, order) for order in orders]
    same = all(answer.cpus == answers[0].cpus for answer in answers)
    return Answer(answers[0].cpus, same and all(answer.certain for answer in answers))


def _whole_cores(machine: Machine, free: CpuSet, socket: int) -> t.List[int]:
    here = {machine.places[cpu].core for cpu in free & machine.members["socket"][socket]}
    return sorted(core for core in here if len(free & machine.members["core"][core]) == machine.cpus_per_core)


def _socket_orders(machine: Machine, free: CpuSet) -> t.List[t.Tuple[int, ...]]:
    """The possible orders of the sockets in freeCores, the consistent one first."""
    numbers = {machine.places[cpu].socket for cpu in free & machine.cpus}
    whole = {socket: len(_whole_cores(machine, free, socket)) for socket in numbers}
    sound = tuple(sorted(numbers, key=lambda socket: (whole[socket], socket)))
    if list(sound) == sorted(numbers):
        return [sound]
    others = itertools.permutations(sorted(numbers)) if len(numbers) <= _MAX_PERMUTED_SOCKETS else [sorted(numbers)]
    return [sound, *(tuple(order) for order in others)]


def _take_in_order(machine: Machine, available: CpuSet, wanted: int, sockets: t.Sequence[int]) -> Answer:
    free, needed = available & machine.cpus, wanted
    result: CpuSet = frozenset()

    def take(cpus: CpuSet) -> None:
        nonlocal free, needed, result
        result, free, needed = result | cpus, free - cpus, needed - len(cpus)

    for socket in sorted(machine.members["socket"]):
        cpus = free & machine.members["socket"][socket]
        if needed >= machine.cpus_per_socket and len(cpus) == machine.cpus_per_socket:
            take(cpus)
    whole = [core for socket in sockets for core in _whole_cores(machine, free, socket)]
    for core in whole:
        if needed >= machine.cpus_per_core:
            take(free & machine.members["core"][core])
    if needed < 1:
        return Answer(result)
    cores, certain = _sort_cores(machine, free, result)
    singles = [cpu for core in cores for cpu in sorted(free & machine.members["core"][core])]
    if len(singles) < needed:
        raise unexpected("failed to allocate cpus")
    taken = frozenset(singles[:needed])
    return Answer(result | taken, certain or len(singles) == needed)


def _sort_cores(machine: Machine, free: CpuSet, result: CpuSet) -> t.Tuple[t.List[int], bool]:
    """freeCPUs: the cores by insertion sort, and whether Go's sort gives the same; up to 6 items it is one."""

    def key(core: int) -> t.Tuple[int, int, int, int, int]:
        socket = machine.places[core].socket
        members = machine.members["socket"][socket]
        return (
            -len(members & result),
            len(members & free),
            len(machine.members["core"][core] & free),
            socket,
            core,
        )

    keys = {core: key(core) for core in {machine.places[cpu].core for cpu in free}}

    def less(first: int, second: int) -> bool:
        return any(mine < theirs for mine, theirs in zip(keys[first], keys[second]))

    cores = sorted(keys)
    for index in range(1, len(cores)):
        while index > 0 and less(cores[index], cores[index - 1]):
            cores[index], cores[index - 1] = cores[index - 1], cores[index]
            index -= 1
    sound = not any(less(after, before) for before, after in itertools.combinations(cores, 2))
    return cores, sound or len(cores) <= _MAX_INSERTED
