# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import (
    DEFAULT_PREFIXES,
    counted_resource,
    gpu_prefixes,
    is_gpu,
    offered_gpus,
)

GPUS = [
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.5gb",
    "nvidia.com/mig-3g.20gb.shared",
    "nvidia.com/gpumem",
]
OTHERS = [
    "nvidia.com/hostdev",
    "nvidia.com/rdma_shared_device_a",
    "nvidia.com/sriov_resource",
    "nvidia.com/gds",
    "rdma/hca_shared_devices_a",
    "amd.com/gpu",
    "cpu",
    "hugepages-2Mi",
]


@pytest.mark.parametrize("name", GPUS)
def test_gpus_of_nvidia(name: str) -> None:
    assert is_gpu(name, DEFAULT_PREFIXES)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_gpu_although_nvidia_makes_it(name: str) -> None:
    assert not is_gpu(name, DEFAULT_PREFIXES)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("amd.com/gpu", "amd.com/"),
        ("gpu.intel.com/i915", "gpu.intel.com/"),
        ("nvidia.com/TU104GL_Tesla_T4", "nvidia.com/TU104"),
    ],
)
def test_other_vendors_and_names_count_as_given(name: str, prefix: str) -> None:
    assert is_gpu(name, [*DEFAULT_PREFIXES, prefix])
    assert prefix in gpu_prefixes([prefix])


def test_a_node_offers_its_gpus_and_not_its_network_cards() -> None:
    allocatable = {"cpu": "64", "nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": "7", "nvidia.com/hostdev": "8"}
    status = {"allocatable": allocatable, "capacity": {**allocatable, "nvidia.com/gpu.shared": "4"}}
    assert offered_gpus(status) == {"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 0, "nvidia.com/mig-1g.5gb": 7}
    assert offered_gpus({}) == {}


@pytest.mark.parametrize(
    ("allocatable", "wanted", "counted"),
    [
        ({"nvidia.com/gpu": "8"}, "auto", "nvidia.com/gpu"),
        ({"nvidia.com/mig-1g.5gb": "7", "nvidia.com/hostdev": "9"}, "auto", "nvidia.com/mig-1g.5gb"),
        ({"nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": "7"}, "auto", "nvidia.com/mig-1g.5gb"),
        ({"nvidia.com/gpu": "2", "nvidia.com/mig-3g.20gb": "2"}, "auto", "nvidia.com/gpu"),
        ({"cpu": "8"}, "auto", "nvidia.com/gpu"),
        ({"nvidia.com/gpu": "8"}, "amd.com/gpu", "amd.com/gpu"),
        ({"nvidia.com/mig-1g.5gb": "7"}, "nvidia.com/gpu", "nvidia.com/gpu"),
    ],
)
def test_the_resource_that_stands_for_a_nodes_gpus(allocatable: dict[str, str], wanted: str, counted: str) -> None:
    assert counted_resource({"allocatable": allocatable}, wanted) == counted
