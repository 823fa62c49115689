# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_label changes; an HTTP server stands in for the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import (
    PLAN_ANNOTATION,
    POLICY_LABEL,
    UNTUNED_TAINT,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn

Answer = Callable[..., dict[str, Any]]
STATIC = {"policy": "static", "plan": "abc"}
OTHER = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


@pytest.fixture
def label(answer: Answer, kubeconfig_file: str) -> Answer:
    """Runs the module on node gpu-01."""

    def run(**params: Any) -> dict[str, Any]:
        return answer("node_label", node="gpu-01", kubeconfig=kubeconfig_file, **params)

    return run


def metadata(server: StandIn) -> dict[str, Any]:
    found: dict[str, Any] = server.objects["/api/v1/nodes/gpu-01"]["metadata"]
    return found


def taints(server: StandIn) -> Any:
    return server.objects["/api/v1/nodes/gpu-01"]["spec"].get("taints")


def test_a_node_is_labelled_once_and_keeps_its_other_labels(server: StandIn, label: Answer) -> None:
    server.add_node(labels={"zone": "a"})
    result = label(**STATIC)
    assert (result["changed"], result["diff"]["before"], result["labels"]) == (
        True,
        {"policy": None, "plan": None, "untuned": False},
        {**STATIC, "untuned": False},
    )
    assert metadata(server)["labels"] == {"zone": "a", POLICY_LABEL: "static"}
    assert metadata(server)["annotations"][PLAN_ANNOTATION] == "abc"
    assert not label(**STATIC)["changed"]


def test_the_label_is_removed_and_nothing_else(server: StandIn, label: Answer) -> None:
    server.add_node(labels={"zone": "a", POLICY_LABEL: "static"}, annotations={"b": "c", PLAN_ANNOTATION: "abc"})
    assert label(state="absent")["changed"]
    assert (metadata(server)["labels"], metadata(server)["annotations"]) == ({"zone": "a"}, {"b": "c"})
    assert not label(state="absent")["changed"]


def test_check_mode_says_it_and_changes_nothing(server: StandIn, label: Answer) -> None:
    server.add_node(labels={"zone": "a"})
    result = label(_ansible_check_mode=True, **STATIC)
    assert (result["changed"], result["diff"]["after"]) == (True, {**STATIC, "untuned": False})
    assert metadata(server)["labels"] == {"zone": "a"}


def test_a_label_without_a_plan_is_refused(label: Answer) -> None:
    assert "plan" in label(policy="static")["msg"]


def test_the_taint_comes_and_goes_and_leaves_labels_and_other_taints(server: StandIn, label: Answer) -> None:
    server.add_node(labels={POLICY_LABEL: "none"})["spec"]["taints"] = [OTHER]
    assert label(untuned=True)["changed"]
    assert taints(server) == [OTHER, UNTUNED_TAINT]
    assert not label(untuned=True)["changed"]
    assert metadata(server)["labels"] == {POLICY_LABEL: "none"}
    assert label(**STATIC, untuned=False)["labels"] == {**STATIC, "untuned": False}
    assert taints(server) == [OTHER]


def test_an_uninstallation_removes_the_last_taint(server: StandIn, label: Answer) -> None:
    server.add_node()["spec"]["taints"] = [{**UNTUNED_TAINT, "value": "yes"}]
    assert label(state="absent")["changed"]
    assert taints(server) is None


def test_a_call_that_would_change_nothing_is_refused(label: Answer) -> None:
    assert "untuned" in label()["msg"]


def test_a_node_that_is_not_there_is_named(server: StandIn, label: Answer) -> None:
    server.add_node("gpu-02")
    result = label(**STATIC)
    assert result["failed"] is True
    assert "gpu-01" in result["msg"]
