# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles gpu_qos and gpu_pod_policy print and apply, as a playbook gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_audit import AUDIT, CAUSE, OWNER, POD, POLICY

Evaluate = Callable[..., Any]
CONTAINER = {
    **POD["containers"][0],
    "exclusive": False,
    "pool": "node",
    "template": "spec.template.spec",
}
RISK = {"grade": "high", "causes": [{**CAUSE, "unknown": []}], "unknown": []}
AT_RISK = {**POD, "name": "serve-1", "template": None, "gpus": [], "containers": [CONTAINER], "risk": RISK}
PREFLIGHT = {
    **AUDIT,
    "pods": [AT_RISK],
    "owners": [{**OWNER, "containers": [CONTAINER]}],
    "problems": [],
    "requests": {},
}


def test_an_audit_is_printed_with_each_pod_and_its_reason(evaluate: Evaluate) -> None:
    text = evaluate("audit | kubepin.tuning.gpu_pods_text", audit=AUDIT)
    assert "ml" in text
    assert "fractional_cpu" in text


def test_patches_are_files_that_name_their_owner(evaluate: Evaluate) -> None:
    files = evaluate("audit | kubepin.tuning.gpu_pods_patches", audit=AUDIT)
    assert files
    assert any("serve" in str(file) for file in files)


@pytest.mark.parametrize(("fail_on", "fails"), [("never", False), ("not_exclusive", True)])
def test_the_verdict_fails_only_on_what_was_asked(evaluate: Evaluate, fail_on: str, fails: bool) -> None:
    assert bool(evaluate("audit | kubepin.tuning.gpu_pods_verdict(fail_on)", audit=AUDIT, fail_on=fail_on)) == fails


@pytest.mark.parametrize(("accept", "codes"), [(False, ["gpu_access_risk"]), (True, [])])
def test_a_switch_that_takes_a_gpu_is_refused_unless_the_risk_is_accepted(
    evaluate: Evaluate, accept: bool, codes: list[str]
) -> None:
    plan = {
        "changed": True,
        "problems": [],
        "policy": "static",
        "policy_before": "none",
        "exclusive_cpus": 62,
        "pods_to_evict": ["ml/serve-1"],
    }
    stacks = [{"node": "gpu-01", "runtime": {}, "plan": plan}]
    found = evaluate(
        "audit | kubepin.tuning.gpu_pods_preflight(stacks, accept, false)",
        audit=PREFLIGHT,
        stacks=stacks,
        accept=accept,
    )
    plans = found["plans"].values()
    assert [problem["code"] for plan in plans for problem in plan["problems"]] == codes


def test_the_nodes_of_an_audit_are_those_that_were_read(evaluate: Evaluate) -> None:
    stacks = [{"node": "gpu-01", "runtime": {"name": "containerd"}, "plan": {}}, {}]
    nodes = evaluate("stacks | kubepin.tuning.gpu_pods_nodes({'gpu-01': {'runc_version': '1.1.5'}})", stacks=stacks)
    assert nodes["gpu-01"]["runc_version"] == "1.1.5"


def test_the_policy_is_three_objects_and_another_s_is_not_replaced(evaluate: Evaluate) -> None:
    made = evaluate("settings | kubepin.tuning.gpu_pod_policy", settings=POLICY)
    assert [item["kind"] for item in made] == ["ValidatingAdmissionPolicy", *["ValidatingAdmissionPolicyBinding"] * 2]
    call = "found | kubepin.tuning.gpu_pod_policy_problems(settings, version)"
    assert evaluate(call, found=made, settings=POLICY, version="v1.36.3") == []
    foreign = [{**made[0], "metadata": {"name": made[0]["metadata"]["name"]}}]
    found = evaluate(call, found=foreign, settings=POLICY, version="v1.29.0")
    assert [problem["code"] for problem in found] == ["server_too_old", "policy_of_others"]


def test_the_server_s_type_check_is_waited_for_and_quoted(evaluate: Evaluate) -> None:
    call = "policy | kubepin.tuning.gpu_pod_policy_faults"
    warning = {"fieldRef": "spec.validations[0]", "warning": "undefined field"}
    assert evaluate(call, policy={"metadata": {"generation": 1}}) is None
    status = {"observedGeneration": 1, "typeChecking": {"expressionWarnings": [warning]}}
    (fault,) = evaluate(call, policy={"metadata": {"generation": 1}, "status": status})
    assert "undefined field" in fault["text"]


def test_patches_of_a_file_are_refused(evaluate: Evaluate) -> None:
    call = "settings | kubepin.tuning.gpu_qos_settings_problems"
    (problem,) = evaluate(call, settings={"apply": True, "pods_file": "pods.json"})
    assert problem["code"] == "patches_from_file"


def test_threads_are_set_where_the_server_can(evaluate: Evaluate) -> None:
    apis: dict[str, Any] = {
        "admissionregistration.k8s.io/v1": {"MutatingAdmissionPolicy": {}, "MutatingAdmissionPolicyBinding": {}}
    }
    call = "settings | kubepin.tuning.gpu_pod_thread_policy(apis)"
    wanted = evaluate(call, settings={**POLICY, "threads": True}, apis=apis)["wanted"]
    assert [item["kind"] for item in wanted] == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]


def test_pods_without_a_thread_count_are_listed(evaluate: Evaluate) -> None:
    pods = [
        {
            "namespace": "ml",
            "name": "serve-1",
            "owner": "Deployment/serve",
            "containers": {"main": {"OMP_NUM_THREADS": "4"}},
        }
    ]
    text = evaluate("pods | kubepin.tuning.gpu_pod_threads_text", pods=pods)
    assert "ml" in text
    assert "OMP_NUM_THREADS" in text
