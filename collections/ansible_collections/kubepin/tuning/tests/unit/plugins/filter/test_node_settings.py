# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for new nodes, as a playbook gets them from facts of nodes that were read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.tests.unit.samples.machines import UNSET, topology_facts

Evaluate = Callable[..., Any]
NODE = {
    "node": "gpu-01",
    "kubelet": {},
    "error": "",
    "kubelet_error": "",
    "settings": {
        **UNSET,
        "kubelet_version": "1.36.3",
        "reserved_cpus": "auto",
        "reserved_memory": [],
        "system_slices": False,
    },
}
CALL = "nodes | kubepin.tuning.node_settings(formats, 'gpu-nodes')"


def emitted(evaluate: Evaluate, formats: Any, **changes: Any) -> Any:
    """The result, with a topology as a module returns it: plain JSON."""
    topology = json.loads(json.dumps(topology_facts(cores=4)))
    return evaluate(CALL, nodes=[{**NODE, "topology": topology, **changes}], formats=formats)


def test_each_format_is_a_folder_of_files_and_the_text_says_how_to_use_them(evaluate: Evaluate) -> None:
    result = emitted(evaluate, ["drop-in", "kubeadm-patch"])
    assert result["problems"] == []
    assert {file["path"].split("/")[1] for file in result["files"]} == {"drop-in", "kubeadm-patch"}
    assert any("cpuManagerPolicy: static" in file["content"] for file in result["files"])
    text = evaluate("result | kubepin.tuning.node_settings_text", result=result)
    assert "new nodes like gpu-01" in text


def test_all_problems_come_at_once_and_without_any_file(evaluate: Evaluate) -> None:
    result = emitted(evaluate, "drop-in,floppy", error="no route", topology={})
    assert result["files"] == []
    assert result["problems"][0]["code"] == "format_unknown"
    text = evaluate("result | kubepin.tuning.node_settings_text", result=result)
    assert all(problem["text"] in text for problem in result["problems"])
    assert "no route" in text
