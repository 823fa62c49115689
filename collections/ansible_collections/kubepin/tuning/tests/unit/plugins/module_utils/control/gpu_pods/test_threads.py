# SPDX-License-Identifier: GPL-3.0-or-later
"""What the expressions do to pods is for an API server to show: molecule/enforce compares it with `unset_threads`."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.threads import (
    gpu_pod_thread_policy,
    gpu_pod_threads_text,
    unset_threads,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod, side

SETTINGS = {
    "exempt_namespaces": ["kube-system"],
    "exempt_label": "kubepin.io/gpu-pod-policy=exempt",
    "resource_prefixes": ["nvidia.com/"],
    "threads": True,
    "thread_variables": ["OMP_NUM_THREADS"],
}
GA, BETA = "admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"
MUTATING: dict[str, Any] = {"MutatingAdmissionPolicy": {}, "MutatingAdmissionPolicyBinding": {}}


def objects(apis: Any, **settings: Any) -> Any:
    made = gpu_pod_thread_policy({**SETTINGS, **settings}, apis)
    return {field: [(item["apiVersion"], item["kind"]) for item in items] for field, items in made.items()}


def both(kind: Any, version: Any = GA) -> Any:
    return [(version, kind), (version, f"{kind}Binding")]


@pytest.mark.parametrize(
    ("apis", "wanted", "others"),
    [
        pytest.param(
            {GA: MUTATING, BETA: MUTATING},
            both("MutatingAdmissionPolicy"),
            both("ValidatingAdmissionPolicy"),
            id="1.36",
        ),
        pytest.param(
            {GA: {}, BETA: MUTATING},
            both("MutatingAdmissionPolicy", BETA),
            both("ValidatingAdmissionPolicy"),
            id="1.34 with the beta",
        ),
        pytest.param({GA: {}}, both("ValidatingAdmissionPolicy"), [], id="1.34"),
        pytest.param({}, both("ValidatingAdmissionPolicy"), [], id="1.30"),
    ],
)
def test_what_the_server_serves_decides_whether_the_policy_sets_or_warns(apis: Any, wanted: Any, others: Any) -> None:
    assert objects(apis) == {"wanted": wanted, "others": others}
    assert objects(apis, threads=False) == {
        "wanted": [],
        "others": wanted + others if others else both("ValidatingAdmissionPolicy"),
    }


@pytest.mark.parametrize("apis", [{GA: MUTATING}, {}])
def test_it_never_keeps_a_pod_out_and_leaves_owners_as_they_are(apis: Any) -> None:
    policy, binding = gpu_pod_thread_policy(SETTINGS, apis)["wanted"]
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert binding["spec"].get("validationActions") in (None, ["Warn"])
    if "mutations" in policy["spec"]:
        rules = [
            *policy["spec"]["matchConstraints"]["resourceRules"],
            *binding["spec"]["matchResources"]["resourceRules"],
        ]
        assert {name for rule in rules for name in rule["resources"]} == {"pods"}
        assert policy["spec"]["reinvocationPolicy"] == "IfNeeded"
    expressions = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert {"key": "kubepin.io/gpu-pod-policy", "operator": "NotIn", "values": ["exempt"]} in expressions


def listed(*pods: Any, namespaces: Any = (), **settings: Any) -> Any:
    items = [{"metadata": {"namespace": "ml", "name": f"p{n}"}, **item} for n, item in enumerate(pods)]
    return unset_threads(items, namespaces, {**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("limit", "count"),
    [("4", "4"), ("3999m", "3"), ("1500m", "1"), ("500m", "1"), ("1m", "1"), ("2e1", "20")],
)
def test_the_limit_counts_in_whole_cpus(limit: Any, count: Any) -> None:
    (found,) = listed({"spec": pod(main(f"{limit} 1Gi"))})
    assert found == {"namespace": "ml", "name": "p0", "containers": {"main": {"OMP_NUM_THREADS": count}}}


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"spec": pod(side("1500m 1Gi"))}, id="no GPU"),
        pytest.param({"spec": pod(main("", "2 1Gi"))}, id="no limit"),
        pytest.param({"spec": pod(main("0 1Gi"))}, id="a limit of none"),
        pytest.param({"spec": pod(main("2 1Gi", env=[{"name": "OMP_NUM_THREADS", "value": "8"}]))}, id="set"),
        pytest.param(
            {"spec": pod(main("2 1Gi", env=[{"name": "OMP_NUM_THREADS", "valueFrom": {"fieldRef": {}}}]))},
            id="set from a field",
        ),
        pytest.param({"spec": pod(main("2 1Gi", envFrom=[{"configMapRef": {"name": "a"}}]))}, id="may be set"),
        pytest.param({"spec": pod(main("2 1Gi")), "status": {"phase": "Succeeded"}}, id="finished"),
        pytest.param(
            {
                "spec": pod(main("2 1Gi")),
                "metadata": {"namespace": "ml", "name": "a", "labels": {"kubepin.io/gpu-pod-policy": "exempt"}},
            },
            id="exempt by its label",
        ),
        pytest.param(
            {"spec": pod(main("2 1Gi")), "metadata": {"namespace": "kube-system", "name": "a"}}, id="exempt namespace"
        ),
        pytest.param(
            {"spec": pod(main("2 1Gi")), "metadata": {"namespace": "free", "name": "a"}},
            id="exempt by its namespace's label",
        ),
    ],
)
def test_what_the_policy_leaves_as_it_is(item: Any) -> None:
    free = {"metadata": {"name": "free", "labels": {"kubepin.io/gpu-pod-policy": "exempt"}}}
    assert listed(item, namespaces=[free]) == []


def test_all_containers_of_a_gpu_pod_and_all_variables_count() -> None:
    spec = pod(
        main("4 1Gi", env=[{"name": "MKL_NUM_THREADS", "value": "2"}]),
        side("1500m 1Gi"),
        init=(side("2", name="first"),),
    )
    (found,) = listed({"spec": spec}, thread_variables=["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
    assert found["containers"] == {
        "first": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        "main": {"OMP_NUM_THREADS": "4"},
        "side": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    }


def test_a_pod_that_cannot_be_understood_is_named() -> None:
    with pytest.raises(TuningError, match="ml/p0 cannot be understood"):
        listed({"spec": pod(main("two 1Gi"))})


def test_equal_pods_are_one_line() -> None:
    text = gpu_pod_threads_text(listed(*({"spec": pod(main("4 1Gi"))} for _n in range(3))))
    assert text.splitlines() == [
        "kubepin: the policy would have set the number of threads in 3 running GPU pods. Running pods stay as they are.",
        "  ml/p0 and 2 more   main: OMP_NUM_THREADS=4",
    ]
    assert gpu_pod_threads_text([]) == "kubepin: no running GPU pod leaves its number of threads unset."
