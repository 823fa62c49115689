# SPDX-License-Identifier: GPL-3.0-or-later
"""The diagnosis of GPU pods as text, as a playbook prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., Any]


def test_a_node_that_was_not_read_is_named_with_the_reason(evaluate: Evaluate) -> None:
    nodes = [{"node": "gpu-01", "gpu_loss": {}, "error": "no kubelet"}]
    lines = evaluate("nodes | kubepin.tuning.gpu_loss_text", nodes=nodes).splitlines()
    assert "0 running containers with a GPU on 1 node" in lines[0]
    assert lines[1:] == ["  gpu-01   not read: no kubelet"]
