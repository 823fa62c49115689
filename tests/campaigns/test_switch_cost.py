# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of what a switch costs; `make campaign WHAT=switch-cost` measures it."""

from __future__ import annotations

import pytest

from tests.campaigns.base import AnsibleRun, TaskResult
from tests.campaigns.switch_cost import paired_ratio, tasks_of


def test_a_constant_ratio_has_no_width() -> None:
    ratio = paired_ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2, 2, 2))


def test_the_interval_is_students_on_logarithms() -> None:
    ratio = paired_ratio([1.0, 4.0], [1.0, 1.0])
    assert ratio.mean == pytest.approx(2)
    assert ratio.high / ratio.mean == pytest.approx(ratio.mean / ratio.low)
    assert ratio.low < 1 < ratio.high, "two pairs that differ fourfold prove nothing"


def test_tasks_that_did_nothing_are_not_counted() -> None:
    run = AnsibleRun()
    run.results = [
        TaskResult("Switch", "drain", "a", 1.5, {"action": "kubepin.tuning.node_drain"}),
        TaskResult("Switch", "skipped", "a", 1.5, {"action": "ansible.builtin.debug", "skipped": True}),
        TaskResult("Switch", "include", "a", 1.5, {"action": "ansible.builtin.include_tasks"}),
        TaskResult("Switch", "of another host", "b", 1.5, {"action": "ansible.builtin.debug"}),
    ]
    assert tasks_of(run, "a") == [("Switch", "drain", 1.5)]
