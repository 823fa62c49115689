# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    as_flags,
    setting_problems,
    version_problems,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS, topology

STATIC = {**DEFAULTS, "cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
MEMORY = {
    "memoryManagerPolicy": "Static",
    "kubeReserved": {"memory": "1Gi"},
    "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}],
}
ALPHA = {"featureGates": {"CPUManagerPolicyAlphaOptions": True}}


def options(*names: str) -> dict[str, object]:
    return {"cpuManagerPolicyOptions": dict.fromkeys(names, "true")}


@pytest.mark.parametrize(
    ("version", "after"),
    [
        pytest.param("1.22.17", STATIC, id="static"),
        pytest.param("1.20.15", {**DEFAULTS}, id="none"),
        pytest.param(
            "1.22.17",
            {**STATIC, **options("full-pcpus-only"), "featureGates": {"CPUManagerPolicyOptions": "true"}},
            id="gate on 1.22",
        ),
        pytest.param("1.23.0", {**STATIC, **options("full-pcpus-only")}, id="beta"),
        pytest.param("1.36.3", {**STATIC, **options("full-pcpus-only", "strict-cpu-reservation")}, id="GA, together"),
        pytest.param("1.26.0", {**STATIC, **options("align-by-socket"), **ALPHA}, id="alpha with its gate"),
        pytest.param(
            "1.22.17", {**STATIC, "reservedSystemCPUs": "", "kubeReserved": {"cpu": "500m"}}, id="reserved by amount"
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                "memoryManagerPolicy": "Static",
                "kubeReserved": {"memory": "4Gi"},
                "systemReserved": {"memory": "1Gi"},
                "reservedMemory": [{"numaNode": 0, "limits": {"memory": "5220Mi"}}],
            },
            id="memory sums up, with the default eviction threshold",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, **MEMORY, "evictionHard": {}},
            id="memory sums up, with no eviction threshold at all",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, **MEMORY, "evictionHard": {"memory.available": "0%"}},
            id="memory sums up, with an eviction threshold of 0 %",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, "cpuManagerPolicyOptions": {"full-pcpus-only": "1", "strict-cpu-reservation": "T"}},
            id="what Go takes for true",
        ),
        pytest.param("1.22.17", {**STATIC, "evictionHard": {"memory.available": "0%"}}, id="a percentage may be 0"),
    ],
)
def test_accepted(version: str, after: dict[str, object]) -> None:
    assert setting_problems(after, version, topology()) == []


@pytest.mark.parametrize(
    ("version", "after", "code", "text"),
    [
        pytest.param(
            "1.22.17",
            {**DEFAULTS, "cpuManagerPolicy": "statik"},
            "cpu_manager_policy_unknown",
            'cpuManagerPolicy "statik" is unknown: expected one of none, static.',
            id="policy",
        ),
        pytest.param(
            "1.22.17",
            {**DEFAULTS, "cpuManagerPolicy": "static"},
            "no_cpu_reserved",
            "none is reserved: the kubelet would not start. Set reserved_cpus.",
            id="nothing reserved",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "systemReservedCgroup": "/sys"},
            "reserved_cpus_with_cgroup",
            'systemReservedCgroup "/sys" is refused by the kubelet together with reservedSystemCPUs ("0"). Remove systemReservedCgroup',
            id="reserved cgroup",
        ),
        pytest.param(
            "1.22.17",
            {**DEFAULTS, **options("full-pcpus-only")},
            "policy_options_without_static",
            '(full-pcpus-only) need the policy `static`, and cpuManagerPolicy is "none". Remove the options.',
            id="options without static",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "reservedSystemCPUs": "0-"},
            "reserved_cpus_invalid",
            "reservedSystemCPUs: '0-' is not a CPU list",
            id="reserved CPUs are no list",
        ),
        pytest.param(
            "1.22.17",
            {**DEFAULTS, "reservedSystemCPUs": "0,7"},
            "reserved_cpus_offline",
            'reservedSystemCPUs "0,7" names CPUs that are not online on this machine: 7 (online: 0-1).',
            id="reserved CPUs are absent",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "Static", "featureGates": {"MemoryManager": False}},
            "memory_manager_gate",
            "needs the feature gate MemoryManager on kubelet 1.22. Enable it in the kubelet's featureGates.",
            id="the memory manager switched off",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, "cpuManagerPolicyOptions": {"full-pcpus-only": "yes"}},
            "policy_option_invalid",
            'policy option full-pcpus-only "yes" is invalid: expected true or false.',
            id="what Go takes for nothing",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "evictionHard": {"memory.available": "0"}},
            "eviction_hard_invalid",
            'evictionHard memory.available "0" is invalid: expected more than 0. Use "0%" to switch it off.',
            id="eviction at nothing",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "evictionHard": {"memory.available": "much"}},
            "eviction_hard_invalid",
            'evictionHard memory.available: "much" is not a Kubernetes quantity',
            id="eviction at no quantity",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "reservedMemory": [{"numaNode": 0, "limits": {"memory": "0"}}]},
            "reserved_memory_zero",
            "reservedMemory of NUMA node 0: memory is 0. Remove the entry.",
            id="no memory reserved, whatever the policy",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, **options("no-such")},
            "policy_option_unknown",
            "policy option no-such is unknown: expected one of align-by-socket, distribute-cpus-across-cores",
            id="unknown option",
        ),
        pytest.param(
            "1.23.0",
            {**STATIC, "cpuManagerPolicyOptions": {"full-pcpus-only": "yes"}},
            "policy_option_invalid",
            'full-pcpus-only "yes" is invalid: expected true or false.',
            id="option's value",
        ),
        pytest.param(
            "1.21.14",
            {**STATIC, **options("full-pcpus-only")},
            "policy_option_too_new",
            "needs kubelet 1.22, and this one is 1.21. Remove the option, or upgrade.",
            id="option too new",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, **options("full-pcpus-only")},
            "policy_option_gate",
            "needs the feature gate CPUManagerPolicyOptions on kubelet 1.22. Enable it in the kubelet's featureGates, or upgrade.",
            id="1.22's gate",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, **options("align-by-socket")},
            "policy_option_gate",
            "is alpha in 1.36 and needs the feature gate CPUManagerPolicyAlphaOptions. Enable it",
            id="alpha gate",
        ),
        pytest.param(
            "1.23.0",
            {**STATIC, **options("full-pcpus-only"), "featureGates": {"CPUManagerPolicyBetaOptions": "false"}},
            "policy_option_gate",
            "is beta in 1.23, and the feature gate CPUManagerPolicyBetaOptions is off on this node. Enable it",
            id="beta gate off",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, **options("distribute-cpus-across-numa", "prefer-align-cpus-by-uncorecache")},
            "policy_options_exclusive",
            "prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa exclude each other. Remove one of them.",
            id="options that exclude each other",
        ),
        pytest.param(
            "1.26.0",
            {**STATIC, **options("align-by-socket"), **ALPHA, "topologyManagerPolicy": "single-numa-node"},
            "policy_options_exclusive",
            "cannot be used with topologyManagerPolicy single-numa-node. Remove one of them.",
            id="align-by-socket and single-numa-node",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "topologyManagerScope": "node"},
            "topology_manager_scope_unknown",
            'topologyManagerScope "node" is unknown: expected one of container, pod.',
            id="scope",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "topologyManagerPolicy": "all"},
            "topology_manager_policy_unknown",
            'topologyManagerPolicy "all" is unknown: expected one of none, best-effort, restricted, single-numa-node.',
            id="topology policy",
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                **MEMORY,
                "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-2Mi": "64Mi"}}],
            },
            "reserved_memory_huge_pages",
            "reservedMemory of NUMA node 0: hugepages-2Mi 64Mi is refused",
            id="huge pages, which nothing else reserves",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "static"},
            "memory_manager_policy_unknown",
            'memoryManagerPolicy "static" is unknown: expected one of None, Static.',
            id="case",
        ),
        pytest.param(
            "1.20.15",
            {**STATIC, "memoryManagerPolicy": "Static"},
            "memory_manager_too_new",
            "memoryManagerPolicy Static needs kubelet 1.21, and this one is 1.20. Remove the setting",
            id="memory manager too new",
        ),
        pytest.param(
            "1.20.15",
            {**STATIC, "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}]},
            "memory_manager_too_new",
            "reservedMemory needs kubelet 1.21",
            id="reserved memory too new",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, "memoryManagerPolicy": "Static", "evictionHard": {}},
            "reserved_memory_missing",
            "Static needs memory to reserve, but kubeReserved, systemReserved and the evictionHard threshold memory.available are 0",
            id="no memory reserved at all",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, **MEMORY},
            "reserved_memory_sum",
            "+ evictionHard 100Mi",
            id="memory without the default threshold",
        ),
        pytest.param(
            "1.21.14",
            {**STATIC, "memoryManagerPolicy": "Static"},
            "memory_manager_gate",
            "needs the feature gate MemoryManager on kubelet 1.21.",
            id="memory manager's gate",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "Static"},
            "reserved_memory_sum",
            "sums up to 0 bytes",
            id="no reserved memory",
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                "memoryManagerPolicy": "Static",
                "reservedMemory": [{"numaNode": 3, "limits": {"memory": "100Mi"}}],
            },
            "reserved_memory_unknown_node",
            "reservedMemory of NUMA node 3 names a NUMA node that this machine does not have (it has 0).",
            id="absent NUMA node",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "Static", "evictionHard": {"memory.available": "5%"}},
            "eviction_hard_percentage",
            'evictionHard memory.available "5%" is a percentage, and memoryManagerPolicy Static needs a quantity. Write it',
            id="eviction in percent",
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                "memoryManagerPolicy": "Static",
                "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1 Gi"}}],
            },
            "reserved_memory_invalid",
            '"1 Gi" is not a Kubernetes quantity',
            id="no quantity",
        ),
    ],
)
def test_refused(version: str, after: dict[str, object], code: str, text: str) -> None:
    problems = setting_problems(after, version, topology())
    assert any(problem.code == code and text in problem.text for problem in problems), problems


def test_topology_manager_refuses_more_than_eight_numa_nodes() -> None:
    machine = topology(cores=16, numa_nodes=16)
    [problem] = setting_problems({**STATIC, "topologyManagerPolicy": "restricted"}, "1.22.17", machine)
    assert problem.code == "too_many_numa_nodes"
    assert (
        'topologyManagerPolicy "restricted" is refused by the kubelet on 16 NUMA nodes (at most 8). Use none'
        in problem.text
    )
    lifted = {
        **STATIC,
        "topologyManagerPolicy": "restricted",
        "topologyManagerPolicyOptions": {"max-allowable-numa-nodes": "16"},
    }
    assert setting_problems(lifted, "1.36.3", machine) == []


def test_a_numa_node_above_63_rules_out_every_topology_policy_but_none() -> None:
    machine = topology(cores=16, numa_nodes=2)
    sparse = replace(machine, numa_nodes=tuple(replace(node, id=node.id * 72) for node in machine.numa_nodes))
    [problem] = setting_problems({**STATIC, "topologyManagerPolicy": "best-effort"}, "1.36.3", sparse)
    assert problem.code == "numa_node_number"
    assert "NUMA node 72 (the highest number that it can use is 63). Use none on this machine." in problem.text
    assert setting_problems(STATIC, "1.36.3", sparse) == []


BEST_EFFORT = {**STATIC, "topologyManagerPolicy": "best-effort"}
CLOSEST = {"topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "true"}}
MANY = {"topologyManagerPolicyOptions": {"max-allowable-numa-nodes": "16"}}


def topology_gates(**gates: bool) -> dict[str, object]:
    return {"featureGates": {f"TopologyManagerPolicy{name}": value for name, value in gates.items()}}


@pytest.mark.parametrize(
    ("version", "after"),
    [
        pytest.param("1.25.16", {**BEST_EFFORT, **CLOSEST}, id="a kubelet that does not read them"),
        pytest.param(
            "1.27.16",
            {**BEST_EFFORT, **CLOSEST, **topology_gates(Options=True, AlphaOptions=True)},
            id="alpha, gates on",
        ),
        pytest.param("1.28.15", {**BEST_EFFORT, **CLOSEST}, id="beta"),
        pytest.param("1.32.0", {**BEST_EFFORT, **CLOSEST, **topology_gates(Options=False, BetaOptions=False)}, id="GA"),
        pytest.param(
            "1.31.4", {**STATIC, **MANY, **topology_gates(BetaOptions=False)}, id="not read with the policy none"
        ),
        pytest.param("1.35.0", {**BEST_EFFORT, **MANY, **topology_gates(BetaOptions=False)}, id="GA, the other one"),
    ],
)
def test_topology_manager_options_are_accepted(version: str, after: dict[str, object]) -> None:
    assert setting_problems(after, version, topology()) == []


@pytest.mark.parametrize(
    ("version", "after", "text"),
    [
        pytest.param(
            "1.27.16",
            {**STATIC, **CLOSEST},
            "(prefer-closest-numa-nodes) need the feature gate TopologyManagerPolicyOptions on kubelet 1.27, with any policy.",
            id="before the options were on, even with the policy none",
        ),
        pytest.param(
            "1.31.4",
            {**BEST_EFFORT, **MANY, **topology_gates(Options=False)},
            "(max-allowable-numa-nodes) need the feature gate TopologyManagerPolicyOptions on kubelet 1.31",
            id="switched off",
        ),
        pytest.param(
            "1.27.16",
            {**BEST_EFFORT, **CLOSEST, **topology_gates(Options=True)},
            "prefer-closest-numa-nodes needs the feature gate TopologyManagerPolicyAlphaOptions on kubelet 1.27.",
            id="alpha",
        ),
        pytest.param(
            "1.34.2",
            {**BEST_EFFORT, **MANY, **topology_gates(BetaOptions=False)},
            "max-allowable-numa-nodes needs the feature gate TopologyManagerPolicyBetaOptions on kubelet 1.34.",
            id="beta, switched off",
        ),
    ],
)
def test_topology_manager_options_without_their_gate(version: str, after: dict[str, object], text: str) -> None:
    (problem,) = setting_problems(after, version, topology())
    assert (problem.code, text in problem.text) == ("topology_option_gate", True), problem


@pytest.mark.parametrize(
    ("version", "value"),
    [
        ("1.35.0", "true"),
        ("1.35.0", "0x10"),
        ("1.35.0", "4"),
        ("1.35.0", ""),
        ("1.30.14", "16"),
        ("1.35.0", "9" * 5000),
    ],
)
def test_a_limit_that_does_not_count_leaves_the_kubelets_own(version: str, value: str) -> None:
    after = {**BEST_EFFORT, "topologyManagerPolicyOptions": {"max-allowable-numa-nodes": value}}
    found = setting_problems(after, version, topology(cores=16, numa_nodes=16))
    assert any("on 16 NUMA nodes (at most 8)" in problem.text for problem in found)


@pytest.mark.parametrize(
    ("version", "code", "text"),
    [
        (None, "kubelet_version_unreadable", "could not be read with `kubelet --version`. Check that the binary"),
        ("banana", "kubelet_version_unreadable", 'kubelet version "banana" is not of the form 1.MINOR.PATCH. Install'),
        ("1.19.16", "kubelet_too_old", "kubelet 1.19.16 is older than 1.20. Upgrade the cluster first."),
        ("1.22.0", "kubelet_broken", "Upgrade to 1.22.17 first."),
        ("1.22.1", "kubelet_broken", "Upgrade to 1.22.17 first."),
    ],
)
def test_versions_refused(version: str | None, code: str, text: str) -> None:
    [problem] = version_problems(version)
    assert problem.code == code
    assert text in problem.text


@pytest.mark.parametrize("version", ["1.20.15", "1.22.2", "1.36.3"])
def test_versions_accepted(version: str) -> None:
    assert version_problems(version) == []


def test_flags_in_a_stable_order() -> None:
    assert as_flags(
        {
            "reservedMemory": [
                {"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-1Gi": "2Gi"}},
                {"numaNode": 1, "limits": {"memory": "1Gi"}},
            ],
            "reservedSystemCPUs": "0,128",
            "cpuManagerPolicyOptions": {"b": "false", "a": "true"},
            "cpuManagerPolicy": "static",
        }
    ) == [
        "--cpu-manager-policy=static",
        "--cpu-manager-policy-options=a=true",
        "--cpu-manager-policy-options=b=false",
        "--reserved-cpus=0,128",
        "--reserved-memory=0:hugepages-1Gi=2Gi,memory=1Gi",
        "--reserved-memory=1:memory=1Gi",
    ]


def test_kubelets_below_1_22_refuse_reserved_cpus_above_the_number_of_online_ones() -> None:
    machine = topology(cores=6, missing=(1, 3))
    after = {**STATIC, "reservedSystemCPUs": "4"}
    [problem] = setting_problems(after, "1.21.14", machine)
    assert problem.code == "reserved_cpus_too_high"
    assert (
        'reservedSystemCPUs "4" is refused: with 4 CPUs online, kubelet 1.21 takes numbers below 4 only.'
        in problem.text
    )
    assert problem.remedy == "Reserve lower ones, or upgrade to 1.22."
    assert setting_problems(after, "1.22.17", machine) == []
