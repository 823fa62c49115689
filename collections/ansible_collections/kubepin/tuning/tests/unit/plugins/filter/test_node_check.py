# SPDX-License-Identifier: GPL-3.0-or-later
"""What role node_check publishes and prints of hosts, as a playbook gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., Any]


def test_a_host_that_was_not_read_is_not_checked_with_the_reason(evaluate: Evaluate) -> None:
    hosts = [
        {
            "inventory_hostname": "w1",
            "__node_check_name": "gpu-01",
            "__node_check_read": {"failed": True, "msg": "no route"},
        }
    ]
    (fact,) = evaluate("hosts | kubepin.tuning.check_facts", hosts=hosts).values()
    assert (fact["node"], fact["outcome"]) == ("gpu-01", "not_checked")
    assert [problem["code"] for problem in fact["unchecked"]] == ["node_unread"]
    assert "no route" in fact["unchecked"][0]["text"]


def test_a_host_that_was_not_checked_in_time_names_the_variable_to_raise(evaluate: Evaluate) -> None:
    late = {"failed": True, "msg": "Timed out after 120 second(s).", "timedout": {"frame": "", "period": 120}}
    hosts = [{"inventory_hostname": "w1", "__node_check_name": "gpu-01", "__node_check_read": late}]
    (fact,) = evaluate("hosts | kubepin.tuning.check_facts", hosts=hosts).values()
    assert (fact["node"], fact["outcome"]) == ("gpu-01", "not_checked")
    assert [problem["code"] for problem in fact["unchecked"]] == ["host_timed_out"]
    assert "kubepin_read_timeout" in fact["unchecked"][0]["remedy"]


def test_the_text_counts_nodes_and_lists_what_differs(evaluate: Evaluate) -> None:
    checks = [fact("gpu-01", "as_planned"), fact("gpu-02", "drifted", "kubelet_not_restarted")]
    lines = evaluate("checks | kubepin.tuning.check_text", checks=checks).splitlines()
    assert lines[0] == "kubepin: 2 nodes: 1 as planned, 1 drifted"
    assert any("gpu-02" in line for line in lines[1:])
    assert any("kubelet_not_restarted: it was edited. Restart it." in line for line in lines[1:])


def test_only_a_node_that_is_as_planned_has_no_verdict(evaluate: Evaluate) -> None:
    verdicts = [
        evaluate("check | kubepin.tuning.check_verdict", check=check)
        for check in (fact("gpu-01", "as_planned"), fact("gpu-02", "drifted", "kubelet_not_restarted"))
    ]
    assert verdicts[0] == ""
    assert verdicts[1].startswith("gpu-02 is drifted (kubelet_not_restarted).")


def fact(node: str, outcome: str, *codes: str) -> dict[str, Any]:
    problems = [{"code": code, "text": "it was edited. Restart it."} for code in codes]
    return {
        "unchecked": [],
        "settings": [],
        "gpu_containers": [],
        "notes": [],
        "node": node,
        "outcome": outcome,
        "problems": problems,
        "policy": "static",
        "reserved": "0",
        "switch": None,
        "pinned": 0,
    }
