# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.facts import (
    benchmark_fact,
    benchmark_plan,
    benchmark_settings_problems,
    benchmark_statistics,
    benchmark_summary,
    benchmark_todo,
    comparison_fact,
    comparison_sources,
    with_measurement,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.problems import timings_unusable

FOLDER = "/runs/lab/benchmark/gpu-01/before"


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "run": "lab",
        "label": "before",
        "image": "pytorch:2",
        "cpu": 12,
        "fractional_cpu": "12001m",
        "memory": "30Gi",
        "shm_size": "",
        "gpus": 1,
        "rounds": 3,
        "precision": 0.1,
        "budget_minutes": 10,
        "threads": ["auto", "cpus"],
        "arms": [],
        "contrast": False,
        "load": ["solo"],
        **changes,
    }


def texts(found: Any) -> list[Any]:
    """The texts of the problems of a fact or a plan."""
    return [problem["text"] for problem in found["problems"]]


def api(policy: str = "none") -> dict[str, Any]:
    return {"node": {"name": "gpu-01", "kubelet_version": "v1.22.17", "configz": {"cpuManagerPolicy": policy}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"image": ""}, "gpu_benchmark_image is not set", id="no image"),
        pytest.param(
            {"cpu": "12001m"}, 'gpu_benchmark_cpu "12001m" is invalid: expected a whole number', id="fractional cpu"
        ),
        pytest.param({"cpu": 0}, 'gpu_benchmark_cpu "0" is invalid', id="no cpu"),
        pytest.param(
            {"contrast": True, "fractional_cpu": "13"},
            'gpu_benchmark_fractional_cpu "13" is invalid',
            id="whole contrast",
        ),
        pytest.param(
            {"contrast": "auto", "fractional_cpu": "999m"},
            'gpu_benchmark_fractional_cpu "999m" is invalid: expected less than 1 CPU away from gpu_benchmark_cpu (12)',
            id="contrast of unlike amounts",
        ),
        pytest.param(
            {"contrast": True, "arms": [{"group": "a"}]},
            "gpu_benchmark_contrast is set together with gpu_benchmark_arms",
            id="both",
        ),
        pytest.param({"arms": [{"group": "a"}, {"group": "a"}]}, 'gpu_benchmark_arms "[', id="arm named twice"),
        pytest.param({"arms": [{"cpu": "3"}]}, 'gpu_benchmark_arms "[', id="arm without a name"),
        pytest.param(
            {"arms": [{"group": "a", "cpu": "x"}]}, 'cpu "x" of a in gpu_benchmark_arms is invalid', id="arm's cpu"
        ),
        pytest.param({"memory": "30 GB"}, 'gpu_benchmark_memory "30 GB" is invalid', id="memory"),
        pytest.param({"shm_size": "x"}, 'gpu_benchmark_shm_size "x" is invalid', id="shm"),
        pytest.param({"gpus": -1}, 'gpu_benchmark_gpus "-1" is invalid', id="gpus"),
        pytest.param({"rounds": 0}, 'gpu_benchmark_rounds "0" is invalid', id="rounds"),
        pytest.param({"precision": 1.0}, 'gpu_benchmark_precision "1.0" is invalid', id="precision"),
        pytest.param({"budget_minutes": -1.0}, 'gpu_benchmark_budget_minutes "-1.0" is invalid', id="budget"),
        pytest.param({"threads": ["half"]}, 'gpu_benchmark_threads "[', id="threads"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(changes: dict[str, Any], said: str) -> None:
    (problem,) = benchmark_settings_problems(settings(**changes))
    assert problem["text"].startswith(said)


def test_all_wrong_settings_are_named_at_once_and_good_ones_not() -> None:
    assert len(benchmark_settings_problems(settings(image="", cpu="x", rounds=0))) == 3
    assert benchmark_settings_problems(settings()) == []
    assert benchmark_settings_problems(settings(contrast=True, cpu="1", fractional_cpu="999m")) == []
    assert benchmark_settings_problems(settings(contrast=False, fractional_cpu="999m")) == []
    assert benchmark_settings_problems(settings(arms=[{"group": "small", "cpu": "500m"}], threads=[6])) == []


def test_the_one_arm_is_named_after_the_policy_as_found() -> None:
    plan = benchmark_plan(settings(), api("static"), {}, FOLDER)
    assert plan["problems"] == []
    assert plan["run_id"] == "lab-gpu-01-before"
    assert plan["groups"] == [{"group": "static", "cpu": "12", "threads": ["cpus"], "rounds": [1, 2, 3]}]


def test_exclusive_cpus_are_not_measured_twice_with_the_same_threads() -> None:
    groups = benchmark_plan(settings(contrast="auto", rounds=1), api("static"), {}, FOLDER)["groups"]
    assert {group["group"]: group["threads"] for group in groups} == {
        "integer": ["cpus"],
        "fractional": ["auto", "cpus"],
    }
    (alone,) = benchmark_plan(settings(threads=["auto"], rounds=1), api("static"), {}, FOLDER)["groups"]
    assert alone["threads"] == ["auto"]


@pytest.mark.parametrize(
    ("policy", "changes", "groups"),
    [
        ("static", {"contrast": "auto"}, {"integer", "fractional"}),
        ("none", {"contrast": "auto"}, {"none"}),
        ("static", {"contrast": False}, {"static"}),
        ("static", {"contrast": "auto", "arms": [{"group": "small"}]}, {"small"}),
    ],
)
def test_the_contrast_is_the_default_where_it_can_be_measured(
    policy: str, changes: dict[str, Any], groups: Any
) -> None:
    plan = benchmark_plan(settings(**changes), api(policy), {}, FOLDER)
    assert plan["problems"] == []
    assert {group["group"] for group in plan["groups"]} == groups


@pytest.mark.parametrize(
    ("contrast", "asked", "rounds"), [("auto", "", 20), (False, "", 5), ("auto", 8, 8), (False, 8, 8)]
)
def test_interleaved_groups_may_take_more_rounds(contrast: Any, asked: Any, rounds: int) -> None:
    plan = benchmark_plan(settings(contrast=contrast, rounds=asked), api("static"), {}, FOLDER)
    assert plan["limits"] == {
        "rounds": rounds,
        "precision": 0.1,
        "budget_minutes": 10,
        "analyses": contrast == "auto",
    }
    assert max(number for _group, number in plan["order"]) == rounds


@pytest.mark.parametrize(
    ("policy", "changes", "experiment"),
    [
        ("static", {"contrast": "auto"}, True),
        ("none", {}, True),
        ("static", {}, False),
        ("static", {"arms": [{"group": "small"}, {"group": "large"}]}, False),
    ],
)
def test_groups_that_answer_a_question_by_themselves_are_an_experiment(
    policy: str, changes: dict[str, Any], experiment: bool
) -> None:
    assert benchmark_plan(settings(**changes), api(policy), {}, FOLDER)["experiment"] is experiment


def test_no_budget_is_no_limit() -> None:
    assert benchmark_plan(settings(budget_minutes=0), api(), {}, FOLDER)["limits"]["budget_minutes"] is None


def test_the_contrast_interleaves_its_arms() -> None:
    plan = benchmark_plan(settings(contrast=True), api("static"), {}, FOLDER)
    assert [number for _group, number in plan["order"]] == [1, 1, 2, 2, 3, 3]
    assert {(group["group"], group["cpu"]) for group in plan["groups"]} == {("integer", "12"), ("fractional", "12001m")}


def test_the_contrast_is_refused_without_the_static_policy() -> None:
    plan = benchmark_plan(settings(contrast=True), api("none"), {}, FOLDER)
    assert (plan["groups"], plan["order"]) == ([], [])
    (problem,) = plan["problems"]
    assert problem["code"] == "contrast_without_static"
    assert problem["text"] == (
        'node gpu-01 has the CPU manager policy "none": integer and fractional CPU differ only with "static". '
        "Run tune-gpu-nodes.yml first, or leave gpu_benchmark_contrast at auto."
    )


def test_a_contrast_that_was_measured_is_used_although_the_policy_has_changed() -> None:
    arms = [{"group": "integer", "cpu": "12"}, {"group": "fractional", "cpu": "12001m"}]
    plan = benchmark_plan(settings(contrast=True), api("none"), {"policy": "static", "arms": arms}, FOLDER)
    assert plan["problems"] == []


def test_a_node_that_cannot_be_read_is_not_measured() -> None:
    assert texts(benchmark_plan(settings(), {"msg": "no such node"}, {}, FOLDER)) == ["no such node."]
    unknown = {"node": {"name": "gpu-01", "configz": None, "configz_error": "forbidden"}}
    (problem,) = benchmark_plan(settings(), unknown, {}, FOLDER)["problems"]
    assert problem["text"] == "node gpu-01 does not show its CPU manager policy: forbidden."


def test_a_resumed_measurement_keeps_its_arm_although_the_policy_has_changed() -> None:
    begun = {"policy": "none", "arms": [{"group": "none", "cpu": "12"}]}
    plan = benchmark_plan(settings(), api("static"), begun, FOLDER)
    assert (plan["policy"], plan["policy_now"]) == ("none", "static")
    assert {group["group"] for group in plan["groups"]} == {"none"}


def test_a_resumed_measurement_with_other_arms_is_refused() -> None:
    begun = {"policy": "none", "arms": [{"group": "none", "cpu": "8"}]}
    (problem,) = benchmark_plan(settings(), api(), begun, FOLDER)["problems"]
    assert "has timings of the arms none (cpu 8), and none (cpu 12) are asked for" in problem["text"]


def pod(group: Any, rounds: Any, complete: Any = (), failure: Any = None) -> dict[str, Any]:
    """The result of a pod that was asked for rounds."""
    items = [{"round": number, "complete": number in complete} for number in rounds]
    return {
        "benchmark": {
            "arm": group,
            "rounds": items,
            "complete": all(item["complete"] for item in items),
            "failure": failure,
            "failure_code": "killed" if failure else None,
        },
        **({"msg": failure} if failure else {}),
    }


def looked(plan: Any, complete: Any = (), failure: Any = None) -> list[Any]:
    return [pod(group["group"], group["rounds"], complete, failure) for group in plan["groups"]]


ALL = {"rounds": 3, "next_rounds": None}


def test_only_what_is_not_complete_is_left_to_do() -> None:
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    todo = benchmark_todo(plan, looked(plan, complete=(1, 3)), [], {})
    assert [pod["rounds"] for pod in todo["pods"]] == [[2]]
    assert (todo["rounds"], todo["problems"]) == (1, [])
    assert benchmark_todo(plan, looked(plan, complete=(1, 2, 3)), [], {})["rounds"] == 3


def visits(todo: Any) -> list[Any]:
    return [(pod["group"], number) for pod in todo["pods"] for number in pod["rounds"]]


def test_rounds_of_a_single_group_share_a_pod() -> None:
    plan = benchmark_plan(settings(rounds=5), api(), {}, FOLDER)
    (only,) = benchmark_todo(plan, [], [], {"rounds": 0, "next_rounds": 5})["pods"]
    assert only == {
        "group": "none",
        "cpu": "12",
        "threads": ["auto", "cpus"],
        "rounds": [1, 2, 3, 4, 5],
        "warm_up": True,
    }


def test_groups_that_take_turns_have_a_pod_for_each_round() -> None:
    plan = benchmark_plan(settings(contrast="auto", rounds=20), api("static"), {}, FOLDER)
    todo = benchmark_todo(plan, [], [], {"rounds": 0, "next_rounds": 20})
    assert visits(todo) == [tuple(one) for one in plan["order"]]
    assert [len(pod["rounds"]) for pod in todo["pods"]] == [1] * 40


def test_a_pod_of_a_full_node_measures_one_round() -> None:
    plan = benchmark_plan(settings(load=["solo", "full"]), api(), {}, FOLDER)
    todo = benchmark_todo(plan, [], [], {"rounds": 0, "next_rounds": 3})
    assert [pod["rounds"] for pod in todo["pods"]] == [[1], [2], [3]]


def test_pods_run_up_to_the_next_analysis() -> None:
    plan = benchmark_plan(settings(contrast="auto", rounds=20), api("static"), {}, FOLDER)
    todo = benchmark_todo(plan, [], [], {"rounds": 0, "next_rounds": 3})
    assert sorted(number for _group, number in visits(todo)) == [1, 1, 2, 2, 3, 3]
    ran = looked(plan, complete=(1, 2, 3))
    more = benchmark_todo(plan, [], ran, {"rounds": 3, "next_rounds": 5})
    assert sorted(number for _group, number in visits(more)) == [4, 4, 5, 5]
    assert more["rounds"] == 3
    assert benchmark_todo(plan, [], ran, {"rounds": 3, "next_rounds": None})["pods"] == []


def test_the_first_pod_of_all_that_run_warms_the_node() -> None:
    plan = benchmark_plan(settings(contrast="auto", rounds=20), api("static"), {}, FOLDER)
    first = benchmark_todo(plan, looked(plan, complete=(1,)), [], {"rounds": 1, "next_rounds": 3})["pods"]
    assert [pod["warm_up"] for pod in first] == [True] + [False] * (len(first) - 1)
    more = benchmark_todo(plan, [], looked(plan, complete=(1, 2, 3)), {"rounds": 3, "next_rounds": 5})["pods"]
    assert not any(pod["warm_up"] for pod in more)


def test_a_request_that_the_module_refuses_is_said_once_and_nothing_is_run() -> None:
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    refused = benchmark_todo(plan, looked(plan, failure="no"), [], {})
    assert refused["pods"] == []
    assert [(problem["code"], problem["text"]) for problem in refused["problems"]] == [("killed", "no.")]


def test_after_a_pod_that_failed_no_other_runs() -> None:
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    after = benchmark_todo(plan, [], looked(plan, complete=(1,), failure="no"), {})
    assert (after["pods"], after["problems"]) == ([], [])


def test_policies_are_not_mixed() -> None:
    begun = {"policy": "none", "arms": [{"group": "none", "cpu": "12"}]}
    plan = benchmark_plan(settings(), api("static"), begun, FOLDER)
    todo = benchmark_todo(plan, looked(plan, complete=(1,)), [], {})
    assert todo["pods"] == []
    (problem,) = todo["problems"]
    assert problem["code"] == "other_policy"
    assert (
        'began with the CPU manager policy "none" and lacks 2 of 3 rounds, and node gpu-01 has "static"'
        in problem["text"]
    )
    complete = benchmark_todo(plan, looked(plan, complete=(1, 2, 3)), [], ALL)
    assert (complete["pods"], complete["problems"]) == ([], [])


CELL = {"model": "resnet18", "precision": "half", "mode": "train", "batch": 64, "mean_ms": 12.5}
SKIPPED = {"skipped": True, "changed": False}
SUMMARY = {
    "arms": {
        "none-12": {"shown_name": "threads set, 12 threads", "rounds": 3, "cells": [CELL]},
        "none-auto": {"shown_name": "today", "rounds": 3, "cells": [{**CELL, "mean_ms": None}]},
    }
}


def fact(complete: Any = (1, 2, 3), before: Any = None, measurement: Any = ALL, **changes: Any) -> Any:
    plan = {**benchmark_plan(settings(), api(), {}, FOLDER), **changes}
    return benchmark_fact(
        before or {}, plan, measurement, looked(plan), looked(plan, complete), {"summary": SUMMARY}, [], []
    )


def test_the_fact_holds_what_was_measured() -> None:
    run = fact()["runs"]["before"]
    assert run["complete"] is True
    assert run["arms"] == SUMMARY["arms"]
    assert run["main_arms"] == {"none": "none-auto"}
    assert run["experiment"] is True
    assert fact()["problems"] == []
    assert fact(complete=(1, 2))["runs"]["before"]["complete"] is False
    assert [fact(complete=rounds)["outcome"] for rounds in ((1, 2, 3), (1, 2), ())] == [
        "measured",
        "partly_measured",
        "not_begun",
    ]
    assert fact(complete=(1, 2), before=fact(), label="after")["outcome"] == "partly_measured"


def test_a_measurement_that_would_go_on_is_not_complete_and_one_that_ended_early_is() -> None:
    going_on = fact(complete=(1, 2), measurement={"rounds": 2, "next_rounds": 3})
    assert (going_on["outcome"], going_on["runs"]["before"]["complete"]) == ("partly_measured", False)
    ended = fact(complete=(1, 2), measurement={"rounds": 2, "next_rounds": None})
    assert ended["outcome"] == "measured"
    assert [pod["arm"] for pod in ended["runs"]["before"]["pods"]] == ["none"]


def test_the_fact_keeps_other_measurements_of_the_same_run_only() -> None:
    assert set(fact(before=fact(), label="after")["runs"]) == {"before", "after"}
    assert set(fact(before=fact(run="old"))["runs"]) == {"before"}
    assert set(fact(before=fact(run="old"), label="after")["runs"]) == {"after"}


def test_failures_are_in_the_fact() -> None:
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    ran = looked(plan, complete=(1,), failure="killed for memory.")
    prepared = {"task": "Prepare | Create the namespace", "msg": "forbidden"}
    found = benchmark_fact(
        {}, plan, ALL, looked(plan), [{**ran[0], "left_behind": "it is still there"}], SKIPPED, [prepared], []
    )
    assert [(problem["code"], problem["text"]) for problem in found["problems"]] == [
        ("task_failed", "before: Prepare | Create the namespace: forbidden."),
        ("killed", "before: none, round 2: killed for memory."),
        ("pod_left_behind", "before: it is still there."),
    ]
    assert texts(found["runs"]["before"])[0] == "Prepare | Create the namespace: forbidden."
    assert found["runs"]["before"]["complete"] is False
    crashed = benchmark_fact({}, plan, ALL, looked(plan), [{"msg": "MODULE FAILURE"}], SKIPPED, [], [])
    assert texts(crashed) == ["before: MODULE FAILURE."]


UNUSABLE = to_dicts([timings_unusable("a"), timings_unusable("b")])


@pytest.mark.parametrize(
    "result",
    [
        pytest.param({"failed": False, "msg": "a. b.", "problems": UNUSABLE}, id="refused"),
        pytest.param({"failed": False, "msg": "a"}, id="crashed"),
    ],
)
def test_timings_that_cannot_be_read_are_a_problem(result: dict[str, Any]) -> None:
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    found = benchmark_fact({}, plan, ALL, looked(plan, complete=(1,)), [], result, [], [])
    assert texts(found) == (["before: a.", "before: b."] if "problems" in result else ["before: a."])


def test_a_node_that_could_not_be_planned_has_a_fact_too() -> None:
    plan = benchmark_plan(settings(), {"msg": "no such node"}, {}, FOLDER)
    found = benchmark_fact({}, plan, ALL, [], [], SKIPPED, [], [])
    assert texts(found) == ["before: no such node."]
    assert found["runs"]["before"]["complete"] is False


PLAN = {"changed": True, "problems": [], "notes": ["first"], "outcome": "not_begun"}


def unmeasured() -> Any:
    """The fact of a node whose first pod found no GPU."""
    plan = benchmark_plan(settings(), api(), {}, FOLDER)
    pods = looked(plan, failure="node gpu-01 has no free GPU")
    return benchmark_fact({}, plan, ALL, looked(plan), pods, SKIPPED, [], [])


def test_a_node_that_was_not_measured_before_is_not_switched() -> None:
    found = with_measurement(PLAN, unmeasured(), "before", accept=False)
    assert found["outcome"] == "refused"
    (problem,) = found["problems"]
    assert (problem["code"], problem["waivable"]) == ("not_measured_before", True)
    assert "node gpu-01 has no free GPU" in problem["text"]
    assert "-e kubepin_run=lab" in problem["remedy"]
    assert "gpu_benchmark_accept_unmeasured" in problem["remedy"]


def test_rounds_that_are_missing_are_a_reason_too() -> None:
    (problem,) = with_measurement(PLAN, fact(complete=(1, 2)), "before", accept=False)["problems"]
    assert problem["code"] == "not_measured_before"


def test_a_node_that_was_not_measured_is_switched_if_that_is_accepted() -> None:
    found = with_measurement(PLAN, unmeasured(), "before", accept=True)
    assert (found["outcome"], found["problems"]) == ("not_begun", [])
    assert found["notes"][0] == "first"
    assert found["notes"][1].startswith("accepted (not_measured_before): ")


@pytest.mark.parametrize(
    ("plan", "measured"),
    [
        pytest.param(PLAN, fact, id="measured"),
        pytest.param({**PLAN, "changed": False}, unmeasured, id="no change, so nothing to compare"),
    ],
)
def test_other_plans_stay_as_they_are(plan: Any, measured: Any) -> None:
    assert with_measurement(plan, measured(), "before", accept=False) == plan


def test_statistics_for_a_workflow_are_small() -> None:
    handed = benchmark_statistics(fact())
    assert handed["means_ms"] == {"before": {"none-12": {"resnet18 half train 64": 12.5}, "none-auto": {}}}


def test_the_sources_of_a_comparison() -> None:
    facts = {"gpu-01": fact(before=fact(), label="after", folder="/after")}
    sources = comparison_sources(
        {"host": "gpu-01", "run": "before"}, {"host": "gpu-01", "run": "after", "group": "none"}, facts
    )
    assert sources == {"problems": [], "a": f"{FOLDER}@none-auto", "b": "/after@none-auto"}


def test_a_comparison_without_timings_says_which() -> None:
    sources = comparison_sources(
        {"host": "gpu-01", "run": "before", "group": "integer"},
        {"host": "gpu-02", "run": "run"},
        {"gpu-01": fact(), "gpu-02": {}},
    )
    assert texts(sources) == [
        "measurement before of gpu-01, arm integer, has no timings, so there is nothing to compare.",
        "measurement run of gpu-02 has no timings, so there is nothing to compare.",
    ]
    assert comparison_fact(sources, SKIPPED, "/r")["problems"] == sources["problems"]


def test_the_fact_of_a_comparison() -> None:
    sources = {"problems": [], "a": "x@none-auto", "b": "x@static-auto"}
    found = {"recommendation": "change", "lead": "Keep the switch", "answers": [{"question": "whole"}]}
    done = {"report": {"verdict": "BEATS", **found, "gpu_hours_gained": 9.0, "line": "1.6x faster"}}
    assert comparison_fact(sources, done, "/r") == {
        "schema": 2,
        "source": None,
        "a": "x@none-auto",
        "b": "x@static-auto",
        "verdict": "BEATS",
        **found,
        "gpu_hours_gained": 9.0,
        "line": "1.6x faster",
        "report": "/r/report.html",
        "problems": [],
    }
    failed = comparison_fact(sources, {"msg": "a. b.", "problems": UNUSABLE}, "/r")
    assert (failed["report"], failed["problems"]) == (None, UNUSABLE)


def test_the_fact_of_an_experiment() -> None:
    report = {"recommendation": "set_threads", "sentence": "Set the number of threads."}
    found = comparison_fact({"source": FOLDER, "problems": []}, {"report": report}, "/r")
    assert (found["source"], found["recommendation"], found["line"]) == (
        FOLDER,
        "set_threads",
        "Set the number of threads.",
    )


def test_the_summary() -> None:
    comparison = {"line": "1.6x faster", "report": "/r/report.html", "problems": []}
    broken = {**fact(), "runs": {}, "problems": [{"text": "before: no free GPU."}]}
    lines = benchmark_summary(
        {"gpu-10": broken, "gpu-2": fact(), "gpu-3": {}}, {"gpu-2": comparison, "gpu-10": {}, "gpu-3": {}}
    )
    assert lines == [
        "benchmark: 2 nodes: 1 measured, 1 with problems",
        "  gpu-2    1.6x faster",
        "           report: /r/report.html",
        f"           before: policy none: threads set, 12 threads: 3 rounds; today: 3 rounds; {FOLDER}",
        "  gpu-10   PROBLEM before: no free GPU.",
    ]
    assert benchmark_summary({"gpu-1": {}}, {}) == []


NAMES = {
    "whole": "exclusive CPUs against today",
    "threads": "threads set against today",
    "exclusive": "exclusive CPUs against threads set",
}


def advised(lead: Any, hours: Any, **ratios: Any) -> dict[str, Any]:
    """A comparison with this advice; each ratio has an interval of 10 %."""
    answers = [
        {"question": question, "name": NAMES[question], "ratio": ratio, "low": ratio * 0.9, "high": ratio * 1.1}
        for question, ratio in ratios.items()
    ]
    line = f"benchmark: {lead}."
    return {"lead": lead, "answers": answers, "gpu_hours_gained": hours, "line": line, "report": "/r", "problems": []}


def test_several_nodes_are_one_table_and_those_that_differ_are_named() -> None:
    facts = {host: fact() for host in ("gpu-1", "gpu-2", "gpu-10")}
    threads = advised("Set the number of threads", 12.0, threads=2.0, exclusive=0.8)
    lines = benchmark_summary(
        facts, {"gpu-1": threads, "gpu-2": advised("Keep the switch", 16.5, whole=3.2), "gpu-10": threads}
    )
    head = [NAMES["threads"], NAMES["exclusive"], NAMES["whole"], "GPU-hours a day"]
    columns = [[cell.strip() for cell in re.split(r" {3,}", line.strip())] for line in lines[1:5]]
    assert columns == [
        ["node", "what to do", *head],
        ["gpu-1", "Set the number of threads", "2.00 [1.80, 2.20]", "0.80 [0.72, 0.88]", "-", "12.0"],
        ["gpu-2", "Keep the switch", "-", "-", "3.20 [2.88, 3.52]", "16.5"],
        ["gpu-10", "Set the number of threads", "2.00 [1.80, 2.20]", "0.80 [0.72, 0.88]", "-", "12.0"],
    ]
    assert len({line.index(cells[-1]) for line, cells in zip(lines[1:5], columns)}) == 1
    assert lines[5:6] == [
        "  The advice differs: Set the number of threads: gpu-1, gpu-10; Keep the switch: gpu-2.",
    ]


def test_nodes_that_agree_are_said_to_and_a_single_one_has_no_table() -> None:
    facts = {host: fact() for host in ("gpu-1", "gpu-2")}
    undecided = {**advised("Not decided yet", None, threads=1.1)}
    undecided["answers"][0].update(low=None, high=None)
    lines = benchmark_summary(facts, {"gpu-1": undecided, "gpu-2": undecided})
    assert lines[2:4] == [
        "  gpu-1   Not decided yet   1.10                        -",
        "  gpu-2   Not decided yet   1.10                        -",
    ]
    assert lines[4] == "  The advice is the same on all nodes."
    assert not any("what to do" in line for line in benchmark_summary({"gpu-1": fact()}, {"gpu-1": undecided}))
