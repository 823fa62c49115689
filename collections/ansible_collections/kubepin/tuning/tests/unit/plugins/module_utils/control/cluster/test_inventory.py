# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.inventory import (
    address,
    groups,
    node_facts,
)

NODE: dict[str, Any] = {
    "metadata": {
        "name": "gpu-01",
        "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "feature.node.kubernetes.io/cpu-model.vendor_id": "AMD",
            "feature.node.kubernetes.io/cpu-hardware_multithreading": "true",
        },
    },
    "status": {
        "nodeInfo": {"kubeletVersion": "v1.22.17"},
        "capacity": {"cpu": "256", "nvidia.com/gpu": "8"},
        "allocatable": {"cpu": "253500m", "nvidia.com/gpu": "8"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "Hostname", "address": "gpu-01"}, {"type": "InternalIP", "address": "10.0.0.1"}],
    },
}


def facts_of(**changes: Any) -> dict[str, Any]:
    return node_facts({**NODE, **changes}, ["nvidia.com/"])


def test_what_the_api_knows_about_a_node() -> None:
    facts = facts_of()
    assert (facts["ready"], facts["kubelet_version"], facts["gpus"]) == (True, "1.22.17", {"nvidia.com/gpu": 8})
    assert facts["cpu"]["allocatable"] == 253
    assert (facts["cpu"]["multithreading"], facts["cpu"]["several_numa_nodes"]) == (True, None)


def test_a_gpu_node_is_in_the_playbooks_group_and_in_those_of_its_hardware() -> None:
    assert groups(facts_of(), {}) == ["gpu_nodes", "gpu_nvidia_h100_80gb_hbm3", "kubelet_1_22_17", "cpu_256_amd_smt"]


@pytest.mark.parametrize(
    ("labels", "gpu_labels", "first"),
    [
        ({"node-role.kubernetes.io/control-plane": ""}, {}, "control_plane"),
        ({"node-role.kubernetes.io/master": "", "pool": "gpu"}, {"pool": "gpu"}, "control_plane"),
        ({"pool": "gpu"}, {"pool": "gpu"}, "gpu_nodes"),
        ({"pool": "cpu"}, {"pool": "gpu"}, "other_nodes"),
    ],
)
def test_the_group_of_a_node_without_gpus_now(labels: dict[str, str], gpu_labels: dict[str, str], first: str) -> None:
    facts = facts_of(metadata={"name": "n", "labels": labels}, status={})
    assert groups(facts, gpu_labels)[0] == first


def test_the_first_type_of_address_that_the_node_has_is_used() -> None:
    assert address(facts_of(), ["ExternalIP", "InternalIP", "Hostname"]) == "10.0.0.1"
    assert address(facts_of(), ["ExternalIP"]) is None
