# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.preflight import (
    gpu_pods_nodes,
    gpu_pods_preflight,
)

UPDATE = {"code": "container_update", "grade": "high", "text": "it is updated", "unknown": []}
UNREAD = [{"code": "owners_unread", "text": "jobs of a kind cannot be read"}]
LINKS = {"code": "dev_char_links", "grade": "high", "text": "no rule for a device without a link", "unknown": []}
RELOAD = {"code": "daemon_reload", "grade": "low", "text": "rules again", "unknown": []}


def container(name: str = "main", gpus: Any = ("nvidia.com/gpu",), reasons: Any = ()) -> dict[str, Any]:
    return {
        "name": name,
        "template": "spec.template.spec",
        "gpus": list(gpus),
        "exclusive": not reasons,
        "pool": "node" if reasons else "exclusive",
        "reasons": list(reasons),
    }


def pod(
    *containers: Any, causes: Any = (UPDATE,), owner: str = "Deployment/serve", name: str = "serve-1"
) -> dict[str, Any]:
    unknown = sorted({fact for cause in causes for fact in cause["unknown"]})
    return {
        "namespace": "ml",
        "name": name,
        "node": "gpu-01",
        "owner": owner,
        "template": None,
        "gpus": [],
        "exclusive": all(c["exclusive"] for c in containers),
        "containers": list(containers),
        "risk": {"grade": "high" if causes else "none", "causes": list(causes), "unknown": unknown},
    }


def audit(pods: Any, *template: Any) -> dict[str, Any]:
    owner = {"namespace": "ml", "kind": "Deployment", "name": "serve", "containers": list(template), "patch": {"p": 1}}
    owners = [{**owner, "cpus_per_node": {}}] if template else []
    return {"pods": pods, "owners": owners, "requests": {}, "problems": UNREAD}


def stack(evicted: Any = ("ml/serve-1",), **plan: Any) -> dict[str, Any]:
    changes = {
        "changed": True,
        "problems": [],
        "policy": "static",
        "policy_before": "none",
        "exclusive_cpus": 62,
        **plan,
    }
    return {"node": "gpu-01", "runtime": {}, "plan": {**changes, "pods_to_evict": list(evicted)}}


SHARED = container(reasons=["fractional_cpu"])


def test_a_pod_in_danger_is_a_problem_with_its_way_out() -> None:
    found = gpu_pods_preflight(audit([pod(SHARED)], SHARED), [stack(), {}], False, accept_refused=False)
    plan = found["plans"]["gpu-01"]
    (problem,) = plan["problems"]
    assert plan["outcome"] == "refused"
    assert (problem["code"], problem["subject"], problem["waivable"]) == (
        "gpu_access_risk",
        "GPU pods ml/serve-1",
        True,
    )
    assert problem["text"].startswith(
        "GPU pods ml/serve-1 would share CPUs, and the static policy would take their GPU on this node."
    )
    assert "gpu_qos_accept_risk=true" in problem["remedy"]
    assert [p["name"] for p in found["audit"]["pods"]] == ["serve-1"]
    assert [owner["name"] for owner in found["audit"]["owners"]] == ["serve"]
    assert found["audit"]["problems"] == UNREAD
    assert found["warnings"] == []


@pytest.mark.parametrize(("pool", "in_danger"), [("pod", False), ("node", True)])
def test_what_a_pod_has_to_itself_is_shared_with_no_other_pod(pool: str, in_danger: bool) -> None:
    holder = {**container(reasons=["no_cpu_limit"]), "pool": pool}
    found = gpu_pods_preflight(audit([pod(holder)], holder), [stack()], accept_risk=False, accept_refused=False)
    assert bool(found["plans"]) == in_danger


def test_accepted_it_is_a_warning() -> None:
    found = gpu_pods_preflight(audit([pod(SHARED)], SHARED), [stack()], True, accept_refused=False)
    assert found["plans"] == {}
    assert "gpu_qos_accept_risk is true, so the run goes on" in found["warnings"][0]


def test_what_is_unknown_is_a_danger_and_named() -> None:
    cause = {**UPDATE, "unknown": ["runc_version"]}
    found = gpu_pods_preflight(audit([pod(SHARED, causes=[cause])], SHARED), [stack()], False, accept_refused=False)
    assert "depends on what is unknown: runc_version" in found["plans"]["gpu-01"]["problems"][0]["text"]


def test_missing_links_are_a_danger_where_the_static_policy_updates_the_container() -> None:
    """Measured: it took the GPU of every pod without exclusive CPUs (docs/evidence/gpu-loss.md)."""
    found = gpu_pods_preflight(audit([pod(SHARED, causes=[LINKS])], SHARED), [stack()], False, accept_refused=False)
    (problem,) = found["plans"]["gpu-01"]["problems"]
    assert problem["code"] == "gpu_access_risk"
    assert "links in /dev/char" in problem["remedy"]


@pytest.mark.parametrize(
    "causes",
    [(), (RELOAD,), ({**LINKS, "grade": "low"},)],
    ids=["none", "the same under any policy", "links that only an action would need"],
)
def test_on_a_safe_stack_it_is_listed_only(causes: Any) -> None:
    found = gpu_pods_preflight(audit([pod(SHARED, causes=causes)], SHARED), [stack()], False, accept_refused=False)
    assert found["plans"] == {}
    assert found["audit"]["summary"]["not_exclusive"] == 1


@pytest.mark.parametrize(
    ("now", "template", "pinned"),
    [
        pytest.param([SHARED], [container()], True, id="repaired since"),
        pytest.param([container()], [SHARED], False, id="spoilt since"),
        pytest.param(
            [container(reasons=["other_container"]), container("side", ())], [container()], False, id="injected sidecar"
        ),
        pytest.param([container(reasons=["too_many_cpus"])], [container()], False, id="the node is too small"),
        pytest.param(
            [container(), container("side", (), ["fractional_cpu"])], [], True, id="the GPU's container counts"
        ),
    ],
)
def test_the_owners_template_counts_for_pods_that_are_evicted(
    now: list[Any], template: list[Any], pinned: bool
) -> None:
    found = gpu_pods_preflight(audit([pod(*now)], *template), [stack()], False, accept_refused=False)
    assert bool(found["plans"]) is not pinned


@pytest.mark.parametrize(
    "plan", [{"changed": False}, {"policy_before": "static"}, {"policy": "none", "policy_before": "static"}]
)
def test_a_node_that_is_not_switched_to_static_stops_nothing(plan: dict[str, Any]) -> None:
    assert gpu_pods_preflight(audit([pod(SHARED)], SHARED), [stack(**plan)], False, accept_refused=False)["plans"] == {}


def test_a_pod_that_stays_may_lose_its_gpu_by_the_restart() -> None:
    staying = pod(container(), causes=[{**UPDATE, "unknown": ["runc_version"]}, RELOAD], owner="DaemonSet/watch")
    found = gpu_pods_preflight(audit([staying]), [stack(evicted=[])], False, accept_refused=False)
    assert found["plans"] == {}
    (warning,) = found["warnings"]
    assert "gpu-01: ml/serve-1 stays through the drain" in warning
    assert "(container_update, daemon_reload; unknown: runc_version)" in warning


def test_many_pods_are_counted() -> None:
    pods = [pod(SHARED, name=f"serve-{number}") for number in range(10)]
    found = gpu_pods_preflight(
        audit(pods, SHARED), [stack([f"ml/serve-{n}" for n in range(10)])], False, accept_refused=False
    )
    assert "ml/serve-0, ml/serve-1, ml/serve-2 and 7 more" in found["plans"]["gpu-01"]["problems"][0]["text"]


def test_what_the_operator_says_counts_more_than_what_was_read() -> None:
    read = {"schema": 1, "runtime": "containerd", "unknown": ["x"], "runc_version": "1.1.5", "device_injection": None}
    given = {"gpu-01": {"runc_version": "1.2.0", "cpu_manager_policy": "none"}, "gpu-09": {"device_injection": "cdi"}}
    stacks = [
        {**stack(), "runtime": {**read, "cgroup_driver": "systemd"}},
        {},
        {"node": "gpu-02", "runtime": {}, "plan": {}},
    ]
    assert gpu_pods_nodes(stacks, given) == {
        "gpu-01": {
            "runc_version": "1.2.0",
            "cgroup_driver": "systemd",
            "cpu_manager_policy": "static",
            "allocatable_cpu": 62,
        },
        "gpu-09": {"device_injection": "cdi"},
    }


@pytest.mark.parametrize("scope", [True, False])
def test_the_topology_that_the_same_switch_sets_counts_and_not_that_of_today(scope: bool) -> None:
    """A pod is aligned as a whole, and refused if no CPUs are left to the containers that share, only with the scope pod."""
    planned = stack(pod_scope=scope, full_pcpus_only=not scope)
    facts = gpu_pods_nodes([planned], {"gpu-01": {"pod_scope": not scope}})["gpu-01"]
    assert (facts["pod_scope"], facts["full_pcpus_only"]) == (scope, not scope)
    assert facts["cpu_manager_policy"] == "static"


def test_a_node_that_could_not_be_read_is_a_warning_with_the_reason() -> None:
    unread = {**stack(), "runtime_error": "the host did not answer within 120 s."}
    found = gpu_pods_preflight(audit([]), [unread, {}], False, accept_refused=False)
    (warning,) = found["warnings"]
    assert "how gpu-01 starts GPU containers is unknown" in warning
    assert "120 s" in warning
    assert found["plans"] == {}


def test_what_the_operator_says_of_a_node_counts_for_all_its_handlers() -> None:
    """Of what the operator did not say, that of the handler counts."""
    handlers = {"runc": {"device_injection": "device_specs", "runc_version": "1.1.5"}}
    read = {"node": "gpu-01", "runtime": {"default_handler": "runc", "handlers": handlers}, "plan": {}}
    facts = gpu_pods_nodes([read], {"gpu-01": {"device_injection": "legacy"}})["gpu-01"]
    assert facts["device_injection"] == "legacy"
    assert facts["handlers"] == {"runc": {"runc_version": "1.1.5"}}
    named = {"handlers": {"runc": {"device_injection": "cdi"}}}
    assert gpu_pods_nodes([read], {"gpu-01": named})["gpu-01"]["handlers"] == named["handlers"]
