# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that keep their GPU stand-in while kubepin works on their node: the table, and what counts as a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.campaigns.gpu_continuity import PodCheck, markdown, unharmed

BEFORE = PodCheck("before", "hook", "uid-1", restarts=0, lost=False)
TUNED = replace(BEFORE, act="tuned")


def test_a_line_an_act_and_pod() -> None:
    assert markdown([BEFORE, replace(TUNED, lost=True, restarts=2, uid="uid-2")]).splitlines()[2:] == [
        "| before | hook | kept | 0 | yes |",
        "| tuned | hook | lost | 2 | no |",
    ]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(TUNED, True, id="kept"),
        pytest.param(replace(TUNED, lost=True), False, id="lost"),
        pytest.param(replace(TUNED, restarts=1), False, id="restarted"),
        pytest.param(replace(TUNED, uid="uid-2"), False, id="replaced"),
    ],
)
def test_what_a_pod_may_not_suffer(after: PodCheck, expected: bool) -> None:
    assert unharmed([BEFORE, after]) is expected
