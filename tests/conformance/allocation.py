# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview of allocations against what real kubelets write to their state files for the same pods."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    ENDLESS,
    Admission,
    Container,
    Machine,
    Pod,
    Rules,
    admit,
    admit_all,
    initial_shared,
    machine_of,
    pod_request,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    MAX_NUMA_NODES,
    MAX_NUMA_NUMBER,
    options_on,
)

from sandbox.settings import SandboxError, Version
from tests.conformance import machines
from tests.conformance.standalone_kubelet import Job, Result, StandaloneNode, base_config

NODE = "conformance-allocation"
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
OUT_OF_CPU = re.compile(r"OutOfcpu: .* requested: (\d+), used: (\d+), capacity: (\d+)")
NO_VICTIM = (
    "UnexpectedAdmissionError: Unexpected error while attempting to recover from admission failure: preemption: error "
    "finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: {}), ]"
)
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
    disagreements: list[str] = field(default_factory=list)

    @property
    def pods(self) -> int:
        return self.granted + self.refused + self.shared + self.undetermined + len(self.disagreements)


def draw(seed: str, name: str, topology: Topology, minor: int) -> PodSequence:
    """A sequence of pods, a reservation and policy options, at random but always the same for a seed."""
    dice = random.Random(seed)
    machine = machine_of(topology)
    options = dice.choice([options for since, options in OPTION_SETS if since <= minor and _fits(options, machine)])
    reserved = _draw_reserved(dice, machine, minor)
    pods = tuple(_draw_pod(dice, f"p{number:02}", len(machine.cpus)) for number in range(dice.randint(4, 12)))
    policy = dice.choice([policy for policy in POLICIES if _starts(policy, options, machine)])
    return PodSequence(seed, name, reserved, options, policy, dice.choice(SCOPES), pods)


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


def job_of(sequence: PodSequence, version: Version) -> Job:
    """How a kubelet is given a sequence."""
    config = {
        **base_config(version),
        "cpuManagerPolicy": "static",
        "reservedSystemCPUs": format_cpuset(sequence.reserved),
        "topologyManagerPolicy": sequence.policy,
        "topologyManagerScope": sequence.scope,
    }
    if sequence.options:
        config["cpuManagerPolicyOptions"] = dict.fromkeys(sequence.options, "true")
        gates = ["CPUManagerPolicyOptions"] if version.minor == 22 else []
        gates += ["CPUManagerPolicyAlphaOptions", "CPUManagerPolicyBetaOptions"] if version.minor >= 23 else []
        config["featureGates"] = dict.fromkeys(gates, True)
    return Job(sequence.seed, config, pods=[_manifest(pod) for pod in sequence.pods])


def _manifest(pod: Pod) -> dict[str, Any]:
    def manifest_of(container: Container) -> dict[str, Any]:
        kind = "limits" if pod.guaranteed else "requests"
        resources = {kind: {"cpu": container.cpu, "memory": "8Mi"}}
        always = {"restartPolicy": "Always"} if container.role == "sidecar" else {}
        return {"name": container.name, "image": "none", "imagePullPolicy": "Never", "resources": resources, **always}

    starting = [manifest_of(container) for container in pod.containers if container.role != "app"]
    running = [manifest_of(container) for container in pod.containers if container.role == "app"]
    return {"name": pod.name, "spec": {"initContainers": starting, "containers": running}}


def _as_static(expected: Admission) -> Admission:
    """A refusal as the kubelet words it for static pods: it would preempt others for what is missing, and finds none
    (pkg/kubelet/preemption/preemption.go)."""
    numbers = OUT_OF_CPU.fullmatch(expected.refused or "")
    if not numbers:
        return expected
    requested, used, capacity = (int(number) for number in numbers.groups())
    return replace(expected, refused=NO_VICTIM.format(requested + used - capacity))


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
        admission.refused == ENDLESS for admission in admit_all(machine, rules, sequence.pods).admissions
    ):
        count.hung += 1
        return
    if result.exit is not None:
        count.disagreements.append(
            f"{_describe_sequence(sequence)}: the kubelet did not run: {result.exit}, {first_cause(result.log.splitlines())}"
        )
        return
    state = json.loads(result.files["cpu_manager_state"])
    entries = {
        pod: {c: parse_cpuset(cpus) for c, cpus in found.items()} for pod, found in (state.get("entries") or {}).items()
    }
    refused = refusals(result.log)
    shared = initial_shared(machine, rules)
    used = Fraction(0)
    for pod in sequence.pods:
        expected = _as_static(admit(machine, rules, shared, used, pod))
        real = Admission(pod.name, {} if pod.name in refused else entries.get(pod.name, {}), refused.get(pod.name))
        _count(sequence, pod, expected, real, count, f"free before: {format_cpuset(shared)}")
        if real.refused is None:
            shared = shared.difference(*real.cpus.values())
            used += pod_request(pod, minor)
    if shared != parse_cpuset(state["defaultCpuSet"]) and not _was_refused_last(sequence, refused):
        count.disagreements.append(
            f"{_describe_sequence(sequence)}: defaultCpuSet is {state['defaultCpuSet']}, expected {format_cpuset(shared)}"
        )


def _was_refused_last(sequence: PodSequence, refused: dict[str, str]) -> bool:
    """The kubelet frees what a refused pod got only when it admits the next one."""
    return sequence.pods[-1].name in refused


def _count(sequence: PodSequence, pod: Pod, expected: Admission, real: Admission, count: Count, context: str) -> None:
    alike = expected.refused == real.refused and expected.cpus == real.cpus
    if not expected.certain:
        same_kind = (expected.refused is None) == (real.refused is None)
        same_sizes = {c: len(cpus) for c, cpus in expected.cpus.items()} == {
            c: len(cpus) for c, cpus in real.cpus.items()
        }
        if same_kind and same_sizes:
            count.undetermined += 1
            count.undetermined_alike += alike
            return
    if alike:
        kind = "refused" if real.refused else "granted" if real.cpus else "shared"
        setattr(count, kind, getattr(count, kind) + 1)
        return
    count.disagreements.append(
        f"{_describe_sequence(sequence)}, {pod}\n  {context}\n"
        f"  preview: {_describe_admission(expected)}\n  kubelet: {_describe_admission(real)}"
    )


def _describe_admission(admission: Admission) -> str:
    if admission.refused:
        return admission.refused
    return ", ".join(f"{name} {format_cpuset(cpus)}" for name, cpus in admission.cpus.items()) or "shared pool"


def _describe_sequence(sequence: PodSequence) -> str:
    options = ", ".join(sequence.options) or "no options"
    alignment = f"{sequence.policy} per {sequence.scope}"
    reserved = format_cpuset(sequence.reserved)
    return f"seed {sequence.seed} on {sequence.machine}, reserved {reserved}, {options}, {alignment}"


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


def run(versions: Sequence[Version], names: Sequence[str], sequences: int, seed: int) -> int:
    """Compares `sequences` sequences per version, spread over the machines; prints a table; 1 on any disagreement."""
    unknown = [name for name in names if name not in machines.NAMES]
    if unknown:
        raise SandboxError(f"machine {', '.join(unknown)} is unknown: expected {', '.join(machines.NAMES)}.")
    per_machine = -(-sequences // len(names))
    disagreements = 0
    with machines.node_with(names, versions, NODE) as (node, topologies):
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
                ):
                    setattr(total, column, getattr(total, column) + getattr(count, column))
                total.disagreements += count.disagreements
            _print_row(str(version), "all", total, None)
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
