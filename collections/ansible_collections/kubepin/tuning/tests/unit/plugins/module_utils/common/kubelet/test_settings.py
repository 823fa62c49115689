# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.settings import (
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
    ("version", "after", "told"),
    [
        pytest.param(
            "1.22.17",
            {**DEFAULTS, "cpuManagerPolicy": "statik"},
            'cpuManagerPolicy is "statik": expected one of none, static',
            id="policy",
        ),
        pytest.param(
            "1.22.17", {**DEFAULTS, "cpuManagerPolicy": "static"}, "no CPU is reserved", id="nothing reserved"
        ),
        pytest.param(
            "1.22.17", {**STATIC, "systemReservedCgroup": "/sys"}, "Remove systemReservedCgroup", id="reserved cgroup"
        ),
        pytest.param(
            "1.22.17",
            {**DEFAULTS, **options("full-pcpus-only")},
            "with `static` only. Remove them",
            id="options without static",
        ),
        pytest.param(
            "1.22.17", {**STATIC, "reservedSystemCPUs": "0-"}, "'0-' is not a CPU list", id="reserved CPUs are no list"
        ),
        pytest.param(
            "1.22.17",
            {**DEFAULTS, "reservedSystemCPUs": "0,7"},
            'reservedSystemCPUs is "0,7": this machine has no CPU 7 online (online: 0-1)',
            id="reserved CPUs are absent",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "Static", "featureGates": {"MemoryManager": False}},
            "needs the feature gate MemoryManager on kubelet 1.22",
            id="the memory manager switched off",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, "cpuManagerPolicyOptions": {"full-pcpus-only": "yes"}},
            'full-pcpus-only is "yes": expected true or false',
            id="what Go takes for nothing",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "evictionHard": {"memory.available": "0"}},
            'evictionHard memory.available is "0": expected more than 0',
            id="eviction at nothing",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "evictionHard": {"memory.available": "much"}},
            'evictionHard memory.available: "much" is no Kubernetes quantity',
            id="eviction at no quantity",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "reservedMemory": [{"numaNode": 0, "limits": {"memory": "0"}}]},
            "reservedMemory of NUMA node 0: memory is 0",
            id="no memory reserved, whatever the policy",
        ),
        pytest.param(
            "1.22.17", {**STATIC, **options("no-such")}, "policy option no-such is unknown", id="unknown option"
        ),
        pytest.param(
            "1.23.0",
            {**STATIC, "cpuManagerPolicyOptions": {"full-pcpus-only": "yes"}},
            "expected true or false",
            id="option's value",
        ),
        pytest.param(
            "1.21.14",
            {**STATIC, **options("full-pcpus-only")},
            "needs kubelet 1.22, this one is 1.21",
            id="option too new",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, **options("full-pcpus-only")},
            "needs the feature gate CPUManagerPolicyOptions",
            id="1.22's gate",
        ),
        pytest.param("1.36.3", {**STATIC, **options("align-by-socket")}, "is alpha in 1.36", id="alpha gate"),
        pytest.param(
            "1.23.0",
            {**STATIC, **options("full-pcpus-only"), "featureGates": {"CPUManagerPolicyBetaOptions": "false"}},
            "feature gate CPUManagerPolicyBetaOptions is off",
            id="beta gate off",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, **options("distribute-cpus-across-numa", "prefer-align-cpus-by-uncorecache")},
            "cannot be used at the same time",
            id="options that exclude each other",
        ),
        pytest.param(
            "1.26.0",
            {**STATIC, **options("align-by-socket"), **ALPHA, "topologyManagerPolicy": "single-numa-node"},
            "cannot be used with topologyManagerPolicy single-numa-node",
            id="align-by-socket and single-numa-node",
        ),
        pytest.param(
            "1.22.17", {**STATIC, "topologyManagerScope": "node"}, 'topologyManagerScope is "node"', id="scope"
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "topologyManagerPolicy": "all"},
            'topologyManagerPolicy is "all"',
            id="topology policy",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "static"},
            'memoryManagerPolicy is "static": expected one of None, Static',
            id="case",
        ),
        pytest.param(
            "1.20.15", {**STATIC, "memoryManagerPolicy": "Static"}, "needs kubelet 1.21", id="memory manager too new"
        ),
        pytest.param(
            "1.20.15",
            {**STATIC, "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}]},
            "reservedMemory needs kubelet 1.21",
            id="reserved memory too new",
        ),
        pytest.param(
            "1.36.3",
            {**STATIC, "memoryManagerPolicy": "Static", "evictionHard": {}},
            "memoryManagerPolicy Static needs reservedMemory",
            id="no memory reserved at all",
        ),
        pytest.param("1.36.3", {**STATIC, **MEMORY}, "+ evictionHard 100Mi", id="memory without the default threshold"),
        pytest.param(
            "1.21.14",
            {**STATIC, "memoryManagerPolicy": "Static"},
            "feature gate MemoryManager",
            id="memory manager's gate",
        ),
        pytest.param(
            "1.22.17", {**STATIC, "memoryManagerPolicy": "Static"}, "sums up to 0 bytes", id="no reserved memory"
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                "memoryManagerPolicy": "Static",
                "reservedMemory": [{"numaNode": 3, "limits": {"memory": "100Mi"}}],
            },
            "names NUMA node 3: this machine has 0",
            id="absent NUMA node",
        ),
        pytest.param(
            "1.22.17",
            {**STATIC, "memoryManagerPolicy": "Static", "evictionHard": {"memory.available": "5%"}},
            "give it as a quantity",
            id="eviction in percent",
        ),
        pytest.param(
            "1.22.17",
            {
                **STATIC,
                "memoryManagerPolicy": "Static",
                "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1 Gi"}}],
            },
            '"1 Gi" is no Kubernetes quantity',
            id="no quantity",
        ),
    ],
)
def test_refused(version: str, after: dict[str, object], told: str) -> None:
    problems = setting_problems(after, version, topology())
    assert any(told in problem for problem in problems), problems


def test_topology_manager_refuses_more_than_eight_numa_nodes() -> None:
    machine = topology(cores=16, numa_nodes=16)
    assert (
        "on 16 NUMA nodes" in setting_problems({**STATIC, "topologyManagerPolicy": "restricted"}, "1.22.17", machine)[0]
    )
    lifted = {
        **STATIC,
        "topologyManagerPolicy": "restricted",
        "topologyManagerPolicyOptions": {"max-allowable-numa-nodes": "16"},
    }
    assert setting_problems(lifted, "1.36.3", machine) == []


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (None, "could not be read"),
        ("banana", 'kubelet version is "banana": expected 1.MINOR.PATCH'),
        ("1.19.16", "older than 1.20"),
        ("1.22.0", "upgrade to 1.22.17"),
        ("1.22.1", "upgrade to 1.22.17"),
    ],
)
def test_versions_refused(version: str | None, told: str) -> None:
    assert told in version_problems(version)[0]


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
    machine = {**topology(4), "online": "0,2,4-5"}
    after = {**STATIC, "reservedSystemCPUs": "4"}
    [problem] = setting_problems(after, "1.21.14", machine)
    assert "with 4 CPUs online, kubelet 1.21 takes numbers below 4 only" in problem
    assert setting_problems(after, "1.22.17", machine) == []
