# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import node_facts, requested, unmet

GPU = "nvidia.com/gpu"
NODE: dict[str, Any] = {
    "metadata": {"name": "gpu-01"},
    "spec": {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]},
    "status": {
        "conditions": [
            {"type": "MemoryPressure", "status": "False"},
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": "2026-11-25T08:00:07Z",
            },
        ],
        "allocatable": {"cpu": "254", "memory": "1Gi", GPU: "8"},
        "capacity": {"cpu": "256", GPU: "8"},
        "addresses": [{"type": "InternalIP", "address": "10.0.0.11"}],
        "nodeInfo": {"kubeletVersion": "v1.22.17"},
    },
}
CONFIGZ = {"cpuManagerPolicy": "static"}


def test_facts() -> None:
    assert node_facts(NODE, CONFIGZ, None, GPU) == {
        "schema": 1,
        "name": "gpu-01",
        "ready": True,
        "reported_at": 1795593607,
        "ready_reason": "KubeletReady: kubelet is posting ready status",
        "unschedulable": True,
        "kubelet_version": "v1.22.17",
        "gpu_resource": GPU,
        "gpus_expected_by": "device_plugin",
        "allocatable": {"cpu": "254", "gpu": 8},
        "capacity": {"cpu": "256", "gpu": 8},
        "configz": CONFIGZ,
        "configz_error": None,
        "cordoned_by_kubepin": False,
        "labelled": {"policy": None, "plan": None, "untuned": False},
        "boot_id": None,
        "addresses": [{"type": "InternalIP", "address": "10.0.0.11"}],
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }


@pytest.mark.parametrize(
    ("capacity", "labels", "expected"),
    [
        ({GPU: "0"}, {}, "device_plugin"),
        ({"cpu": "4"}, {"nvidia.com/gpu.present": "true"}, "label"),
        ({"cpu": "4"}, {"feature.node.kubernetes.io/pci-0302_10de.present": "true"}, "label"),
        ({"cpu": "4"}, {"feature.node.kubernetes.io/pci-0200_15b3.present": "true"}, None),
        ({"amd.com/gpu": "1"}, {"nvidia.com/gpu.present": "false"}, None),
    ],
)
def test_what_says_that_a_node_should_offer_gpus(
    capacity: dict[str, str], labels: dict[str, str], expected: str | None
) -> None:
    node = {"metadata": {"name": "a", "labels": labels}, "status": {"capacity": capacity}}
    assert node_facts(node, None, None, GPU)["gpus_expected_by"] == expected


def test_a_node_that_never_reported() -> None:
    facts = node_facts({"metadata": {"name": "new"}}, None, "timed out", GPU)
    assert (facts["ready"], facts["ready_reason"], facts["unschedulable"]) == (False, "no Ready condition", False)
    assert facts["allocatable"] == {"cpu": None, "gpu": 0}


@pytest.mark.parametrize(
    ("changes", "configz", "wanted", "missing"),
    [
        pytest.param({}, CONFIGZ, {}, [], id="nothing asked"),
        pytest.param(
            {},
            CONFIGZ,
            {"ready": True, "cpu_manager_policy": "static", "allocatable_cpu": 254, "gpu": 8},
            [],
            id="all met",
        ),
        pytest.param({}, CONFIGZ, {"reported_since": 1795593607.9}, [], id="reported in the second of the start"),
        pytest.param(
            {},
            CONFIGZ,
            {"ready": True, "reported_since": 1795593608.1},
            ["the API has not heard of the node since its kubelet was started"],
            id="news from before the start",
        ),
        pytest.param(
            {},
            CONFIGZ,
            {"reported_since": 1795593608.1, "first_report": 1795593607},
            ["the API has not heard of the node since its kubelet was started"],
            id="no news since the first look",
        ),
        pytest.param(
            {},
            CONFIGZ,
            {"reported_since": 1795680000.0, "first_report": 1795679990},
            [],
            id="news from a node whose clock was set back by a day",
        ),
        pytest.param({}, CONFIGZ, {"gpu": 4}, [], id="more GPUs than asked"),
        pytest.param({"allocatable": {"cpu": "254000m"}}, CONFIGZ, {"allocatable_cpu": 254}, [], id="milli CPUs"),
        pytest.param(
            {
                "conditions": [
                    {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "stopped"}
                ],
                "allocatable": {"cpu": "255500m"},
            },
            {"cpuManagerPolicy": "none"},
            {"ready": True, "cpu_manager_policy": "static", "allocatable_cpu": 255, "gpu": 8},
            [
                "the node is not Ready (NodeStatusUnknown: stopped), wanted Ready",
                'the CPU manager policy is "none", wanted "static"',
                "allocatable cpu is 255500m, wanted 255",
                "allocatable nvidia.com/gpu is 0, wanted at least 8",
            ],
            id="all missing",
        ),
        pytest.param(
            {},
            CONFIGZ,
            {"ready": False},
            ["the node is Ready (KubeletReady: kubelet is posting ready status), wanted not Ready"],
            id="wanted not Ready",
        ),
        pytest.param(
            {},
            None,
            {"cpu_manager_policy": "static"},
            ['the CPU manager policy is unknown, wanted "static": connection refused'],
            id="configz unreadable",
        ),
        pytest.param(
            {},
            None,
            {"topology_manager_policy": "restricted", "memory_manager_policy": "Static"},
            ['the topology manager policy is unknown, wanted "restricted": connection refused'],
            id="configz unreadable, once for all",
        ),
        pytest.param(
            {},
            {**CONFIGZ, "topologyManagerPolicy": "best-effort"},
            {
                "cpu_manager_policy": "static",
                "topology_manager_policy": "restricted",
                "memory_manager_policy": "Static",
            },
            [
                'the topology manager policy is "best-effort", wanted "restricted"',
                'the memory manager policy is "None", wanted "Static"',
            ],
            id="other managers",
        ),
        pytest.param(
            {"nodeInfo": {"kubeletVersion": "v1.21.14"}},
            CONFIGZ,
            {"kubelet_version": "v1.22.17"},
            ["the kubelet's version is v1.21.14, wanted v1.22.17"],
            id="the kubelet is still the old one",
        ),
        pytest.param(
            {"nodeInfo": {"kubeletVersion": "v1.22.17"}}, CONFIGZ, {"kubelet_version": "v1.22.17"}, [], id="upgraded"
        ),
        pytest.param({}, CONFIGZ, {"memory_manager_policy": "None"}, [], id="a kubelet without a memory manager"),
        pytest.param(
            {"allocatable": {}}, CONFIGZ, {"allocatable_cpu": 1}, ["allocatable cpu is None, wanted 1"], id="no cpu"
        ),
    ],
)
def test_unmet(changes: dict[str, Any], configz: Any, wanted: dict[str, Any], missing: Any) -> None:
    facts = node_facts({**NODE, "status": {**NODE["status"], **changes}}, configz, "connection refused", GPU)
    assert unmet(facts, wanted) == missing


def test_the_gpus_of_a_partitioned_node_count() -> None:
    mig = {"allocatable": {"cpu": "254", GPU: "0", "nvidia.com/mig-1g.5gb": "7", "nvidia.com/mig-3g.20gb": "2"}}
    facts = node_facts({**NODE, "status": mig}, None, None, "auto")
    assert (facts["gpu_resource"], facts["allocatable"]["gpu"]) == ("nvidia.com/mig-1g.5gb", 7)
    back = {"allocatable": {"cpu": "254", GPU: "0", "nvidia.com/mig-1g.5gb": "0", "nvidia.com/mig-3g.20gb": "2"}}
    (missing,) = unmet(node_facts({**NODE, "status": back}, None, None, "auto"), {"gpu": 7})
    assert missing == "allocatable nvidia.com/mig-3g.20gb is 2, wanted at least 7"


def holder(name: str, *gpus: str, phase: str = "Running") -> dict[str, Any]:
    containers = [{"resources": {"requests": {GPU: number}}} for number in gpus] or [{}]
    return {
        "metadata": {"namespace": "ml", "name": name},
        "spec": {"containers": containers},
        "status": {"phase": phase},
    }


def test_which_pods_hold_how_many_gpus() -> None:
    pods = [holder("two", "1", "1"), holder("none"), holder("done", "4", phase="Succeeded")]
    assert requested(GPU, pods) == {"ml/two": 2}
