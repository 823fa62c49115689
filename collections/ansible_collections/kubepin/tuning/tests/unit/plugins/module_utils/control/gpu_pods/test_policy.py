# SPDX-License-Identifier: GPL-3.0-or-later
"""What the expressions say of pods is for an API server to tell: molecule/enforce."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.policy import (
    gpu_pod_policy,
    gpu_pod_policy_faults,
    gpu_pod_policy_problems,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_audit import POLICY


def made(**settings: Any) -> Any:
    return gpu_pod_policy({**POLICY, **settings})


def problems(found: Any = (), version: str = "v1.30.0", **settings: Any) -> Any:
    return gpu_pod_policy_problems(found, {**POLICY, **settings}, version)


@pytest.mark.parametrize(
    ("action", "of_owners", "on_error"),
    [("Warn", "Warn", "Ignore"), ("Audit", "Audit", "Ignore"), ("Deny", "Warn", "Fail")],
)
def test_owners_are_never_refused_and_only_deny_fails_closed(action: str, of_owners: str, on_error: str) -> None:
    policy, pods, owners = made(action=action)
    assert policy["spec"]["failurePolicy"] == on_error
    assert pods["spec"]["validationActions"] == [action]
    assert owners["spec"]["validationActions"] == [of_owners]
    assert [rule["resources"] for rule in pods["spec"]["matchResources"]["resourceRules"]] == [["pods"]]
    assert all("pods" not in rule["resources"] for rule in owners["spec"]["matchResources"]["resourceRules"])


def test_without_exempt_namespaces_only_the_label_exempts() -> None:
    for binding in made(exempt_namespaces=[])[1:]:
        (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert expression == {"key": "kubepin.io/gpu-pod-policy", "operator": "NotIn", "values": ["exempt"]}


def test_what_kubepin_made_may_be_replaced() -> None:
    assert problems(made()) == []


def test_all_problems_come_at_once() -> None:
    foreign = [{**item, "metadata": {"name": item["metadata"]["name"]}} for item in made()]
    found = problems(foreign, "v1.29.14", exempt_label="exempt", resource_prefixes=["nvidia.com/", ""])
    assert [problem["code"] for problem in found] == [
        "server_too_old",
        "exempt_label_invalid",
        "resource_prefix_invalid",
        *["policy_of_others"] * 3,
    ]
    assert found[0]["text"].startswith("the API server at v1.29.14 has no ValidatingAdmissionPolicy, which takes 1.30")
    assert "audit-gpu-pods.yml" in found[0]["remedy"]
    assert found[5]["subject"] == "ValidatingAdmissionPolicyBinding/kubepin-gpu-pods-owners"


@pytest.mark.parametrize("label", ["", "key", "key=", "=value", "two words=yes", "key=a b", "key=a=b"])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    (problem,) = problems(exempt_label=label)
    assert problem["subject"] == f'gpu_pod_policy_exempt_label "{label}"'


@pytest.mark.parametrize("prefix", ["", "nvidia.com/'gpu", "a b"])
def test_a_prefix_of_no_resource_is_refused(prefix: str) -> None:
    (problem,) = problems(resource_prefixes=[prefix])
    assert problem["code"] == "resource_prefix_invalid"


@pytest.mark.parametrize("name", ["", "OMP NUM", "1ST", "a-b", "$(X)"])
def test_a_variable_of_no_program_is_refused(name: Any) -> None:
    (problem,) = problems(thread_variables=[name])
    assert problem["subject"] == f'"{name}" in gpu_pod_policy_thread_variables'


def test_without_variables_there_is_nothing_to_set() -> None:
    assert [problem["code"] for problem in problems(threads=True, thread_variables=[])] == ["no_thread_variables"]
    assert problems(threads=False, thread_variables=[]) == []


def test_the_domain_of_nvidia_stands_for_its_gpus() -> None:
    expression = made()[0]["spec"]["variables"][1]["expression"]
    assert '(name.startsWith("nvidia.com/gpu") || name.startsWith("nvidia.com/mig-") || ' in expression
    assert 'name.startsWith("deviceclass.resource.kubernetes.io/gpu.nvidia.com")' in expression


def test_without_prefixes_only_claims_count() -> None:
    assert problems(resource_prefixes=[]) == []
    assert "(false) &&" in made(resource_prefixes=[])[0]["spec"]["variables"][1]["expression"]


def policy(observed: Any, *warnings: Any) -> dict[str, Any]:
    status = {"observedGeneration": observed, "typeChecking": {"expressionWarnings": list(warnings)}}
    return {"metadata": {"generation": 2}, "status": status}


def test_faults_are_those_of_the_policy_as_it_is_now() -> None:
    fault = {"fieldRef": "spec.validations[0].expression", "warning": "undefined field"}
    assert gpu_pod_policy_faults(policy(1, fault)) is None
    assert gpu_pod_policy_faults({"metadata": {"generation": 1}}) is None
    assert gpu_pod_policy_faults(policy(2)) == []
    (problem,) = gpu_pod_policy_faults(policy(2, fault)) or []
    assert (problem["code"], problem["subject"]) == ("policy_type_check", "spec.validations[0].expression")
    assert "undefined field" in problem["text"]
