# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign with killed upgrades reads of a run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns.base import ROOT, AnsibleRun, TaskResult
from tests.campaigns.upgrade_interrupted import BEGIN, CHANGES, RESCUE, Point, RunOutcome, place, refusal, spared

NODE = {
    "node": "interrupted-worker-1",
    "api_server": None,
    "kubelet": "1.21.14",
    "policy": "static",
    "in_progress": True,
    "cordoned": True,
}


def test_a_node_is_shown_with_its_versions_and_marks() -> None:
    assert place(NODE) == "worker-1: kubelet 1.21.14, policy static, interrupted, cordoned"
    control_plane = {**NODE, "node": "interrupted-control-plane", "api_server": "1.22.17", "in_progress": False}
    assert place({**control_plane, "cordoned": False}) == (
        "control-plane: API server 1.22.17, kubelet 1.21.14, policy static"
    )


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        pytest.param({"problems": [{"code": "node_locked", "text": "is held"}]}, True, id="the node's lock"),
        pytest.param({"status": None, "msg": "no answer"}, True, id="no API server"),
        pytest.param({"status": 403, "msg": "forbidden"}, False, id="another answer"),
        pytest.param({"problems": [{"code": "not_ready", "text": "is held"}]}, False, id="another problem"),
    ],
)
def test_only_what_a_killed_run_still_does_is_waited_for(values: dict[str, Any], refused: bool) -> None:
    run = AnsibleRun()
    run.results = [TaskResult("Upgrade", "Read", "worker-1", 0.1, {"failed": True, **values})]
    assert bool(refusal(run)) == refused


def test_the_role_has_the_tasks_at_which_runs_are_killed() -> None:
    tasks = (ROOT / "roles/kubeadm_upgrade/tasks").glob("*.yml")
    named = {
        line.partition("- name: ")[2].partition("  #")[0] for path in tasks for line in path.read_text().splitlines()
    }
    assert {*CHANGES, BEGIN, RESCUE} <= named


def test_tasks_at_which_no_run_was_killed_are_named() -> None:
    first, *others = CHANGES
    killed = [(RunOutcome(killed=Point("worker-1", "node", task, 0.0)), "killed") for task in others]
    assert spared([*killed, (RunOutcome(), "done")]) == [first]
