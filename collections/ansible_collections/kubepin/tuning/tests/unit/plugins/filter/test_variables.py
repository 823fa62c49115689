# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that a playbook's inventory has wrong, as role preflight finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Evaluate = Callable[..., Any]
ROLES = str(Path(__file__).parents[8] / "roles")


def test_a_misspelt_variable_is_named_with_the_right_one(evaluate: Evaluate) -> None:
    names = ["cpu_manager_reserved_cpu", "cpu_manager_reserved_cpus", "my_own"]
    (text,) = evaluate("names | kubepin.tuning.misspelt_variables(roles)", names=names, roles=ROLES)
    assert "cpu_manager_reserved_cpu " in text
    assert text.endswith("did you mean cpu_manager_reserved_cpus?")


def test_a_list_that_is_a_text_is_named_once_for_all_hosts(evaluate: Evaluate) -> None:
    hosts = [{"kubepin_batches": "[1]"}, {"kubepin_batches": "[1]"}, {}]
    (problem,) = evaluate("hosts | kubepin.tuning.variable_problems(roles)", hosts=hosts, roles=ROLES)
    assert problem["code"] == "batches_invalid"
    assert "kubepin_batches" in problem["text"]
