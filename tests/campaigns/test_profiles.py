# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign with profiles expects of a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.campaigns.profiles import Got, differences

PREDICTED: Mapping[str, Any] = {"cpus": "4-6", "memory_nodes": [1], "device_nodes": [1], "certain": True}
CGROUP = {"cpuset.cpus": "4-6", "cpuset.cpus.effective": "4-6", "cpuset.mems": "1"}


def got(
    cgroup: Mapping[str, str] | None = None, gpus: Mapping[str, int] | None = None, numa_nodes: Sequence[int] = (1,)
) -> Got:
    return Got({**CGROUP, **(cgroup or {})}, list(numa_nodes), {"/dev/nvidia1": 1} if gpus is None else gpus)


def test_a_pod_that_got_what_was_predicted() -> None:
    assert differences("numa", PREDICTED, got()) == []


def test_without_a_memory_manager_no_memory_is_predicted() -> None:
    assert differences("balanced", {**PREDICTED, "memory_nodes": []}, got({"cpuset.mems": ""})) == []


def test_a_gpu_that_could_not_be_predicted_may_be_any() -> None:
    other = got(gpus={"/dev/nvidia0": 0})
    assert differences("balanced", {**PREDICTED, "certain": False}, other) == []
    assert differences("balanced", PREDICTED, other) == ["its GPU is of NUMA node 0, predicted 1"]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (got({"cpuset.cpus": "4-5,7"}), "cpuset.cpus is 4-5,7, predicted 4-6"),
        (got({"cpuset.cpus.effective": "0-7"}), "cpuset.cpus.effective is 0-7, predicted 4-6"),
        (got({"cpuset.mems": ""}), "cpuset.mems is empty, predicted 1"),
        (got(gpus={}), "it has the device files []"),
        (got(gpus={"/dev/nvidia0": 0, "/dev/nvidia1": 1}), "it has the device files ['/dev/nvidia0', '/dev/nvidia1']"),
    ],
)
def test_what_differs_is_named(found: Got, problem: str) -> None:
    assert any(line.startswith(problem) for line in differences("balanced", PREDICTED, found))


@pytest.mark.parametrize(
    "predicted",
    [
        {"cpus": "4-6", "memory_nodes": [1], "device_nodes": [0]},
        {"cpus": "4-6", "memory_nodes": [0], "device_nodes": [1]},
        {"cpus": "2,4-5", "memory_nodes": [1], "device_nodes": [1]},
    ],
    ids=["GPU", "memory", "CPUs"],
)
def test_with_numa_everything_is_on_one_node_whatever_was_predicted(predicted: Mapping[str, Any]) -> None:
    gpus = {f"/dev/nvidia{node}": node for node in predicted["device_nodes"]}
    cgroup = {
        "cpuset.cpus": predicted["cpus"],
        "cpuset.cpus.effective": predicted["cpus"],
        "cpuset.mems": str(predicted["memory_nodes"][0]),
    }
    nodes = (0, 1) if predicted["cpus"].startswith("2") else (1,)
    (problem,) = differences("numa", {**predicted, "certain": True}, got(cgroup, gpus, nodes))
    assert problem.startswith("it is not on one NUMA node")
