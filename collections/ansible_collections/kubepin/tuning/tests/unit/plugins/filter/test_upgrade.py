# SPDX-License-Identifier: GPL-3.0-or-later
"""What role kubeadm_upgrade publishes and prints at its end, as a playbook gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Evaluate = Callable[..., Any]
STEP = {"version": "1.22.17", "action": "node", "hosts": ["w1", "w2"]}
PLAN = {"current": "1.21.14", "target": "1.22.17", "versions": ["1.22.17"], "steps": [STEP], "problems": []}
DONE = {
    **dict.fromkeys(("seconds", "prepare_seconds", "kubeadm_seconds", "drain_seconds", "downtime_ms"), 0),
    "version": "1.22.17",
    "action": "node",
    "kept_settings": {},
    "dropped_flags": [],
    "verified": ["kubelet 1.22.17"],
}


@pytest.mark.parametrize(
    ("steps", "check_mode", "outcome"),
    [([DONE], False, "upgraded"), ([], False, "not_begun"), ([], True, "would_upgrade")],
)
def test_each_host_publishes_how_far_it_came(
    evaluate: Evaluate, steps: list[Any], check_mode: bool, outcome: str
) -> None:
    call = "plan | kubepin.tuning.upgrade_result_fact('w1', steps, check_mode)"
    assert evaluate(call, plan=PLAN, steps=steps, check_mode=check_mode) == {
        "schema": 1,
        "outcome": outcome,
        "steps": steps,
    }


def test_the_summary_names_each_host_and_what_was_verified(evaluate: Evaluate) -> None:
    call = "{'w1': {'steps': [done]}} | kubepin.tuning.upgrade_summary_text(plan, false)"
    lines = evaluate(call, plan=PLAN, done=DONE)
    assert "w1" in lines[1]
    assert lines[1].endswith("verified: kubelet 1.22.17")


def test_a_failure_names_the_task_its_message_and_the_node(evaluate: Evaluate) -> None:
    call = "plan | kubepin.tuning.upgrade_failure_text(step, 'w1', {}, 'Drain', 'it did not end.')"
    text = evaluate(call, plan=PLAN, step=STEP)
    assert all(part in text for part in ("w1", "'Drain'", "it did not end.", "Done: 0 of 1 step;"))
