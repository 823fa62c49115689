# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_label changes; an HTTP server stands in for the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import PLAN_ANNOTATION, POLICY_LABEL
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn

Answer = Callable[..., dict[str, Any]]
STATIC = {"policy": "static", "plan": "abc"}


@pytest.fixture
def label(answer: Answer, kubeconfig_file: str) -> Answer:
    """Runs the module on node gpu-01."""

    def run(**params: Any) -> dict[str, Any]:
        return answer("node_label", node="gpu-01", kubeconfig=kubeconfig_file, **params)

    return run


def metadata(server: StandIn) -> dict[str, Any]:
    found: dict[str, Any] = server.objects["/api/v1/nodes/gpu-01"]["metadata"]
    return found


def test_a_node_is_labelled_once_and_keeps_its_other_labels(server: StandIn, label: Answer) -> None:
    server.add_node(labels={"zone": "a"})
    result = label(**STATIC)
    assert (result["changed"], result["diff"]["before"], result["labels"]) == (
        True,
        {"policy": None, "plan": None},
        STATIC,
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
    assert (result["changed"], result["diff"]["after"]) == (True, STATIC)
    assert metadata(server)["labels"] == {"zone": "a"}


def test_a_label_without_a_plan_is_refused(label: Answer) -> None:
    assert "plan" in label(policy="static")["msg"]


def test_a_node_that_is_not_there_is_named(server: StandIn, label: Answer) -> None:
    server.add_node("gpu-02")
    result = label(**STATIC)
    assert result["failed"] is True
    assert "gpu-01" in result["msg"]
