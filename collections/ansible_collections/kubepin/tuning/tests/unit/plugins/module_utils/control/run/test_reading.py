# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read of a node, and why not, from the results of two tasks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.reading import node_facts

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
