# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign with killed upgrades reads of a run."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.campaigns import upgrade_interrupted
from tests.campaigns.base import ROOT, AnsibleRun, TaskResult
from tests.campaigns.upgrade_interrupted import (
    BEGIN,
    CHANGES,
    RESCUE,
    Point,
    RunOutcome,
    place,
    refusal,
    run_until,
    spared,
)

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


def printed(*events: dict[str, Any], then: str) -> list[str]:
    """A command that prints events as a run does, and goes on with a statement of Python."""
    lines = "\n".join(map(json.dumps, events))
    return [sys.executable, "-c", f"import time; print({lines!r}, flush=True); {then}"]


def begins(task: str) -> dict[str, Any]:
    return {"_event": "v2_playbook_on_task_start", "task": {"name": f"kubeadm_upgrade : {task}"}}


def test_a_run_is_killed_at_the_next_task_if_one_ends_sooner_than_it_was_to_be_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    duration = {"start": "2026-11-28T08:00:00.000000Z", "end": "2026-11-28T08:00:01.500000Z"}
    plan = {"steps": [{"action": "node", "hosts": ["worker-1"]}]}
    planned = {
        "_event": "v2_runner_on_ok",
        "task": {"name": "Plan", "duration": duration},
        "hosts": {"worker-1": {"ansible_facts": {"kubepin_upgrade_plan": plan}}},
    }
    install, wait = "Node | Install and start the new kubelet", "Node | Wait until the API shows the node"
    events = [{"_event": "v2_playbook_on_play_start", "play": {"name": "Upgrade"}}, planned]
    events += [begins(BEGIN), begins(install), begins(wait)]
    monkeypatch.setattr(upgrade_interrupted, "PLAYBOOK", printed(*events, then="time.sleep(600)"))
    monkeypatch.setitem(CHANGES, install, 500.0)
    first = Point("worker-1", "node", install, 0.0)
    assert run_until(set()).killed == first
    within = Point("worker-1", "node", install, 500.0)
    assert run_until({first}).killed == within
    assert run_until({first, within}).killed == Point("worker-1", "node", wait, 0.0)


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
