# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview of admissions against what real kubelets do with the same pods, and write to their state files."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import (
    Admission,
    Books,
    Supplies,
    admit_all,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    ENDLESS,
    Container,
    Machine,
    Pod,
    Rules,
    machine_of,
    pod_request,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DevicePlugin, Ids
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import Block, MemoryManager
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    MAX_NUMA_NODES,
    MAX_NUMA_NUMBER,
    options_on,
)

from sandbox.settings import SandboxError, Version
from tests.conformance import machines
from tests.conformance.standalone_kubelet import Job, Place, Result, StandaloneNode, base_config

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 12, 12, 16, 16, 24, 32, 48, 64, 96, 128)
FRACTIONS = ("500m", "1500m", "250m")
OPTION_SETS: Sequence[tuple[int, tuple[str, ...]]] = (
    (20, ()),
    (22, ("full-pcpus-only",)),
    (23, ("distribute-cpus-across-numa",)),
    (23, ("full-pcpus-only", "distribute-cpus-across-numa")),
    (25, ("align-by-socket",)),
    (37, ("align-by-socket", "distribute-cpus-across-numa")),
    (37, ("align-by-socket", "distribute-cpus-across-numa", "full-pcpus-only")),
    (31, ("distribute-cpus-across-cores",)),
    (32, ("strict-cpu-reservation",)),
    (32, ("prefer-align-cpus-by-uncorecache",)),
    (32, ("prefer-align-cpus-by-uncorecache", "full-pcpus-only", "strict-cpu-reservation")),
)
"""From which minor version of 1.x each set of policy options is tried: since it can be used, or counts in a new way."""
POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
SCOPES = ("container", "pod")
NO_REFUSAL = ("FailedCreatePodSandBox", "FailedMount", "Failed", "BackOff")
NO_VICTIM = (
    "UnexpectedAdmissionError: Unexpected error while attempting to recover from admission failure: preemption: error "
    "finding a set of pods to preempt: no set of running pods found to reclaim resources: [{}]"
)
DEVICES = ("example.com/gpu", "example.com/nic")
PAGES = "hugepages-2Mi"
MIB = 1024**2
MOST_NODES_FOR_ALL = 6
LITTLE_MEMORY = "8Mi"
MEMORY_SHARES = (0.05, 0.05, 0.1, 0.1, 0.2, 0.3, 0.5, 0.6, 0.9, 1.2, 1.6, 2.5)
"""What containers request of the memory of a NUMA node, beside little."""
KNOWS_WHOLE_PODS = 34
"""The minor version of 1.x since which pods have pod-level resources without a feature gate (KEP-2837)."""
INVALID = re.compile(r"invalid pod: [^\n]{0,300}")
"""A manifest that a kubelet ignores (pkg/kubelet/config/common.go)."""
EVENT = re.compile(r'"Event occurred" object="default/(\S+?)-standalone".* reason="(\w+)" message="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class PodSequence:
    """Pods that one kubelet gets one after the other; the same seed makes the same sequence."""

    seed: str
    machine: str
    reserved: frozenset[int]
    options: tuple[str, ...]
    policy: str
    scope: str
    pods: tuple[Pod, ...]
    supplies: Supplies = field(default_factory=Supplies)

    def rules(self, minor: int) -> Rules:
        """The settings as the preview gets them."""
        on = options_on(dict.fromkeys(self.options, "true"))
        return Rules(minor, self.reserved, on, self.policy, self.scope)


@dataclass
class Count:
    """What came of the pods of one machine and kubelet version."""

    sequences: int = 0
    granted: int = 0
    refused: int = 0
    shared: int = 0
    undetermined: int = 0
    undetermined_alike: int = 0
    hung: int = 0
    whole: int = 0
    """Pods with pod-level resources."""
    disagreements: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def pods(self) -> int:
        return self.granted + self.refused + self.shared + self.undetermined + len(self.disagreements)


def draw(seed: str, name: str, topology: Topology, minor: int) -> PodSequence:
    """A sequence of pods, a reservation, policy options and supplies, at random but always the same for a seed."""
    dice, others = random.Random(seed), random.Random(f"{seed} beside CPUs")
    wholes = random.Random(f"{seed} of whole pods")
    machine = machine_of(topology)
    options = dice.choice([options for since, options in OPTION_SETS if since <= minor and _fits(options, machine)])
    reserved = _draw_reserved(dice, machine, minor)
    pods = [_draw_pod(dice, f"p{number:02}", len(machine.cpus)) for number in range(dice.randint(4, 12))]
    policy = dice.choice([policy for policy in POLICIES if _starts(policy, options, machine)])
    supplies = _draw_supplies(others, name, topology, minor, policy)
    memory = [node.memory["memory"] // MIB for node in topology.numa_nodes] if name in machines.WITH_MEMORY else []
    full = tuple(_with_own(wholes, _with_others(others, pod, memory, supplies), minor) for pod in pods)
    return PodSequence(seed, name, reserved, options, policy, dice.choice(SCOPES), full, supplies)


def _draw_supplies(dice: random.Random, name: str, topology: Topology, minor: int, policy: str) -> Supplies:
    """Devices, and the memory of machines that show it, with the memory manager's policy Static or without it.

    A kubelet looks at every combination of the hints of all resources, of which there are 2 to the power of the NUMA nodes
    each: from 7 nodes on, three resources take it minutes, unless it wants a single node.
    """
    nodes = [node.id for node in topology.numa_nodes]
    many = len(nodes) > MOST_NODES_FOR_ALL and policy in ("best-effort", "restricted")
    static = minor >= 21 and name in machines.WITH_MEMORY and dice.random() < (0.5 if many else 0.75)
    kinds = 0 if not nodes or (many and static) else dice.choice((0, 1, 1, 1 if many else 2))
    plugins = tuple(_draw_plugin(dice, resource, nodes) for resource in DEVICES[:kinds])
    if name not in machines.WITH_MEMORY:
        return Supplies(plugins=plugins)
    totals = {node.id: dict(node.memory) for node in topology.numa_nodes}
    reserved = {node: dice.choice((0, 0, 256, 512, 1000)) for node in nodes}
    reserved[dice.choice(nodes)] += 100
    pages = sum(memory.get(PAGES, 0) for memory in totals.values())
    total = sum(memory["memory"] for memory in totals.values())
    left = total - pages - sum(reserved.values()) * MIB
    return Supplies(
        memory=totals if static else {},
        reserved_memory=[
            {"numaNode": node, "limits": {"memory": f"{size}Mi"}} for node, size in reserved.items() if size
        ],
        allocatable={"memory": left, **({PAGES: pages} if pages and not many else {})},
        plugins=plugins,
    )


def _draw_plugin(dice: random.Random, resource: str, nodes: Sequence[int]) -> DevicePlugin:
    """A device plugin; some of its devices may have no NUMA node, or two."""
    style = dice.choice(("each", "each", "some", "odd"))
    places: list[frozenset[int]] = [frozenset({node}) for node in nodes for _ in range(dice.choice((1, 1, 2, 4)))]
    if style == "some":
        places = [frozenset({dice.choice(nodes)}) for _ in range(dice.randint(1, 4))]
    if style == "odd":
        places = [frozenset(dice.sample(nodes, min(len(nodes), dice.choice((0, 1, 1, 2))))) for _ in range(6)]
    devices = {f"{resource[-3:]}-{number:02}": place for number, place in enumerate(places)}
    return DevicePlugin(resource, devices, lowest_first=dice.random() < 0.7)


def _fits(options: Sequence[str], machine: Machine) -> bool:
    return "align-by-socket" not in options or machine.sockets <= machine.count("numa")


def _starts(policy: str, options: Sequence[str], machine: Machine) -> bool:
    """Whether the kubelet starts with this topologyManagerPolicy, and survives its first pod."""
    contradictory = policy == "single-numa-node" and "align-by-socket" in options
    nodes = machine.numa_nodes
    return policy == "none" or (len(nodes) <= MAX_NUMA_NODES and max(nodes) <= MAX_NUMA_NUMBER and not contradictory)


def _draw_reserved(dice: random.Random, machine: Machine, minor: int) -> frozenset[int]:
    cpus = sorted(machine.cpus)
    if minor < 22 and cpus[-1] >= len(cpus):  # kubelets up to 1.21 refuse others, see _settings
        return frozenset(cpus[:1])
    first_core = machine.places[cpus[0]].core
    kind = dice.choice(("core", "core", "thread", "uncore", "any"))
    if kind == "core":
        return machine.members["core"][first_core]
    if kind == "thread":
        return frozenset(cpus[:1])
    if kind == "uncore" and len(machine.members["uncore"]) > 1:
        return machine.members["uncore"][min(machine.members["uncore"])]
    return frozenset(dice.sample(cpus, dice.randint(1, max(1, len(cpus) // 8))))


def _draw_pod(dice: random.Random, name: str, cpus: int) -> Pod:
    sizes = [size for size in SIZES if size <= max(2, cpus // 2)]

    def request() -> str:
        return dice.choice(FRACTIONS) if dice.random() < 0.1 else str(dice.choice(sizes))

    count = dice.choice((1, 1, 1, 1, 2, 3))
    containers = [Container(f"c{number}", request()) for number in range(count)]
    if dice.random() < 0.2:
        kinds = [dice.choice(("init", "init", "sidecar")) for _ in range(dice.randint(1, 3))]
        containers = [Container(f"i{number}", request(), kind) for number, kind in enumerate(kinds)] + containers
    return Pod(name, tuple(containers), guaranteed=dice.random() < 0.9)


def _with_others(dice: random.Random, pod: Pod, memory: Sequence[int], supplies: Supplies) -> Pod:
    """The pod with requests of memory, huge pages and devices.

    :param memory: what the NUMA nodes have in MiB, if the kubelet gets to see it
    """
    with_devices = dice.random() < 0.6

    def others() -> dict[str, str]:
        found = {"memory": LITTLE_MEMORY}
        if memory and dice.random() < 0.8:
            found["memory"] = f"{round(dice.choice(memory) * dice.choice(MEMORY_SHARES))}Mi"
        if supplies.allocatable.get(PAGES) and dice.random() < 0.2:
            found[PAGES] = f"{2 * dice.choice((8, 32, 64, 128, 300))}Mi"
        for plugin in supplies.plugins if with_devices else ():
            if dice.random() < 0.7:
                found[plugin.resource] = str(dice.choice((1, 1, 1, 2, 2, 3, 4)))
        return found

    return replace(pod, containers=tuple(replace(container, others=others()) for container in pod.containers))


def _with_own(dice: random.Random, pod: Pod, minor: int) -> Pod:
    """The pod, or one in seven with pod-level resources: at least what its containers request, which may be nothing but
    devices."""
    if minor < KNOWS_WHOLE_PODS or dice.random() > 1 / 7:
        return pod
    factor = dice.choice((Fraction(1), Fraction(1), Fraction(3, 2), Fraction(2)))
    cpu, memory = (pod_request(pod, minor, resource) * factor for resource in ("cpu", "memory"))
    own = {"cpu": f"{int(cpu * 1000)}m", "memory": f"{-(-memory // MIB)}Mi"}
    if dice.random() < 0.5:
        bare = (replace(c, cpu="0", others=_devices_of(c)) for c in pod.containers)
        return replace(pod, containers=tuple(bare), own=own)
    return replace(pod, own=own)


def _devices_of(container: Container) -> dict[str, str]:
    return {resource: amount for resource, amount in container.others.items() if resource in DEVICES}


def job_of(sequence: PodSequence, version: Version) -> Job:
    """How a kubelet is given a sequence."""
    config = {
        **base_config(version),
        "cpuManagerPolicy": "static",
        "reservedSystemCPUs": format_cpuset(sequence.reserved),
        "topologyManagerPolicy": sequence.policy,
        "topologyManagerScope": sequence.scope,
    }
    gates = []
    if sequence.options:
        config["cpuManagerPolicyOptions"] = dict.fromkeys(sequence.options, "true")
        gates += ["CPUManagerPolicyOptions"] if version.minor == 22 else []
        gates += ["CPUManagerPolicyAlphaOptions", "CPUManagerPolicyBetaOptions"] if version.minor >= 23 else []
    supplies = sequence.supplies
    if supplies.reserved_memory:
        amounts = [int(entry["limits"]["memory"].removesuffix("Mi")) for entry in supplies.reserved_memory]
        config["kubeReserved"] = {"memory": f"{sum(amounts)}Mi"}
    if supplies.memory:
        config.update(memoryManagerPolicy="Static", reservedMemory=supplies.reserved_memory)
        gates += ["MemoryManager"] if version.minor == 21 else []
    if gates:
        config["featureGates"] = dict.fromkeys(gates, True)
    plugins = {plugin.resource: _plugin_arguments(plugin) for plugin in supplies.plugins}
    return Job(sequence.seed, config, pods=[_manifest(pod) for pod in sequence.pods], plugins=plugins)


def _plugin_arguments(plugin: DevicePlugin) -> list[str]:
    devices = [f"{device}={','.join(map(str, sorted(nodes)))}" for device, nodes in plugin.devices.items()]
    return ["lowest" if plugin.lowest_first else "any", *devices]


def _manifest(pod: Pod) -> dict[str, Any]:
    def manifest_of(container: Container) -> dict[str, Any]:
        requests = {**({} if container.cpu == "0" else {"cpu": container.cpu}), **container.others}
        limits = {what: amount for what, amount in requests.items() if pod.guaranteed or what not in ("cpu", "memory")}
        resources = {"requests": requests, "limits": limits}
        always = {"restartPolicy": "Always"} if container.role == "sidecar" else {}
        return {"name": container.name, "image": "none", "imagePullPolicy": "Never", "resources": resources, **always}

    starting = [manifest_of(container) for container in pod.containers if container.role != "app"]
    running = [manifest_of(container) for container in pod.containers if container.role == "app"]
    own = {"requests": pod.own, **({"limits": pod.own} if pod.guaranteed else {})} if pod.own else None
    return {"name": pod.name, "spec": {"initContainers": starting, "containers": running, "resources": own}}


def _worded(expected: Admission) -> Admission:
    """A preview as `_Real.admission` has it. A refusal is worded as for static pods: the kubelet would preempt others for what
    is missing, and finds none (pkg/kubelet/preemption/preemption.go)."""
    expected = replace(expected, memory={name: _in_order(blocks) for name, blocks in expected.memory.items()})
    if not expected.missing:
        return expected
    needs = (f"(res: {one.resource}, q: {one.requested + one.used - one.capacity}), " for one in expected.missing)
    return replace(expected, refused=NO_VICTIM.format("".join(needs)))


def refusals(log: str) -> dict[str, str]:
    """Pod -> reason and message of the event with which the kubelet refused it."""
    found = {}
    for pod, reason, message in EVENT.findall(log):
        if reason not in NO_REFUSAL:
            found[pod] = f"{reason}: " + json.loads(f'"{message}"')
    return found


def compare(sequence: PodSequence, machine: Machine, minor: int, result: Result, count: Count) -> None:
    """Compares the preview of each pod with what the kubelet did. Each preview starts from what the kubelet had given out
    before, so that one disagreement is counted once."""
    count.sequences += 1
    rules = sequence.rules(minor)
    if result.exit == "timeout" and any(
        admission.refused == ENDLESS
        for admission in admit_all(machine, rules, sequence.pods, sequence.supplies).admissions
    ):
        count.hung += 1
        return
    if result.exit is not None:
        count.disagreements.append(
            f"{_describe_sequence(sequence)}: the kubelet did not run: {result.exit}, {first_cause(result.log.splitlines())}"
        )
        return
    for ignored in INVALID.findall(result.log):
        count.disagreements.append(f"{_describe_sequence(sequence)}: a pod was not tried: {ignored}")
    real_ones = _Real.of(result)
    books = Books.of(machine, rules, sequence.supplies)
    for pod in sequence.pods:
        shared = books.shared
        count.whole += bool(pod.own)
        expected = _worded(books.admit(pod))
        real = real_ones.admission(pod.name)
        _count(sequence, pod, expected, real, count, f"free before: {format_cpuset(shared)}")
        if not _goes_on(books, shared, expected, real):
            return
    if sequence.pods[-1].name in real_ones.refused:
        return  # the kubelet frees what a refused pod got only when it admits the next one
    if books.shared != real_ones.shared:
        count.disagreements.append(
            f"{_describe_sequence(sequence)}: defaultCpuSet is {format_cpuset(real_ones.shared)}, expected "
            f"{format_cpuset(books.shared)}"
        )
    if books.memory and cells_of(books.memory) != real_ones.cells:
        count.disagreements.append(
            f"{_describe_sequence(sequence)}: machineState is {real_ones.cells}, expected {cells_of(books.memory)}"
        )


def _goes_on(books: Books, shared: frozenset[int], expected: Admission, real: Admission) -> bool:
    """Goes on from what the kubelet did where the preview left a choice; False if it cannot."""
    if (expected.refused is None) != (real.refused is None) or expected.memory != real.memory:
        return False
    if real.refused is None:
        books.shared = shared.difference(*real.cpus.values())
        books.devices.replace(real.pod, real.devices)
    books.undecided.clear()
    return True


@dataclass(frozen=True)
class _Real:
    """What a kubelet did: pods by name, and what was left in the end."""

    refused: dict[str, str]
    shared: frozenset[int]
    cpus: dict[str, dict[str, frozenset[int]]]
    memory: dict[str, dict[str, tuple[Block, ...]]]
    devices: dict[str, dict[str, dict[str, Ids]]]
    cells: dict[str, Any]

    @classmethod
    def of(cls, result: Result) -> _Real:
        """Reads the state files of the CPU, memory and device managers, and the log."""
        cpus = json.loads(result.files["cpu_manager_state"])
        memory = json.loads(result.files.get("memory_manager_state", "{}"))
        devices: dict[str, dict[str, dict[str, Ids]]] = {}
        checkpoint = json.loads(result.files.get("kubelet_internal_checkpoint", "{}")).get("Data") or {}
        for entry in checkpoint.get("PodDeviceEntries") or ():
            ids = frozenset(device for found in entry["DeviceIDs"].values() for device in found)
            devices.setdefault(entry["PodUID"], {}).setdefault(entry["ContainerName"], {})[entry["ResourceName"]] = ids
        return cls(
            refusals(result.log),
            parse_cpuset(cpus["defaultCpuSet"]),
            {
                pod: {name: parse_cpuset(found) for name, found in containers.items()}
                for pod, containers in (cpus.get("entries") or {}).items()
            },
            {
                pod: {name: _in_order(map(_block, blocks)) for name, blocks in containers.items()}
                for pod, containers in (memory.get("entries") or {}).items()
            },
            devices,
            {
                node: (cell["cells"], cell["numberOfAssignments"], _free(cell["memoryMap"]))
                for node, cell in (memory.get("machineState") or {}).items()
            },
        )

    def admission(self, pod: str) -> Admission:
        """What became of a pod."""
        if pod in self.refused:
            return Admission(pod, refused=self.refused[pod])
        return Admission(
            pod, self.cpus.get(pod, {}), memory=self.memory.get(pod, {}), devices=self.devices.get(pod, {})
        )


def _block(block: dict[str, Any]) -> Block:
    return Block(frozenset(block["numaAffinity"]), block["type"], block["size"])


def _in_order(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Kubernetes writes them in the order of a Go map."""
    return tuple(sorted(blocks, key=lambda block: block.resource))


def _free(tables: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {resource: (table["free"], table["reserved"]) for resource, table in tables.items()}


def cells_of(memory: MemoryManager) -> dict[str, Any]:
    """The books as `_Real.cells`."""
    return {
        str(node): (
            sorted(cell.group),
            cell.assignments,
            {what: (free, cell.reserved[what]) for what, free in cell.free.items()},
        )
        for node, cell in memory.cells.items()
    }


def _same_devices(sequence: PodSequence, pod: Pod, expected: Admission, real: Admission) -> bool:
    """Whether containers got the devices, or if Kubernetes may choose some of several, those of the same NUMA nodes."""
    if all(container.role == "app" for container in pod.containers) and all(
        plugin.lowest_first for plugin in sequence.supplies.plugins
    ):
        return expected.devices == real.devices
    places = {plugin.resource: plugin.devices for plugin in sequence.supplies.plugins}
    mine, theirs = (
        {
            (container, resource): Counter(places[resource][device] for device in ids)
            for container, found in admission.devices.items()
            for resource, ids in found.items()
        }
        for admission in (expected, real)
    )
    return mine == theirs


def _count(sequence: PodSequence, pod: Pod, expected: Admission, real: Admission, count: Count, context: str) -> None:
    alike = (expected.refused, expected.cpus, expected.memory) == (
        real.refused,
        real.cpus,
        real.memory,
    ) and _same_devices(sequence, pod, expected, real)
    if not expected.certain and (sequence.supplies.plugins or _same_kind(expected, real)):
        count.undetermined += 1
        count.undetermined_alike += alike
        return
    if alike:
        kind = "refused" if real.refused else "granted" if real.cpus else "shared"
        setattr(count, kind, getattr(count, kind) + 1)
        count.reasons[_reason(real)] += 1
        return
    count.disagreements.append(
        f"{_describe_sequence(sequence)}, {pod}\n  {context}\n"
        f"  preview: {_describe_admission(expected)}\n  kubelet: {_describe_admission(real)}"
    )


def _same_kind(expected: Admission, real: Admission) -> bool:
    """Whether both are refused, or have as many CPUs."""
    sizes, real_sizes = ({name: len(cpus) for name, cpus in admission.cpus.items()} for admission in (expected, real))
    return (expected.refused is None) == (real.refused is None) and sizes == real_sizes


def _reason(admission: Admission) -> str:
    """Why a pod was refused, in few words."""
    text = admission.refused or "admitted"
    return next(
        (what for what in ("memorymanager", "reclaim", "devices unavailable") if what in text), text.split(":")[0]
    )


def _describe_admission(admission: Admission) -> str:
    if admission.refused:
        return admission.refused
    cpus = ", ".join(f"{name} {format_cpuset(cpus)}" for name, cpus in admission.cpus.items()) or "shared pool"
    memory = [
        f"{name} {block.resource} {block.size} in {sorted(block.nodes)}"
        for name, blocks in admission.memory.items()
        for block in blocks
    ]
    devices = [f"{name} {sorted(ids)}" for name, found in admission.devices.items() for ids in found.values()]
    return f"{cpus}; memory: {', '.join(memory) or '-'}; devices: {', '.join(devices) or '-'}"


def _describe_sequence(sequence: PodSequence) -> str:
    options = ", ".join(sequence.options) or "no options"
    alignment = f"{sequence.policy} per {sequence.scope}"
    reserved = format_cpuset(sequence.reserved)
    memory = "memory manager Static" if sequence.supplies.memory else "no memory manager"
    return f"seed {sequence.seed} on {sequence.machine}, reserved {reserved}, {options}, {alignment}, {memory}"


def compare_version(
    node: StandaloneNode, version: Version, topologies: dict[str, Topology], per_machine: int, seed: int
) -> Iterator[tuple[str, Count]]:
    """Each machine's count for one kubelet version."""
    for name, topology in topologies.items():
        machine = machine_of(topology)
        count = Count()
        sequences = {
            s.seed: s
            for s in (draw(f"{seed}-{version}-{name}-{n}", name, topology, version.minor) for n in range(per_machine))
        }
        for result in node.run(version, [job_of(s, version) for s in sequences.values()], tree=name):
            compare(sequences[result.id], machine, version.minor, result, count)
        yield name, count


def run(versions: Sequence[Version], names: Sequence[str], sequences: int, seed: int, place: Place) -> int:
    """Compares `sequences` sequences per version, spread over the machines; prints a table; 1 on any disagreement."""
    unknown = [name for name in names if name not in machines.NAMES]
    if unknown:
        raise SandboxError(f"machine {', '.join(unknown)} is unknown: expected {', '.join(machines.NAMES)}.")
    per_machine = -(-sequences // len(names))
    disagreements = 0
    with machines.node_with(names, versions, place) as (node, topologies):
        print(
            f"{'kubelet':<10} {'machine':<24} {'sequences':>9} {'pods':>5} {'granted':>8} {'shared':>7} {'refused':>8} "
            f"{'undetermined':>13} {'disagree':>9} {'seconds':>8}"
        )
        for version in versions:
            total = Count()
            started = time.monotonic()
            for name, count in compare_version(node, version, topologies, per_machine, seed):
                _print_row(str(version), name, count, time.monotonic() - started)
                started = time.monotonic()
                for column in (
                    "sequences",
                    "granted",
                    "shared",
                    "refused",
                    "undetermined",
                    "undetermined_alike",
                    "hung",
                    "whole",
                ):
                    setattr(total, column, getattr(total, column) + getattr(count, column))
                total.disagreements += count.disagreements
                total.reasons += count.reasons
            _print_row(str(version), "all", total, None)
            print(", ".join(f"{reason}: {number}" for reason, number in total.reasons.most_common()), flush=True)
            if total.whole:
                print(f"{total.whole} of the pods have pod-level resources (spec.resources)", flush=True)
            if total.hung:
                print(f"{total.hung} sequences that the kubelet does not end, as previewed", flush=True)
            for text in total.disagreements:
                print(f"disagreement: {text}", flush=True)
            disagreements += len(total.disagreements)
    return 1 if disagreements else 0


def _print_row(version: str, name: str, count: Count, seconds: float | None) -> None:
    undetermined = f"{count.undetermined_alike}/{count.undetermined}" if count.undetermined else "-"
    print(
        f"{version:<10} {name:<24} {count.sequences:>9} {count.pods:>5} {count.granted:>8} {count.shared:>7} "
        f"{count.refused:>8} {undetermined:>13} {len(count.disagreements):>9} "
        f"{'' if seconds is None else f'{seconds:.0f}':>8}",
        flush=True,
    )
