# SPDX-License-Identifier: GPL-3.0-or-later
"""A preview, as a playbook gets it from facts of nodes that were read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.tests.unit.samples.machines import UNSET, topology_facts

Evaluate = Callable[..., Any]
SETTINGS = {
    **UNSET,
    "kubelet_version": "1.22.17",
    "reserved_cpus": "auto",
    "reserved_memory": "",
    "pod_cpus": 2,
    "pods": [],
}


def test_the_text_of_a_preview_names_the_node_and_its_reservation(evaluate: Evaluate) -> None:
    topology = json.loads(json.dumps(topology_facts(cores=4)))
    nodes = [{"node": "gpu-01", "topology": topology, "kubelet": {}, "error": "", "settings": SETTINGS}]
    (preview,) = previews = evaluate("nodes | kubepin.tuning.preview_nodes", nodes=nodes)
    assert (preview["node"], preview["problems"]) == ("gpu-01", [])
    text = evaluate("previews | kubepin.tuning.preview_text", previews=previews)
    assert text.startswith("kubepin: preview of 1 node under the static policy.")
    assert "gpu-01" in text


def test_a_node_that_was_not_read_is_named_with_the_reason(evaluate: Evaluate) -> None:
    nodes = [{"node": "gpu-01", "topology": {}, "kubelet": {}, "error": "no route", "settings": SETTINGS}]
    text = evaluate("nodes | kubepin.tuning.preview_nodes | kubepin.tuning.preview_text", nodes=nodes)
    assert "gpu-01" in text
    assert "no route" in text
