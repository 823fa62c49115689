# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the kubelet settings that kubepin manages, the rules for them, and how they are written."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import is_on
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FLAGS
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import BROKEN
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology

Settings = t.Dict[str, t.Any]
"""KubeletConfiguration field -> desired value; an absent field stays unchanged."""

MANAGED = (
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "reservedSystemCPUs",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "memoryManagerPolicy",
    "reservedMemory",
)
"""The fields that kubepin writes, in the order in which it writes them."""

ADMITS_BY = (
    *MANAGED,
    "topologyManagerPolicyOptions",
    "kubeReserved",
    "systemReserved",
    "evictionHard",
    "featureGates",
)
"""The fields that decide which pods the kubelet admits, as far as that is previewed."""

KNOWN_SINCE = {"cpuManagerPolicyOptions": 22, "memoryManagerPolicy": 21, "reservedMemory": 21}
"""The minor versions of 1.x that introduced the newer fields; an older kubelet does not start with such a flag."""

_FLAG_OF = {field: flag for flag, (field, _kind) in FLAGS.items()}

CPU_POLICIES = ("none", "static")
TOPOLOGY_POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
TOPOLOGY_SCOPES = ("container", "pod")
MEMORY_POLICIES = ("None", "Static")
OLDEST_MINOR = 20
DROP_IN_MINOR = 30
MAX_NUMA_NUMBER = 63
"""A NUMA node with a higher number has no bit in the topology manager's mask. The kubelet 1.36 starts all the same, and
panics when it admits a pod (pkg/kubelet/cm/topologymanager/bitmask/bitmask.go Add)."""
MAX_NUMA_NODES = 8

# what Go's strconv.ParseBool takes
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


@dataclass(frozen=True)
class _Option:
    """The minor versions of 1.x in which a CPU manager policy option is alpha, beta and GA."""

    alpha: int
    beta: t.Optional[int] = None
    ga: t.Optional[int] = None


# pkg/kubelet/cm/cpumanager/policy_options.go and the KEPs 2625, 2902, 4176, 4540, 4800
BY_UNCORE_CACHE = "prefer-align-cpus-by-uncorecache"
_OPTIONS: t.Dict[str, _Option] = {
    "full-pcpus-only": _Option(22, 23, 33),
    "distribute-cpus-across-numa": _Option(23, 33),
    "align-by-socket": _Option(25),
    "distribute-cpus-across-cores": _Option(31),
    "strict-cpu-reservation": _Option(32, 33, 35),
    BY_UNCORE_CACHE: _Option(32, 34, 36),
}
_MAX_NUMA = "max-allowable-numa-nodes"
# pkg/kubelet/cm/topologymanager/policy_options.go
_TOPOLOGY_OPTIONS: t.Dict[str, _Option] = {
    "prefer-closest-numa-nodes": _Option(26, 28, 32),
    _MAX_NUMA: _Option(31, 31, 35),
}
_TOPOLOGY_OPTIONS_SINCE = 26
_EXCLUSIVE = (
    ("full-pcpus-only", "distribute-cpus-across-cores"),
    ("distribute-cpus-across-numa", "distribute-cpus-across-cores"),
    (BY_UNCORE_CACHE, "distribute-cpus-across-cores"),
    (BY_UNCORE_CACHE, "distribute-cpus-across-numa"),
)


def minor_of(version: str) -> int:
    """22 of ``1.22.17``.

    :raises ValueError: if the text is not a Kubernetes 1.x version
    """
    parts = version.lstrip("v").split(".")
    if len(parts) < 2 or parts[0] != "1" or not parts[1].isdigit():
        raise ValueError(f'kubelet version is "{version}": expected 1.MINOR.PATCH')
    return int(parts[1])


def aligns_whole_pods(config: t.Mapping[str, t.Any]) -> bool:
    """Whether the topology manager aligns pods as a whole: scope ``pod``, and a policy other than ``none``, which has no
    scope (pkg/kubelet/cm/topologymanager/topology_manager.go NewManager)."""
    policy = config.get("topologyManagerPolicy")
    return config.get("topologyManagerScope") == "pod" and policy not in (None, "", "none")


def takes_whole_cores(config: t.Mapping[str, t.Any]) -> bool:
    """Whether the static policy refuses pods that do not fill their cores: ``full-pcpus-only``."""
    options = config.get("cpuManagerPolicyOptions") or {}
    return str(options.get("full-pcpus-only", "false")).lower() == "true"


def options_on(options: t.Optional[t.Mapping[str, object]]) -> t.FrozenSet[str]:
    """The names of the policy options that are true."""
    return frozenset(name for name, value in (options or {}).items() if _BOOLEANS.get(str(value)))


def option_is_available(config: t.Mapping[str, t.Any], name: str, minor: int) -> bool:
    """Whether a kubelet 1.*minor* with the feature gates of *config* takes this policy option."""
    return not _maturity_problems(config, name, _OPTIONS[name], minor)


def is_strict(settings: t.Mapping[str, t.Any]) -> bool:
    """Whether strict-cpu-reservation keeps the reserved CPUs out of the shared pool."""
    return "strict-cpu-reservation" in options_on(settings.get("cpuManagerPolicyOptions"))


def version_problems(version: t.Optional[str]) -> t.List[Problem]:
    """Why kubepin does not switch a kubelet of this version at all."""
    if version is None:
        return [problems.version_unreadable()]
    try:
        minor = minor_of(version)
    except ValueError:
        return [problems.version_not_kubernetes(version)]
    if minor < OLDEST_MINOR:
        return [problems.version_too_old(version, OLDEST_MINOR)]
    return [problems.version_broken(version)] if version in BROKEN else []


def setting_problems(after: t.Mapping[str, t.Any], version: str, topology: Topology) -> t.List[Problem]:
    """Every rule of the kubelet that the configuration *after* the switch would break.

    :param after: the complete effective configuration after the switch, managed fields and others
    """
    minor = minor_of(version)
    return [
        *_cpu_problems(after, minor, topology),
        *_option_problems(after, minor, topology),
        *_topology_problems(after, minor, topology),
        *_eviction_problems(after),
        *_memory_problems(after, minor, topology),
    ]


def _choice(name: str, value: t.Any, choices: t.Sequence[str]) -> t.List[Problem]:
    return [] if value in choices else [problems.unknown_choice(name, value, choices)]


def _cpu_problems(after: t.Mapping[str, t.Any], minor: int, topology: Topology) -> t.List[Problem]:
    found = _choice("cpuManagerPolicy", after["cpuManagerPolicy"], CPU_POLICIES)
    if after.get("reservedSystemCPUs"):
        found += _reserved_problems(after["reservedSystemCPUs"], topology.online, minor)
        # pkg/kubelet/apis/config/validation/validation.go
        found += [
            problems.reserved_with_cgroup(name, after[name], after["reservedSystemCPUs"])
            for name in ("kubeReservedCgroup", "systemReservedCgroup")
            if after.get(name)
        ]
    elif after["cpuManagerPolicy"] == "static" and reserved_millicores(after) <= 0:
        found.append(problems.nothing_reserved())
    return found


def _reserved_problems(reserved: str, online: CpuSet, minor: int) -> t.List[Problem]:
    """cmd/kubelet/app/server.go run(); up to 1.21 it compares the highest CPU number with the number of online CPUs."""
    try:
        absent = parse_cpuset(reserved) - online
    except CpusetError as exc:
        return [problems.reserved_not_a_list(exc)]
    if absent:
        return [problems.reserved_absent(reserved, format_cpuset(absent), format_cpuset(online))]
    if minor < 22 and max(parse_cpuset(reserved)) >= len(online):
        return [problems.reserved_too_high(reserved, len(online), minor)]
    return []


def reserved_millicores(config: t.Mapping[str, t.Any]) -> int:
    """kubeReserved.cpu + systemReserved.cpu in thousandths of a CPU; a value that is not a quantity counts as 0."""
    total = 0
    for name in ("kubeReserved", "systemReserved"):
        try:
            total += int(parse_quantity((config.get(name) or {}).get("cpu", "0")) * 1000)
        except ValueError:
            continue
    return total


def _gate(after: t.Mapping[str, t.Any], name: str, default: bool) -> bool:
    return is_on(after.get("featureGates"), name, default)


def _option_problems(after: t.Mapping[str, t.Any], minor: int, topology: Topology) -> t.List[Problem]:
    options: t.Mapping[str, t.Any] = after.get("cpuManagerPolicyOptions") or {}
    if not options:
        return []
    found: t.List[Problem] = []
    if after["cpuManagerPolicy"] != "static":
        found.append(problems.options_without_static(sorted(options), after["cpuManagerPolicy"]))
    for name, value in sorted(options.items()):
        if name not in _OPTIONS:
            found.append(problems.option_unknown(name, sorted(_OPTIONS)))
            continue
        if str(value) not in _BOOLEANS:
            found.append(problems.option_not_boolean(name, value))
        found += _maturity_problems(after, name, _OPTIONS[name], minor)
    chosen = options_on(options)
    found += [problems.options_exclusive(first, second) for first, second in _EXCLUSIVE if {first, second} <= chosen]
    if "align-by-socket" in chosen:
        if after["topologyManagerPolicy"] == "single-numa-node":
            found.append(problems.align_by_socket_single_numa())
        if len(topology.sockets) > len(topology.numa_nodes) > 0:
            found.append(problems.align_by_socket_sockets())
    return found


def _maturity_problems(after: t.Mapping[str, t.Any], name: str, option: _Option, minor: int) -> t.List[Problem]:
    if minor < option.alpha:
        return [problems.option_too_new(name, option.alpha, minor)]
    if minor == 22:
        return [] if _gate(after, "CPUManagerPolicyOptions", False) else [problems.option_gate_122(name)]
    if option.beta is None or minor < option.beta:
        return [] if _gate(after, "CPUManagerPolicyAlphaOptions", False) else [problems.option_alpha(name, minor)]
    if (option.ga is None or minor < option.ga) and not _gate(after, "CPUManagerPolicyBetaOptions", True):
        return [problems.option_beta(name, minor)]
    return []


def _topology_problems(after: t.Mapping[str, t.Any], minor: int, topology: Topology) -> t.List[Problem]:
    found = _choice("topologyManagerPolicy", after["topologyManagerPolicy"], TOPOLOGY_POLICIES)
    found += _choice("topologyManagerScope", after["topologyManagerScope"], TOPOLOGY_SCOPES)
    nodes = len(topology.numa_nodes)
    options: t.Mapping[str, t.Any] = after.get("topologyManagerPolicyOptions") or {}
    found += _topology_gate_problems(after, options, minor)
    allowed = _allowed_numa_nodes(options, minor)
    if after["topologyManagerPolicy"] != "none" and nodes > allowed:
        # pkg/kubelet/cm/topologymanager/topology_manager.go
        found.append(problems.too_many_numa_nodes(after["topologyManagerPolicy"], nodes, allowed))
    highest = max((node.id for node in topology.numa_nodes), default=0)
    if after["topologyManagerPolicy"] != "none" and highest > MAX_NUMA_NUMBER:
        found.append(problems.numa_node_number(after["topologyManagerPolicy"], highest, MAX_NUMA_NUMBER))
    return found


def _topology_gate_problems(
    after: t.Mapping[str, t.Any], options: t.Mapping[str, t.Any], minor: int
) -> t.List[Problem]:
    """The feature gates of the options: cmd/kubelet/app/server.go run() refuses any without TopologyManagerPolicyOptions
    (alpha in 1.26, beta and on in 1.28, GA in 1.32), and topologymanager/policy_options.go, unless the policy is none,
    those that are not GA without the gate of their maturity (KEP-3545, KEP-4622)."""
    if not options or minor < _TOPOLOGY_OPTIONS_SINCE:
        return []
    if minor < 32 and not _gate(after, "TopologyManagerPolicyOptions", minor >= 28):
        return [problems.topology_options_gate(sorted(options), minor)]
    if after["topologyManagerPolicy"] == "none":
        return []
    return [
        problem
        for name in sorted(options)
        if name in _TOPOLOGY_OPTIONS and minor >= _TOPOLOGY_OPTIONS[name].alpha
        for problem in _topology_maturity_problems(after, name, _TOPOLOGY_OPTIONS[name], minor)
    ]


def _topology_maturity_problems(
    after: t.Mapping[str, t.Any], name: str, option: _Option, minor: int
) -> t.List[Problem]:
    if option.beta is None or minor < option.beta:
        gate = "TopologyManagerPolicyAlphaOptions"
        return [] if _gate(after, gate, False) else [problems.topology_option_gate(name, gate, minor)]
    gate = "TopologyManagerPolicyBetaOptions"
    if (option.ga is None or minor < option.ga) and not _gate(after, gate, minor >= 28):
        return [problems.topology_option_gate(name, gate, minor)]
    return []


def _allowed_numa_nodes(options: t.Mapping[str, t.Any], minor: int) -> int:
    """How many NUMA nodes the topology manager takes; an option that the kubelet does not know, or refuses, counts as
    absent."""
    text = str(options.get(_MAX_NUMA, ""))
    known = minor >= _TOPOLOGY_OPTIONS[_MAX_NUMA].alpha and re.fullmatch(r"\d{1,9}", text, re.ASCII)
    return max(int(text), MAX_NUMA_NODES) if known else MAX_NUMA_NODES


def _eviction_problems(after: t.Mapping[str, t.Any]) -> t.List[Problem]:
    """pkg/kubelet/eviction/helpers.go parseThresholdStatement: a percentage may be 0, a quantity may not."""
    found = []
    for signal, value in sorted((after.get("evictionHard") or {}).items()):
        try:
            positive = str(value).endswith("%") or parse_quantity(value) > 0
        except ValueError as exc:
            found.append(problems.eviction_not_a_quantity(signal, exc))
            continue
        if not positive:
            found.append(problems.eviction_not_positive(signal, value))
    return found


def _memory_problems(after: t.Mapping[str, t.Any], minor: int, topology: Topology) -> t.List[Problem]:
    policy = after["memoryManagerPolicy"]
    reserved = after.get("reservedMemory") or []
    if minor < KNOWN_SINCE["memoryManagerPolicy"]:
        asked = {f"memoryManagerPolicy {policy}": policy != "None", "reservedMemory": bool(reserved)}
        return [problems.memory_too_new(what, minor) for what, is_asked in asked.items() if is_asked]
    found = _choice("memoryManagerPolicy", policy, MEMORY_POLICIES) + _zero_problems(reserved)
    if policy != "Static":
        return found
    if not runs_memory_manager(after, minor):
        found.append(problems.memory_gate(minor))
    known = {node.id for node in topology.numa_nodes}
    found += [
        problems.memory_unknown_node(entry["numaNode"], sorted(known))
        for entry in reserved
        if known and entry["numaNode"] not in known
    ]
    return found + _memory_sum_problems(after, reserved)


def runs_memory_manager(after: t.Mapping[str, t.Any], minor: int) -> bool:
    """Whether the kubelet has a memory manager, and so reads its state file: alpha in 1.21, beta and on by default in
    1.22, GA and always on since 1.32 (pkg/features/kube_features.go)."""
    return minor >= 32 or (minor >= 21 and _gate(after, "MemoryManager", minor >= 22))


def _zero_problems(reserved: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[Problem]:
    """pkg/kubelet/apis/config/validation/validation_reserved_memory.go, whatever the policy."""
    found = []
    for entry in reserved:
        for kind, amount in sorted(entry["limits"].items()):
            try:
                zero = parse_quantity(amount) == 0
            except ValueError:
                continue  # `_memory_sum_problems` reports it
            if zero:
                found.append(problems.memory_zero(entry["numaNode"], kind))
    return found


def _memory_sum_problems(after: t.Mapping[str, t.Any], reserved: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[Problem]:
    """The sum over NUMA nodes must be kubeReserved + systemReserved + evictionHard for each kind of memory (memory-manager.md,
    pkg/kubelet/cm/memorymanager/memory_manager.go validateReservedMemory)."""
    needed, found = memory_to_reserve(after)
    if needed is None:
        return found
    try:
        given = sum(
            (parse_quantity(entry["limits"].get("memory", "0")) for entry in reserved), start=parse_quantity("0")
        )
    except ValueError as exc:
        return [problems.memory_not_a_quantity(exc)]
    found = _huge_page_problems(reserved)
    if needed == given == 0:  # pkg/kubelet/cm/memorymanager/policy_static.go NewPolicyStatic
        return [*found, problems.memory_nothing_reserved()]
    return found if needed == given else [*found, problems.memory_sum(int(given), memory_parts(after), int(needed))]


def _huge_page_problems(reserved: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[Problem]:
    """kubeReserved and systemReserved take no huge pages (cmd/kubelet/app/server.go parseResourceList), so the sum rule
    refuses any in reservedMemory."""
    return [
        problems.memory_huge_pages(entry["numaNode"], kind, amount)
        for entry in reserved
        for kind, amount in sorted(entry["limits"].items())
        if kind != "memory" and not _is_zero(amount)
    ]


def _is_zero(amount: str) -> bool:
    """Whether another rule (`_zero_problems`) reports the amount, or none can read it."""
    try:
        return parse_quantity(amount) == 0
    except ValueError:
        return False


def memory_parts(config: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    """What the kubelet keeps of the node's memory: field -> quantity, as the configuration writes it."""
    parts = {
        "kubeReserved": str(config["kubeReserved"].get("memory", "0")),
        "systemReserved": str(config["systemReserved"].get("memory", "0")),
        "evictionHard": str(config["evictionHard"].get("memory.available", "0")),
    }
    return {**parts, "evictionHard": "0"} if parts["evictionHard"] == "0%" else parts


def memory_to_reserve(config: t.Mapping[str, t.Any]) -> t.Tuple[t.Optional[Fraction], t.List[Problem]]:
    """The bytes that reservedMemory must add up to with the memory manager's policy Static, or why that is not known."""
    parts = memory_parts(config)
    if parts["evictionHard"].endswith("%"):
        return None, [problems.eviction_percentage(parts["evictionHard"])]
    try:
        return sum(map(parse_quantity, parts.values()), start=Fraction(0)), []
    except ValueError as exc:
        return None, [problems.memory_not_a_quantity(exc)]


def flags_of(fields: t.Iterable[str]) -> t.Set[str]:
    """The names of the flags that set these fields."""
    return {_FLAG_OF[field] for field in fields}


def as_flags(settings: t.Mapping[str, t.Any]) -> t.List[str]:
    """The settings as kubelet command line arguments, in a stable order."""
    return [
        f"--{_FLAG_OF[field]}={value}"
        for field in MANAGED
        if field in settings
        for value in _flag_values(field, settings[field])
    ]


def _flag_values(field: str, value: t.Any) -> t.List[str]:
    if field == "cpuManagerPolicyOptions":
        # one option per flag: the flag does not split at commas (NewMapStringStringNoSplit)
        return [f"{name}={state}" for name, state in sorted(value.items())]
    if field == "reservedMemory":
        # one NUMA node per flag: the flag of 1.21 and 1.22 does not split at ";" (pkg/util/flag ReservedMemoryVar)
        return [f"{e['numaNode']}:" + ",".join(f"{k}={v}" for k, v in sorted(e["limits"].items())) for e in value]
    return [str(value)]
