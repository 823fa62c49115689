# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read of a node, and why not, from the results of two tasks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.reading import node_facts, reading_problems

TOPOLOGY: dict[str, Any] = {"topology": {"cpus": []}, "changed": False}
KUBELET: dict[str, Any] = {"kubelet": {"version": "1.36.3"}, "changed": False}
UNREACHABLE: dict[str, Any] = {"unreachable": True, "msg": "Failed to connect to the host via ssh", "changed": False}


@pytest.mark.parametrize(
    ("topology", "kubelet", "error", "kubelet_error"),
    [
        pytest.param(TOPOLOGY, KUBELET, "", "", id="all was read"),
        pytest.param(TOPOLOGY, {"skipped": True}, "", "", id="a machine without a kubelet"),
        pytest.param(
            UNREACHABLE, UNREACHABLE, UNREACHABLE["msg"], UNREACHABLE["msg"], id="a host that cannot be reached"
        ),
        pytest.param(TOPOLOGY, {"failed": True, "msg": "no kubelet"}, "", "no kubelet", id="a module that failed"),
        pytest.param(
            {"failed": True},
            {},
            "the topology could not be read",
            "the kubelet could not be read",
            id="no reason given",
        ),
    ],
)
def test_what_could_not_be_read_has_a_reason(
    topology: dict[str, Any], kubelet: dict[str, Any], error: str, kubelet_error: str
) -> None:
    found = node_facts(topology, kubelet)
    assert (found["topology"], found["kubelet"]) == (topology.get("topology", {}), kubelet.get("kubelet", {}))
    assert (found["error"], found["kubelet_error"]) == (error, kubelet_error)


LATE = {"failed": True, "msg": "Task failed: Timed out after 120 second(s).", "timedout": {"frame": "", "period": 120}}
"""As Ansible reports a task at its time limit, also with `failed_when: false`."""


def test_a_node_that_was_not_read_in_time_names_the_variable_to_raise() -> None:
    found = node_facts(LATE, LATE)
    assert found["error"] == found["kubelet_error"]
    assert "did not answer within 120 s" in found["error"]
    assert "raise kubepin_read_timeout" in found["error"]


def test_a_time_out_has_a_code_and_every_other_failure_keeps_its_own() -> None:
    assert [problem.code for problem in reading_problems(LATE, "cpu_manager_timeout")] == ["host_timed_out"]
    named = Problem("kubelet_missing", "the node", "has no kubelet")
    assert reading_problems({"problems": [named.to_dict()]}, "cpu_manager_timeout") == [named]
    assert [problem.code for problem in reading_problems({"msg": "No route."}, "x")] == ["module_failed"]
