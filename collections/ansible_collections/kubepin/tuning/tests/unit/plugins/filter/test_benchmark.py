# SPDX-License-Identifier: GPL-3.0-or-later
"""A measurement from its settings to its summary, as roles gpu_benchmark and report get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Evaluate = Callable[..., Any]
SETTINGS = {
    "run": "lab",
    "label": "before",
    "image": "pytorch:2",
    "cpu": 12,
    "fractional_cpu": "12001m",
    "memory": "30Gi",
    "shm_size": "",
    "gpus": 1,
    "rounds": 2,
    "precision": 0.1,
    "budget_minutes": 10,
    "threads": ["auto"],
    "arms": [],
    "contrast": False,
    "load": ["solo"],
}
API = {"node": {"name": "gpu-01", "kubelet_version": "v1.36.3", "configz": {"cpuManagerPolicy": "none"}}}
FOLDER = "runs/lab/benchmark/gpu-01/before"


@pytest.fixture
def plan(evaluate: Evaluate) -> Any:
    return evaluate(
        "settings | kubepin.tuning.benchmark_plan(api, {}, folder)", settings=SETTINGS, api=API, folder=FOLDER
    )


def test_settings_that_cannot_be_measured_are_all_named(evaluate: Evaluate) -> None:
    call = "settings | kubepin.tuning.benchmark_settings_problems"
    assert evaluate(call, settings=SETTINGS) == []
    found = evaluate(call, settings={**SETTINGS, "image": "", "rounds": 0})
    assert [problem["subject"].split()[0] for problem in found] == ["gpu_benchmark_image", "gpu_benchmark_rounds"]


def test_a_plan_has_a_group_of_rounds_for_the_policy_as_found(plan: Any) -> None:
    assert (plan["problems"], plan["run_id"]) == ([], "lab-gpu-01-before")
    assert [(group["group"], group["rounds"]) for group in plan["groups"]] == [("none", [1, 2])]


def test_nothing_is_to_be_done_for_a_node_that_has_problems(evaluate: Evaluate, plan: Any) -> None:
    failed = {"failed": True, "msg": "no free GPU"}
    todo = evaluate("plan | kubepin.tuning.benchmark_todo([failed], [], {})", plan=plan, failed=failed)
    assert todo["pods"] == []
    assert any("no free GPU" in problem["text"] for problem in todo["problems"])


def test_a_measurement_begins_with_as_many_rounds_as_it_may_have(evaluate: Evaluate) -> None:
    limits = {"rounds": 2, "precision": 0.1, "budget_minutes": 10}
    progress = evaluate("{} | kubepin.tuning.measurement_progress(0, limits, [])", limits=limits)
    assert (progress["next_rounds"], progress["ending"]) == (2, None)


def test_a_side_that_was_not_measured_is_a_problem_of_the_comparison(evaluate: Evaluate) -> None:
    call = (
        "{'host': 'a', 'run': 'before'} | kubepin.tuning.comparison_sources({'host': 'a', 'run': 'after'}, {'a': {}})"
    )
    sources = evaluate(call)
    assert len(sources["problems"]) == 2
    fact = evaluate("sources | kubepin.tuning.comparison_fact({'skipped': true}, 'runs/x')", sources=sources)
    assert (fact["verdict"], fact["problems"]) == (None, sources["problems"])


def test_problems_of_a_measurement_are_in_its_fact_its_statistics_and_the_summary(
    evaluate: Evaluate, plan: Any
) -> None:
    failed = {"failed": True, "msg": "no free GPU"}
    call = "{} | kubepin.tuning.benchmark_fact(plan, stands, [failed], [], {}, [], problems)"
    todo = evaluate("plan | kubepin.tuning.benchmark_todo([failed], [], {})", plan=plan, failed=failed)
    stands = {"rounds": 0, "next_rounds": 2}
    fact = evaluate(call, plan=plan, failed=failed, stands=stands, problems=todo["problems"])
    assert fact["node"] == "gpu-01"
    assert any("no free GPU" in problem["text"] for problem in fact["problems"])
    statistics = evaluate("fact | kubepin.tuning.benchmark_statistics", fact=fact)
    assert (statistics["node"], statistics["run"]) == ("gpu-01", "lab")
    text = evaluate("{'h1': fact} | kubepin.tuning.benchmark_summary({'h1': {}})", fact=fact)
    assert "1 with problems" in text
    assert "no free GPU" in text
