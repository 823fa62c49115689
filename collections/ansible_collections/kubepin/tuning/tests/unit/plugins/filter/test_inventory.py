# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., Any]
GROUPS = {"gpu_nodes": ["gpu-01"], "amd": ["gpu-01"], "intel": ["gpu-02"]}


def test_a_limit_without_nodes_has_a_code(evaluate: Evaluate) -> None:
    expression = "groups_of | kubepin.tuning.inventory_problems(['cp-01'], 'cp-01', ['gpu_nodes'])"
    assert [problem["code"] for problem in evaluate(expression, groups_of=GROUPS)] == ["limit_without_nodes"]


def test_groups_that_cannot_be_compared_have_a_code(evaluate: Evaluate) -> None:
    expression = "groups_of | kubepin.tuning.comparison_problems(['gpu-01'], 'amd', 'intel')"
    assert [problem["code"] for problem in evaluate(expression, groups_of=GROUPS)] == ["groups_not_comparable"]
