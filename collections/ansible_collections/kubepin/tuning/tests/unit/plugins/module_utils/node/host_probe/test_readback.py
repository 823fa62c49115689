# SPDX-License-Identifier: GPL-3.0-or-later
"""An arm is what its name says, by what its processes read of themselves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.readback import arm_problems

SHARED = {"cpus_effective": "0-15", "cpus_allowed_list": "0-15", "quota_cpus": 4.0, "threads": 4}
OWN = {**SHARED, "cpus_effective": "2-5", "cpus_allowed_list": "2-5"}


def problems(arm: str, environment: dict[str, Any]) -> list[str]:
    return arm_problems(arm, environment, 4, "2-5")


@pytest.mark.parametrize(
    ("arm", "environment"),
    [
        ("quota-4", SHARED),
        ("quota-auto", {**SHARED, "threads": 16}),
        ("cpuset-4", OWN),
        ("cpuset-4", {**OWN, "cpus_effective": None}),
    ],
)
def test_arms_that_are_what_they_say_have_no_problem(arm: str, environment: dict[str, Any]) -> None:
    assert problems(arm, environment) == []


@pytest.mark.parametrize(
    ("arm", "environment", "said"),
    [
        pytest.param(
            "quota-auto",
            {**SHARED, "cpus_effective": "2-5"},
            "today (quota-auto): the process has the CPUs 2-5 only (cpuset.cpus.effective): expected the host's shared CPUs",
            id="a CPU set that stayed",
        ),
        pytest.param("quota-4", {**SHARED, "cpus_allowed_list": "0-3"}, "(its CPU affinity)", id="taskset"),
        pytest.param(
            "cpuset-4",
            {**OWN, "cpus_effective": "0-15"},
            "exclusive CPUs (cpuset-4): the process has the CPUs 0-15 (cpuset.cpus.effective): expected its exclusive CPUs, 2-5",
            id="no CPU set",
        ),
        pytest.param("quota-4", {**SHARED, "quota_cpus": None}, "has no CPU limit", id="no quota"),
        pytest.param("cpuset-4", {**OWN, "quota_cpus": 2.5}, "has a CPU limit of 2.5", id="a lower quota above"),
        pytest.param(
            "quota-4",
            {**SHARED, "threads": 16},
            "threads set (quota-4): the process computes with 16 threads",
            id="threads",
        ),
    ],
)
def test_a_process_that_is_not_its_arm_is_named_with_value_expectation_and_remedy(
    arm: str, environment: dict[str, Any], said: str
) -> None:
    (problem,) = problems(arm, environment)
    assert said in problem
    assert ": expected " in problem


def test_all_differences_are_named_at_once() -> None:
    assert len(problems("cpuset-4", {**SHARED, "quota_cpus": None, "threads": 16})) == 4
