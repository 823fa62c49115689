# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign with a container and machines expects of audit, diagnosis and outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns.base import AnsibleRun, TaskResult
from tests.campaigns.mixed import audit_problems, diagnosis_problems, outcome_of, risk_of_pod


def test_a_risk_is_its_grade_and_causes() -> None:
    risk = {"grade": "low", "causes": [{"code": "daemon_reload"}, {"code": "container_update"}]}
    assert risk_of_pod({"risk": risk}) == "low daemon_reload container_update"


@pytest.mark.parametrize(
    ("risks", "nodes"),
    [
        ({"worker": "none", "machine": "low daemon_reload"}, []),
        ({"worker": "low daemon_reload", "machine": "low daemon_reload"}, ["worker"]),
        ({"worker": "none", "machine": "none"}, ["machine"]),
    ],
)
def test_only_a_cgroup_of_systemds_is_at_risk_of_a_daemon_reload(risks: dict[str, str], nodes: list[str]) -> None:
    found = audit_problems(risks, "worker")
    assert [problem.split()[3] for problem in found] == nodes


@pytest.mark.parametrize(
    ("containers", "problem"),
    [
        ([{"pod": "gpu", "state": "kept"}], None),
        ([{"pod": "gpu", "state": "lost"}], "the diagnosis says of gpu: ('worker', 'lost')"),
        ([], "the diagnosis says of gpu: None"),
    ],
)
def test_a_pod_has_its_gpu_if_the_diagnosis_says_so(containers: list[dict[str, str]], problem: str | None) -> None:
    data = {"nodes": [{"node": "worker", "gpu_loss": {"containers": containers}}]}
    assert diagnosis_problems(data, {"gpu": "worker"}) == ([problem] if problem else [])


def test_the_outcome_of_a_node_that_was_not_begun_is_that_of_its_plan() -> None:
    facts: dict[str, Any] = {"kubepin_plan": {"outcome": "not_begun"}}
    run = AnsibleRun()
    run.results = [
        TaskResult("p", "t", "one", 0.0, {"ansible_facts": facts}),
        TaskResult("p", "t", "two", 0.0, {"ansible_facts": {**facts, "kubepin_result": {"outcome": "tuned"}}}),
    ]
    assert [outcome_of(run, node) for node in ("one", "two")] == ["not_begun", "tuned"]
