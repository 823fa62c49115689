# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import (
    arrivals,
    plan_drain,
    selector_matches,
)

PROBE = {"app.kubernetes.io/name": "kubepin-probe", "app.kubernetes.io/managed-by": "kubepin"}
DAEMON_SETS = {("kube-system", "kube-proxy")}
END = "or leave the node out with --limit."


def pod(
    name: str = "trainer-0",
    owner: str | None = "StatefulSet/trainer",
    *,
    phase: str = "Running",
    ready: bool = True,
    labels: Any = None,
    **extra: Any,
) -> dict[str, Any]:
    """A pod of namespace ml as the API writes it; *extra* goes into its metadata, `volumes` into its spec."""
    volumes = extra.pop("volumes", [])
    metadata = {"namespace": "ml", "name": name, "labels": {"app": "trainer"} if labels is None else labels, **extra}
    if owner:
        kind, owner_name = owner.split("/")
        metadata["ownerReferences"] = [
            {"kind": "Custom", "name": "not-the-controller"},
            {"kind": kind, "name": owner_name, "controller": True},
        ]
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "spec": {"volumes": volumes}, "status": {"phase": phase, "conditions": conditions}}


def budget(
    name: str = "trainer",
    *,
    allowed: int = 0,
    healthy: int = 1,
    desired: int = 1,
    namespace: str = "ml",
    api: str = "policy/v1",
    **extra: Any,
) -> dict[str, Any]:
    status = {
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "observedGeneration": extra.pop("observed", 1),
        "conditions": extra.pop("conditions", []),
    }
    return {
        "apiVersion": api,
        "metadata": {"namespace": namespace, "name": name, "generation": extra.pop("generation", 1)},
        "spec": {"selector": {"matchLabels": {"app": "trainer"}}, **extra},
        "status": status,
    }


BLOCKED = "pod ml/trainer-0 cannot be evicted: disruption budget ml/trainer allows 0"
UNREADY = (
    "and the pod itself is not ready. Repair its application, relax the budget (in Kubernetes 1.27 and newer with "
    f"`unhealthyPodEvictionPolicy: AlwaysAllow`), {END}"
)
BARE = (
    "pod ml/trainer-0 has no controller, so nothing would start it again. "
    f"Delete it, allow its deletion with cpu_manager_drain_force: true, {END}"
)


@pytest.mark.parametrize(
    ("pods", "budgets", "options", "codes", "texts"),
    [
        pytest.param([], [], {}, [], [], id="an empty node"),
        pytest.param([pod()], [], {}, [], [], id="a pod without budget"),
        pytest.param([pod(owner=None)], [], {}, ["pod_without_controller"], [BARE], id="a bare pod"),
        pytest.param([pod(owner=None)], [], {"force": True}, [], [], id="a bare pod, force"),
        pytest.param([pod(owner=None, labels=PROBE)], [], {}, [], [], id="a probe pod that a killed run left"),
        pytest.param(
            [pod(owner="DaemonSet/gone")],
            [],
            {},
            ["pod_without_controller"],
            [
                "pod ml/trainer-0 belongs to DaemonSet gone, which does not exist, so nothing would start it again. "
                f"Delete it, allow its deletion with cpu_manager_drain_force: true, {END}"
            ],
            id="a pod of a DaemonSet that is gone",
        ),
        pytest.param([pod(owner="DaemonSet/gone")], [], {"force": True}, [], [], id="a pod of a DaemonSet gone, force"),
        pytest.param(
            [pod(volumes=[{"name": "scratch", "emptyDir": {}}])],
            [],
            {},
            ["pod_local_data"],
            [
                "pod ml/trainer-0 would lose the data of its emptyDir volume scratch. "
                f"Save it and allow this with cpu_manager_drain_delete_emptydir_data: true, {END}"
            ],
            id="an emptyDir",
        ),
        pytest.param(
            [
                pod(
                    volumes=[
                        {"name": "a", "emptyDir": {}},
                        {"name": "b", "emptyDir": {}},
                        {"name": "c", "hostPath": {}},
                    ]
                )
            ],
            [],
            {},
            ["pod_local_data"],
            [
                "pod ml/trainer-0 would lose the data of its emptyDir volumes a, b. "
                f"Save it and allow this with cpu_manager_drain_delete_emptydir_data: true, {END}"
            ],
            id="two emptyDirs and a hostPath",
        ),
        pytest.param(
            [pod(volumes=[{"name": "scratch", "emptyDir": {}}])],
            [],
            {"delete_emptydir_data": True},
            [],
            [],
            id="an emptyDir, allowed",
        ),
        pytest.param(
            [pod()],
            [budget()],
            {},
            ["budget_exhausted"],
            [f"{BLOCKED} (currently 1 healthy of 1 desired). Scale its owner up, relax the budget, {END}"],
            id="a budget that allows 0",
        ),
        pytest.param([pod()], [budget(allowed=1, healthy=2)], {}, [], [], id="a budget that allows 1"),
        pytest.param(
            [pod("trainer-0"), pod("trainer-1")],
            [budget(allowed=1, healthy=2)],
            {},
            [],
            [],
            id="a budget that allows 1 of 2 pods here: one after the other",
        ),
        pytest.param([pod()], [budget(namespace="other")], {}, [], [], id="a budget of another namespace"),
        pytest.param([pod(labels={"app": "web"})], [budget()], {}, [], [], id="a budget of other pods"),
        pytest.param(
            [pod(labels={})],
            [budget(selector={})],
            {},
            ["budget_exhausted"],
            [f"{BLOCKED} (currently 1 healthy of 1 desired). Scale its owner up, relax the budget, {END}"],
            id="an empty selector covers the namespace in policy/v1",
        ),
        pytest.param([pod()], [budget(selector={}, api="policy/v1beta1")], {}, [], [], id="... and nothing in v1beta1"),
        pytest.param([pod()], [budget(selector=None)], {}, [], [], id="a budget without a selector"),
        pytest.param(
            [pod()],
            [budget("b", allowed=1), budget("a", allowed=1)],
            {},
            ["several_budgets"],
            [
                "pod ml/trainer-0 cannot be evicted: it has 2 disruption budgets (ml/a, ml/b), and the eviction API "
                f"accepts one. Change their selectors, {END}"
            ],
            id="two budgets, though both allow it",
        ),
        pytest.param(
            [pod()],
            [budget(allowed=1, generation=3, observed=2)],
            {},
            ["budget_outdated"],
            [
                "pod ml/trainer-0 cannot be evicted: the status of disruption budget ml/trainer is out of date "
                "(generation 2 of 3). Try again in a few seconds; if it stays so, check kube-controller-manager."
            ],
            id="a stale status",
        ),
        pytest.param(
            [pod()],
            [
                budget(
                    conditions=[
                        {"type": "DisruptionAllowed", "reason": "SyncFailed", "message": "no scale subresource"}
                    ]
                )
            ],
            {},
            ["budget_failing"],
            [f"{BLOCKED}, because its controller fails: no scale subresource. Repair the budget, {END}"],
            id="a budget that its controller cannot compute",
        ),
        pytest.param([pod(ready=False)], [budget(healthy=1)], {}, [], [], id="not ready, enough others are healthy"),
        pytest.param(
            [pod(ready=False)],
            [budget(healthy=0)],
            {},
            ["budget_pod_not_ready"],
            [f"{BLOCKED} (currently 0 healthy of 1 desired), {UNREADY}"],
            id="not ready, and none is healthy",
        ),
        pytest.param(
            [pod(ready=False)],
            [budget(healthy=0, desired=0)],
            {},
            ["budget_pod_not_ready"],
            [f"{BLOCKED} (currently 0 healthy of 0 desired), {UNREADY}"],
            id="not ready, and the budget desires none",
        ),
        pytest.param(
            [pod(ready=False)],
            [budget(healthy=0, unhealthyPodEvictionPolicy="AlwaysAllow", generation=2)],
            {},
            [],
            [],
            id="not ready, AlwaysAllow",
        ),
        pytest.param(
            [pod()],
            [budget(unhealthyPodEvictionPolicy="AlwaysAllow")],
            {},
            ["budget_exhausted"],
            [f"{BLOCKED} (currently 1 healthy of 1 desired). Scale its owner up, relax the budget, {END}"],
            id="ready, AlwaysAllow",
        ),
        pytest.param([pod(phase="Pending", ready=False)], [budget()], {}, [], [], id="pending"),
        pytest.param([pod(owner=None, phase="Failed")], [budget()], {}, [], [], id="a failed bare pod"),
        pytest.param(
            [pod(owner=None, phase="Succeeded", volumes=[{"name": "a", "emptyDir": {}}])],
            [],
            {},
            [],
            [],
            id="a finished pod",
        ),
        pytest.param(
            [pod(owner=None, deletionTimestamp="2026-11-23T18:00:00Z")], [budget()], {}, [], [], id="terminating"
        ),
        pytest.param(
            [pod(owner=None, volumes=[{"name": "scratch", "emptyDir": {}}])],
            [budget()],
            {},
            ["pod_without_controller", "pod_local_data", "budget_exhausted"],
            [
                BARE,
                "pod ml/trainer-0 would lose the data of its emptyDir volume scratch. "
                f"Save it and allow this with cpu_manager_drain_delete_emptydir_data: true, {END}",
                f"{BLOCKED} (currently 1 healthy of 1 desired). Scale its owner up, relax the budget, {END}",
            ],
            id="everything at once",
        ),
    ],
)
def test_problems(pods: list[Any], budgets: list[Any], options: dict[str, Any], codes: Any, texts: Any) -> None:
    plan = plan_drain(pods, budgets, DAEMON_SETS, **options)
    found = [*plan.problems, *plan.blocked]
    assert [problem.text for problem in found] == texts
    assert [problem.code for problem in found] == codes
    assert {problem.subject for problem in found} <= {"pod ml/trainer-0"}


def test_facts_carry_problems_as_dictionaries() -> None:
    facts = plan_drain([pod(owner=None)], [budget()], DAEMON_SETS).to_dict()
    assert [problem["code"] for problem in facts["problems"]] == ["pod_without_controller"]
    assert [problem["code"] for problem in facts["blocked"]] == ["budget_exhausted"]
    assert facts["problems"][0]["text"] == BARE


def test_who_goes_and_who_stays() -> None:
    proxy = pod("kube-proxy-x", "DaemonSet/kube-proxy", volumes=[{"name": "tmp", "emptyDir": {}}])
    done = pod("kube-proxy-done", "DaemonSet/kube-proxy", phase="Failed")
    for item in (proxy, done):
        item["metadata"]["namespace"] = "kube-system"
    mirror = pod("etcd", "Node/gpu-01", annotations={"kubernetes.io/config.mirror": "x"}, deletionTimestamp="now")
    leaving = pod("leaving", "Job/j", deletionTimestamp="2026-11-23T18:00:00Z")

    plan = plan_drain([pod("b", None), mirror, proxy, done, leaving, pod("a")], [], DAEMON_SETS, force=True)

    assert plan.evicted == [
        {"namespace": "kube-system", "name": "kube-proxy-done", "owner": "DaemonSet/kube-proxy"},
        {"namespace": "ml", "name": "a", "owner": "StatefulSet/trainer"},
        {"namespace": "ml", "name": "b", "owner": None},
    ]
    assert plan.kept == [
        {"namespace": "kube-system", "name": "kube-proxy-x", "owner": "DaemonSet/kube-proxy", "reason": "daemonset"},
        {"namespace": "ml", "name": "etcd", "owner": "Node/gpu-01", "reason": "mirror"},
    ]
    assert plan.terminating == [{"namespace": "ml", "name": "leaving", "owner": "Job/j"}]
    assert plan.problems == []


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        pytest.param(None, False, id="no selector"),
        pytest.param({"matchLabels": {"a": "1"}}, True, id="label"),
        pytest.param({"matchLabels": {"a": "2"}}, False, id="other value"),
        pytest.param({"matchLabels": {"a": "1", "b": "1"}}, False, id="missing label"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "In", "values": ["0", "1"]}]}, True, id="In"),
        pytest.param({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}, False, id="In, no label"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False, id="NotIn"),
        pytest.param(
            {"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True, id="NotIn, no label"
        ),
        pytest.param({"matchExpressions": [{"key": "b", "operator": "NotIn"}]}, False, id="NotIn without values"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True, id="Exists"),
        pytest.param({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False, id="Exists, no label"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False, id="DoesNotExist"),
        pytest.param(
            {"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True, id="DoesNotExist, no label"
        ),
        pytest.param(
            {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["0"]}]}, False, id="unknown operator"
        ),
        pytest.param(
            {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
            False,
            id="both",
        ),
    ],
)
def test_selector(selector: Any, matches: bool) -> None:
    assert selector_matches(selector, {"a": "1"}, empty_matches=True) is matches


@pytest.mark.parametrize("selector", [{}, {"matchLabels": {}, "matchExpressions": []}], ids=["bare", "empty fields"])
@pytest.mark.parametrize("empty_matches", [True, False])
def test_empty_selector(selector: dict[str, Any], empty_matches: bool) -> None:
    assert selector_matches(selector, {}, empty_matches=empty_matches) is empty_matches


@pytest.mark.parametrize(
    ("annotation", "value", "noted"),
    [
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false", True),
        ("karpenter.sh/do-not-disrupt", "true", True),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true", False),
        ("karpenter.sh/do-not-disrupt", "false", False),
    ],
)
def test_a_pod_that_autoscalers_leave_alone_is_evicted_and_noted(annotation: str, value: str, noted: bool) -> None:
    plan = plan_drain([pod(annotations={annotation: value})], [], DAEMON_SETS)
    assert [entry["name"] for entry in plan.evicted] == ["trainer-0"]
    assert plan.problems == []
    assert [annotation in note for note in plan.notes] == [True] * noted


def test_only_pods_that_came_and_would_have_to_leave_count_as_arrivals() -> None:
    pods = [
        pod("first", uid="1"),
        pod("kube-proxy-x", "DaemonSet/kube-proxy", uid="2"),
        pod("static", None, uid="3", annotations={"kubernetes.io/config.mirror": "x"}),
        pod("done", "Job/done", phase="Succeeded", uid="4"),
        pod("late", uid="5"),
    ]
    pods[1]["metadata"]["namespace"] = "kube-system"
    assert [entry["name"] for entry in arrivals(pods, {"1"}, DAEMON_SETS)] == ["late"]
