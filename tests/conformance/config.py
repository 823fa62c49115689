# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubepin predicts for kubelet configurations and state files against what real kubelets do with them."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import seal_of
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import checksum_of
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    default_machine,
    memory_checksum_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    cpu_state_refusal,
    memory_state_refusal,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import effective_config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode_value
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    DROP_IN_MINOR,
    KNOWN_SINCE,
    MANAGED,
    as_flags,
    setting_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.values import value_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import desired_state
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import PROFILES

from sandbox.settings import Version
from tests.conformance import machines
from tests.conformance.standalone_kubelet import Job, Place, Result, StandaloneNode, base_config

MACHINES = ("one-socket", "epyc-7773x-nps4", "epyc-7773x-l3-as-numa", "four-sockets", "memory-only-node")
OPTIONS = (
    "full-pcpus-only",
    "distribute-cpus-across-numa",
    "align-by-socket",
    "distribute-cpus-across-cores",
    "strict-cpu-reservation",
    "prefer-align-cpus-by-uncorecache",
    "no-such-option",
)
GATES: Mapping[str, tuple[int, int]] = {
    "CPUManagerPolicyOptions": (22, 32),
    "CPUManagerPolicyAlphaOptions": (23, 99),
    "CPUManagerPolicyBetaOptions": (23, 99),
    "MemoryManager": (21, 31),
    "PodLevelResourceManagers": (36, 99),
}
"""The minor versions of 1.x that know a feature gate, and let it be set."""
PROFILE_SHARE = 0.2
"""How many of the cases have the settings that kubepin chooses for a profile."""
RESERVED = ("kubeReserved", "systemReserved")
FLAGS_SHARE = 0.6
"""How many of the cases have kubepin's settings as flags, as kubepin puts them for kubelets before 1.30."""
_QUANTITY = r"quantit|[Rr]eserved|[Ee]viction|total amount"
_OPTION = r"[Oo]ption|PolicyOptions"
_MEMORY = r"[Mm]emory ?[Mm]anager|reserved memory|reservedMemory|total amount|NUMA node"
_UNKNOWN_FLAG = r"unknown flag"
_DAMAGED = r"corrupted|checkpoint|could not restore state|invalid character|unexpected end"
_OTHER_POLICY = r"differs from state checkpoint policy"
CAUSES: Mapping[str, str] = {
    "cpu_manager_policy_unknown": r"[Uu]nknown (cpu manager )?policy|CPU Manager policy",
    "no_cpu_reserved": r"requires systemreserved\.cpu|unable to determine reserved CPU",
    "reserved_cpus_with_cgroup": r"can't use reservedSystemCPUs",
    "reserved_cpus_invalid": r"reserved|cpuset|CPU set",
    "reserved_cpus_offline": r"reserved|cpuset|CPU set",
    "reserved_cpus_too_high": r"reserved|cpuset|CPU set",
    "policy_options_without_static": rf"{_OPTION}|{_UNKNOWN_FLAG}",
    "policy_option_unknown": rf"{_OPTION}|{_UNKNOWN_FLAG}",
    "policy_option_invalid": _OPTION,
    "policy_options_exclusive": _OPTION,
    "align_by_socket_sockets": _OPTION,
    "policy_option_too_new": rf"{_OPTION}|{_UNKNOWN_FLAG}",
    "policy_option_gate": rf"{_OPTION}|feature gate",
    "topology_manager_policy_unknown": r"unknown policy|invalid configuration: topologyManagerPolicy|Topology.*Policy",
    "topology_manager_scope_unknown": r"unknown scope|topologyManagerScope",
    "too_many_numa_nodes": r"more than \d+ NUMA",
    "memory_manager_policy_unknown": rf"{_MEMORY}|[Uu]nknown policy",
    "memory_manager_too_new": rf"{_MEMORY}|{_UNKNOWN_FLAG}",
    "memory_manager_gate": rf"{_MEMORY}|feature gate",
    "reserved_memory_unknown_node": _MEMORY,
    "reserved_memory_zero": _MEMORY,
    "reserved_memory_invalid": rf"{_MEMORY}|{_QUANTITY}",
    "reserved_memory_missing": _MEMORY,
    "reserved_memory_sum": _MEMORY,
    "reserved_memory_huge_pages": _MEMORY,
    "eviction_hard_invalid": r"eviction|total amount",
    "eviction_hard_percentage": rf"eviction|{_MEMORY}",
    "config_invalid": r"strict decoding|unmarshal|decode|no kind|Kind",
    "cpu_state_unreadable": _DAMAGED,
    "cpu_state_corrupted": _DAMAGED,
    "cpu_state_other_policy": _OTHER_POLICY,
    "reserved_cpus_outside_shared_pool": r"not all reserved cpus",
    "strictly_reserved_cpus_in_shared_pool": r"strictly reserved",
    "other_cpus": r"current set of available",
    "exclusive_cpus_in_shared_pool": r"overlaps with default",
    "shared_pool_empty": r"cpuset cannot be empty",
    "memory_state_unreadable": _DAMAGED,
    "memory_state_corrupted": _DAMAGED,
    "memory_state_other_policy": _OTHER_POLICY,
    "machine_state_empty": r"machine state can not be empty",
    "memory_unknown_to_machine": r"memory assignment uses",
    "other_machine_state": r"expected machine state",
}
"""Code of a problem, or of the refusal of a state file -> what a kubelet's line must match to have the same cause."""
AT_THE_FIRST_POD = ("numa_node_number",)
"""Codes of problems that end a kubelet only when it gets a pod; these kubelets get none."""


@dataclass(frozen=True)
class Case:
    """A configuration and state files; the seed makes the same again."""

    seed: str
    machine: str
    config: Mapping[str, Any]
    flags: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """What kubepin expects: pairs of code and text, and none if the kubelet would start."""

    problems: list[tuple[str, str]]


@dataclass
class Count:
    """What came of the cases of one kubelet version."""

    cases: int = 0
    start: int = 0
    fail: int = 0
    disagreements: list[str] = field(default_factory=list)


def draw(seed: str, version: Version, topologies: Mapping[str, Topology]) -> Case:
    """A case at random, but always the same for a seed: about half of them sound, the others wrong in one or more ways."""
    dice = random.Random(seed)
    machine = dice.choice(list(topologies))
    topology = topologies[machine]
    cpus = topology.online

    def maybe(chance: float, *values: Any) -> Any:
        return dice.choice(values) if dice.random() < chance else None

    config: dict[str, Any] = {
        "cpuManagerPolicy": dice.choice(("static",) * 12 + ("none",) * 4 + ("Static", "dynamic")),
        "reservedSystemCPUs": maybe(0.75, "0", "0", "0-1", "1-3", "0,16", "2", "9999", f"0,{max(cpus) + 1}", "0-", "a"),
        "kubeReserved": maybe(
            0.25, {"cpu": "500m"}, {"cpu": "1"}, {"memory": "1Gi"}, {"cpu": "2500m", "memory": "200Mi"}
        ),
        "systemReserved": maybe(
            0.25, {"cpu": "250m"}, {"cpu": "1", "memory": "100Mi"}, {"memory": "500Mi"}, {"cpu": "0"}
        ),
        "kubeReservedCgroup": maybe(0.06, "/kube"),
        "systemReservedCgroup": maybe(0.06, "/system"),
        "topologyManagerPolicy": maybe(0.3, "none", "best-effort", "restricted", "single-numa-node", "numa"),
        "topologyManagerScope": maybe(0.15, "container", "pod", "node"),
        "memoryManagerPolicy": maybe(0.25, "None", "Static", "Static", "Static", "static"),
    }
    if dice.random() < 0.35:
        chosen = dice.sample(OPTIONS[:-1], dice.choice((1, 1, 1, 2))) if dice.random() < 0.93 else [OPTIONS[-1]]
        options = {name: dice.choice(("true",) * 8 + ("false", "yes", "True", "1")) for name in chosen}
        config["cpuManagerPolicyOptions"] = options
    gates = {
        name: dice.random() < 0.7
        for name, (since, until) in GATES.items()
        if since <= version.minor <= until and dice.random() < 0.5
    }
    config["featureGates"] = _settable(gates, version.minor) or None
    if config["memoryManagerPolicy"] == "Static" or dice.random() < 0.05:
        config.update(_draw_memory(dice, config, topology))
    if dice.random() < PROFILE_SHARE:
        config.update(_draw_profile(dice, config, topology, version))
    if version.minor in (21, 22) and not gates.get("MemoryManager", version.minor == 22):
        for name in ("memoryManagerPolicy", "reservedMemory"):  # without effect, whatever they say
            config[name] = None
    config = {name: value for name, value in config.items() if value is not None or name == "evictionHard"}
    flagged = dice.random() < FLAGS_SHARE and version.minor < DROP_IN_MINOR
    for name in [name for name in config if version.minor < KNOWN_SINCE.get(name, 0)]:
        if not flagged or config[name] == "None":  # ignored in a file, and the default is not written as a flag
            del config[name]
    flags = {name: config.pop(name) for name in MANAGED if flagged and name in config}
    return Case(seed, machine, config, flags, _draw_files(dice, {**config, **flags}, topology, version.minor))


def _draw_profile(
    dice: random.Random, config: Mapping[str, Any], topology: Topology, version: Version
) -> dict[str, Any]:
    """A sound start, and what kubepin makes of it for a profile. What it refuses remains as it was drawn."""
    started: dict[str, Any] = {
        **{name: {"memory": dice.choice(("1Gi", "1500M", "999999937", "7", "0"))} for name in RESERVED},
        **dict.fromkeys((*MANAGED, *(f"{name}Cgroup" for name in RESERVED)), None),
        "cpuManagerPolicy": "static",
        "evictionHard": dice.choice(({"memory.available": "100Mi"}, {"memory.available": "1234567"}, None)),
    }
    base = {name: value for name, value in {**config, **started}.items() if value is not None}
    now, _sources = effective_config("config", base, [], ["kubelet"])
    desired = DesiredSettings("static", profile=dice.choice(PROFILES))
    chosen = choose_settings(topology, now, str(version), desired)
    return {**started, **({} if chosen.problems else chosen.settings)}


def _settable(gates: dict[str, bool], minor: int) -> dict[str, bool]:
    """GA gates are locked to true, the memory manager's from 1.32 and the policy options' from 1.33."""
    return {name: on for name, on in gates.items() if on or minor < GATES[name][1]}


def _draw_memory(dice: random.Random, config: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """reservedMemory whose sum is right more often than not; an evictionHard of null stands for the kubelet's own."""
    mib = {"1Gi": 1024, "200Mi": 200, "100Mi": 100, "500Mi": 500}
    reserved = [(config.get(name) or {}).get("memory") for name in ("kubeReserved", "systemReserved")]
    hard = dice.choice([{"memory.available": text} for text in ("100Mi", "100Mi", "0", "0%", "5%")] + [{}, None, None])
    total = sum(mib[text] for text in reserved if text)
    total += 100 if hard is None or hard.get("memory.available") == "100Mi" else 0
    total += dice.choice((0, 0, 0, 0, 1, -1))
    nodes = [node.id for node in topology.numa_nodes]
    if len(nodes) > 1 and dice.random() < 0.4 and total > 1:
        entries = [(nodes[0], total // 2), (nodes[1], total - total // 2)]
    else:
        entries = [(dice.choice((nodes[0],) * 5 + (99,)), total)]
    listed: list[dict[str, Any]] = [
        {"numaNode": node, "limits": {"memory": f"{amount}Mi"}} for node, amount in entries if amount >= 0
    ]
    if listed and dice.random() < 0.1:
        listed[0]["limits"]["hugepages-2Mi"] = "4Mi"
    memory: dict[str, Any] = {"reservedMemory": listed} if dice.random() < 0.9 else {}
    return {**memory, "evictionHard": hard}


def _draw_files(dice: random.Random, config: Mapping[str, Any], topology: Topology, minor: int) -> dict[str, str]:
    files: dict[str, str] = {}
    if dice.random() < 0.6:
        files["cpu_manager_state"] = _draw_cpu_state(dice, config, topology.online, minor)
    if minor >= MEMORY_MANAGER_MINOR:
        if config.get("memoryManagerPolicy") == "Static" and dice.random() < 0.6:
            files["memory_manager_state"] = _draw_memory_state(dice, config, topology, minor)
        elif dice.random() < 0.15:
            files["memory_manager_state"] = dice.choice((NONE_MEMORY_STATE, NONE_MEMORY_STATE[:20], ""))
    return files


def _draw_format(
    dice: random.Random,
    minor: int,
    content: Mapping[str, Any],
    pods: Mapping[str, Any],
    sums: tuple[int, int],
    fault: str,
) -> str:
    """A state file as a kubelet of this or another version would have written it.

    :param content: all fields but `podEntries` and the checksums
    :param pods: `podEntries`
    :param sums: the checksum of the content without and with `podEntries`
    :param fault: "corrupt" and "zero" give it a wrong checksum or 0
    """
    kinds = ("plain",) * 3 + ("pods",) * 2 + ("sealed",) * 5 + ("seal broken", "seal 0", "data cut off", "no data")
    kind = dice.choice(kinds) if minor >= NEWER_FORMATS else "plain"
    wrong = fault == "corrupt"
    if kind == "pods":
        state = {**content, "podEntries": pods, "checksum": 0 if fault == "zero" else sums[1] + wrong}
    else:
        state = {**content, "checksum": 0 if fault == "zero" else sums[0] + (wrong and kind != "sealed")}
    if kind not in ("plain", "pods"):
        data = json.dumps({**content, "podEntries": pods}, separators=(",", ":"))
        data = {"no data": "", "data cut off": data[:-2]}.get(kind, data)
        unsealed = kind in ("seal 0", "no data")
        state = {
            **state,
            "data": data,
            "dataChecksum": 0 if unsealed else seal_of(data) + (wrong or kind == "seal broken"),
        }
    return json.dumps(state, separators=(",", ":"))


MEMORY_MANAGER_MINOR = 21
NEWER_FORMATS = 36
"""The first minor version of 1.x that knows other state files than 1.20, or is the target of a step back from one."""
NONE_MEMORY_STATE = '{"policyName":"None","machineState":{},"checksum":4236770233}'


def _draw_memory_state(dice: random.Random, config: Mapping[str, Any], topology: Topology, minor: int) -> str:
    """A file as the static policy writes it, more often than not for this machine and reservation."""
    kind = dice.choice(
        ("same",) * 6 + ("corrupt", "zero", "memory", "reserved", "pod", "unknown pod", "absent node", "empty")
    )
    reserved = config.get("reservedMemory") or []
    if kind == "reserved":
        reserved = [{"numaNode": 0, "limits": {"memory": "3Gi"}}]
    memory = {node.id: dict(node.memory) for node in topology.numa_nodes}
    if kind == "memory":
        memory[max(memory)]["memory"] -= 4096
    machine, entries = default_machine(memory, reserved), {}
    if kind in ("pod", "unknown pod", "absent node"):
        node, size = machine["0"], 2**28
        block = {"numaAffinity": [99 if kind == "absent node" else 0], "type": "memory", "size": size}
        entries = {"uid-1": {"c": [block]}}
        if kind == "pod":
            node["numberOfAssignments"] += 1
            node["memoryMap"]["memory"]["reserved"] += size
            node["memoryMap"]["memory"]["free"] -= size
    if kind == "empty":
        machine = {}
    state: dict[str, Any] = {"policyName": "Static", "machineState": machine, "entries": entries}
    pods: dict[str, Any] = {}
    if minor >= NEWER_FORMATS and entries and dice.random() < 0.4:
        pods = {"uid-1": {"memoryBlocks": dice.choice((entries["uid-1"]["c"], []))}}
    sums = [memory_checksum_of("Static", machine, entries, with_pods) for with_pods in (None, pods)]
    return _draw_format(dice, minor, state, pods, (sums[0], sums[1]), kind)


def _draw_cpu_state(dice: random.Random, config: Mapping[str, Any], cpus: frozenset[int], minor: int) -> str:
    kind = dice.choice(("same",) * 8 + ("other policy", "corrupt", "truncated", "empty", "stale", "overlap", "odd"))
    policy = str(config["cpuManagerPolicy"])
    default, entries = cpus if policy == "static" else frozenset(), {}
    if kind == "truncated":
        return '{"policyName":"static","defaultCpuSet":"0-'
    if kind == "empty":
        return ""
    if kind == "odd":
        return dice.choice(("{}", "[]", '"static"', '{"policyName":"static","defaultCpuSet":"x","checksum":0}', "null"))
    if kind == "other policy":
        policy = "none" if policy == "static" else "static"
        default = cpus if policy == "static" else frozenset()
    if kind == "stale":
        default = frozenset(sorted(cpus)[: len(cpus) // 2])
    if policy == "static" and dice.random() < 0.6:
        taken = frozenset(dice.sample(sorted(cpus), 4))
        entries = {"uid-1": {"c": format_cpuset(taken)}}
        default = default if kind == "overlap" else default - taken
    if (config.get("cpuManagerPolicyOptions") or {}).get("strict-cpu-reservation") == "true" and dice.random() < 0.6:
        default -= frozenset({0})
    pods = {}
    if minor >= NEWER_FORMATS and entries and dice.random() < 0.3:
        pods = {"uid-2": format_cpuset(dice.sample(sorted(default), min(2, len(default))))}
        default -= parse_cpuset(pods["uid-2"])
    text = format_cpuset(default)
    state: dict[str, Any] = {"policyName": policy, "defaultCpuSet": text, **({"entries": entries} if entries else {})}
    sums = checksum_of(policy, text, entries), checksum_of(policy, text, entries, pods)
    fault = "zero" if dice.random() < 0.1 else kind
    return _draw_format(dice, minor, state, {uid: {"cpuSet": cpus} for uid, cpus in pods.items()}, sums, fault)


def whole_config(case: Case, version: Version) -> dict[str, Any]:
    """The configuration file of a case."""
    return {**base_config(version), **case.config}


def predict(case: Case, version: Version, topology: Topology) -> Prediction:
    """What kubepin's own functions say about a case."""
    config = whole_config(case, version)
    fields, found = decode_value(config, "config", str(version))
    after, _sources = effective_config("config", fields, [], ["kubelet", *as_flags(case.flags)])
    found += value_problems(after, str(version)) or setting_problems(after, str(version), topology)
    found = [problem for problem in found if not problem.waivable and problem.code not in AT_THE_FIRST_POD]
    problems = [(problem.code, problem.text) for problem in found]
    if not problems:
        expected = desired_state(topology, after, str(version))
        refusals = {
            "cpu_manager_state": cpu_state_refusal(case.files.get("cpu_manager_state"), expected),
            "memory_manager_state": memory_state_refusal(case.files.get("memory_manager_state"), expected),
        }
        problems = [(one.code, f"{file}: {one.reason}") for file, one in refusals.items() if one]
    return Prediction(problems)


def compare(case: Case, expected: Prediction, result: Result, count: Count) -> None:
    """Counts a case, as an agreement if the kubelet starts or fails as expected, and for an expected cause."""
    count.cases += 1
    starts = result.exit is None
    cause = None if starts else first_cause(result.log.splitlines())
    if starts and not expected.problems:
        count.start += 1
    elif (
        not starts
        and cause
        and cause.meaning
        and any(code in CAUSES and re.search(CAUSES[code], cause.line) for code, _text in expected.problems)
    ):
        count.fail += 1
    else:
        real = "starts" if starts else f"exit {result.exit}: {cause.line if cause else 'no log'}"
        meaning = "" if starts or not cause else f"\n  known as: {cause.meaning or 'NOT KNOWN'}"
        count.disagreements.append(
            f"seed {case.seed} on {case.machine}\n  config: {json.dumps(case.config)}\n"
            f"  flags: {' '.join(as_flags(case.flags))}\n  files: {json.dumps(case.files)}\n"
            f"  kubepin: {'; '.join(text for _code, text in expected.problems) or 'would start'}\n  kubelet: {real[:700]}{meaning}"
        )


def compare_version(
    node: StandaloneNode, version: Version, topologies: Mapping[str, Topology], number: int, seed: int
) -> Iterator[Count]:
    """The count so far, after each machine's cases."""
    count = Count()
    cases = [draw(f"{seed}-{version}-{n}", version, topologies) for n in range(number)]
    for name, topology in topologies.items():
        by_seed = {case.seed: case for case in cases if case.machine == name}
        jobs = [Job(c.seed, whole_config(c, version), flags=as_flags(c.flags), files=c.files) for c in by_seed.values()]
        for result in node.run(version, jobs, tree=name):
            case = by_seed[result.id]
            try:
                expected = predict(case, version, topology)
            except Exception as error:
                expected = Prediction([("crashed", f"CRASHED with {type(error).__name__}: {error}")])
            compare(case, expected, result, count)
        yield count


def run(versions: Sequence[Version], number: int, seed: int, place: Place) -> int:
    """Compares `number` cases per version; prints a table; 1 on any disagreement."""
    disagreements = 0
    with machines.node_with(tuple(MACHINES), versions, place) as (node, topologies):
        print(f"{'kubelet':<10} {'cases':>6} {'start':>6} {'fail':>6} {'disagree':>9} {'seconds':>8}")
        for version in versions:
            started = time.monotonic()
            count = Count()
            for count in compare_version(node, version, topologies, number, seed):
                print(f"{version}: {count.cases} of {number} cases done", end="\r", flush=True)
            print(
                f"{version!s:<10} {count.cases:>6} {count.start:>6} {count.fail:>6} {len(count.disagreements):>9} "
                f"{time.monotonic() - started:>8.0f}",
                flush=True,
            )
            for text in count.disagreements:
                print(f"disagreement: {text}", flush=True)
            disagreements += len(count.disagreements)
    return 1 if disagreements else 0
