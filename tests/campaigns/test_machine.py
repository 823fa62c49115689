# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign with a virtual machine expects of a pinned container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns.base import AnsibleRun, CheckFailed, TaskResult
from tests.campaigns.machine import pinning_problems, scope, verdict

STATE: dict[str, Any] = {"policyName": "static", "defaultCpuSet": "0-1,4-7", "entries": {"uid": {"main": "2-3"}}}
PINNED = {
    "cpuset.cpus": "2-3",
    "cpuset.cpus.effective": "2-3",
    "cpuset.mems.effective": "0-1",
    "cpu.max": "200000 100000",
}


@pytest.mark.parametrize("quota", ["200000 100000", "max 100000"])
def test_a_container_on_its_own_cpus(quota: str) -> None:
    assert pinning_problems({**PINNED, "cpu.max": quota}, STATE) == []


@pytest.mark.parametrize(
    ("values", "state", "problem"),
    [
        ({"cpuset.cpus": "0-1,4-7"}, {}, "cpuset.cpus is 0-1,4-7; the state file assigns"),
        ({"cpuset.cpus": ""}, {}, "cpuset.cpus is empty"),
        ({"cpuset.cpus.effective": "0-7"}, {}, "cpuset.cpus.effective is 0-7"),
        ({"cpu.max": "100000 100000"}, {}, "cpu.max is 100000 100000: expected 200000 100000"),
        ({}, {"policyName": "none"}, "the policy is none, not static"),
    ],
)
def test_what_is_wrong_with_a_container(values: dict[str, str], state: dict[str, Any], problem: str) -> None:
    (found,) = pinning_problems({**PINNED, **values}, {**STATE, **state})
    assert found.startswith(problem)


def test_the_cgroup_of_a_guaranteed_pod() -> None:
    pod = {
        "metadata": {"uid": "12-34"},
        "status": {"containerStatuses": [{"containerID": "containerd://abc"}]},
    }
    assert scope(pod) == "/sys/fs/cgroup/kubepods.slice/kubepods-pod12_34.slice/cri-containerd-abc.scope"


def test_the_verdict_is_what_the_run_reports() -> None:
    reserved, verified = {"cpus": "0", "explanation": "a core"}, ["Ready"]
    result = {
        "outcome": "tuned",
        "policy_before": "none",
        "policy": "static",
        "reserved": reserved,
        "verified": verified,
    }
    run = AnsibleRun()
    run.results = [TaskResult("Switch", "Set", "lab-machine-1", 0.1, {"ansible_facts": {"kubepin_result": result}})]
    assert verdict(run, "lab-machine-1") == "tuned, none -> static, reserved 0, Ready"
    with pytest.raises(CheckFailed, match="reports nothing about lab-machine-2"):
        verdict(run, "lab-machine-2")
