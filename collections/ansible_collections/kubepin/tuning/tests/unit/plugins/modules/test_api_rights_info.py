# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.kubepin.tuning.tests.unit.samples import api_server
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, end


def test_the_rights_are_asked_for_through_an_outage(server: StandIn, kubeconfig_file: str, answer: Any) -> None:
    allowed = api_server.answer(201, b'{"status": {"allowed": true}}')
    server.faults.extend([end, api_server.answer(429, b"Too many requests", Retry_After="0"), *[allowed] * 100])
    found = answer("api_rights_info", kubeconfig=kubeconfig_file, purposes=["audit"])
    assert found["missing"] == []
