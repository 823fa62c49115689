# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.kubepin.tuning.tests.unit.samples import api_server
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, end


def test_the_rights_are_asked_for_through_an_outage(server: StandIn, kubeconfig_file: str, answer: Any) -> None:
    allowed = api_server.answer(201, b'{"status": {"allowed": true}}')
    server.faults.extend([end, api_server.answer(429, b"Too many requests", Retry_After="0"), *[allowed] * 100])
    found = answer("api_rights_info", kubeconfig=kubeconfig_file, purposes=["audit"])
    assert (found["missing"], found["problems"]) == ([], [])


def test_missing_rights_are_a_problem_that_names_all_of_them(
    server: StandIn, kubeconfig_file: str, answer: Any
) -> None:
    denied = api_server.answer(201, b'{"status": {"allowed": false}}')
    server.faults.extend([denied] * 100)
    found = answer("api_rights_info", kubeconfig=kubeconfig_file, purposes=["check", "taint"])
    [problem] = found["problems"]
    assert problem["code"] == "rights_missing"
    assert "for check, taint: get, list, patch nodes; get nodes/proxy; list pods" in problem["text"]
    assert kubeconfig_file in problem["subject"]
    assert found["missing_text"] == ["get, list, patch nodes", "get nodes/proxy", "list pods"]
