# SPDX-License-Identifier: GPL-3.0-or-later
"""When a campaign's sandbox is made, its logs collected and it is removed, how runs are read, and how tables are written."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import pytest

from sandbox.settings import SandboxError
from tests.campaigns import base


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sandbox's commands that were called; the release 0.0.0 cannot be brought up."""
    called: list[str] = []

    def run_sandbox(*arguments: str) -> None:
        called.append(arguments[0])
        if arguments[0] == "up" and "0.0.0" in arguments:
            raise SandboxError("up failed")

    monkeypatch.setattr(base, "run_sandbox", run_sandbox)
    monkeypatch.setenv("KUBEPIN_SANDBOX", "another")
    return called


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    base.add_sandbox_arguments(parser, "lab", version="1.36.3", workers=2)
    return parser.parse_args(arguments)


def test_a_new_sandbox_replaces_a_left_one_and_is_removed(commands: list[str]) -> None:
    with base.sandbox_for(options()) as name:
        assert name == "lab"
        commands.append("run")
    assert commands == ["down", "up", "run", "down"]


def test_logs_are_collected_before_a_failed_run_s_sandbox_is_removed(commands: list[str]) -> None:
    with pytest.raises(base.CheckFailed), base.sandbox_for(options()):
        base.expect(False, "broken")
    assert commands == ["down", "up", "collect", "down"]


def test_a_sandbox_that_does_not_come_up_is_removed(commands: list[str]) -> None:
    with pytest.raises(SandboxError), base.sandbox_for(options("--k8s", "0.0.0")):
        pass
    assert commands == ["down", "up", "down"]


def test_a_given_sandbox_stays(commands: list[str]) -> None:
    with base.sandbox_for(options("--sandbox", "mine")) as name:
        assert name == "mine"
    assert commands == []


def test_cells_cannot_break_a_table() -> None:
    assert base.markdown_table(("a", "b"), [("x|y\nz", 1)], numeric=True).splitlines() == [
        "| a | b |",
        "|---|---:|",
        "| x\\|y z | 1 |",
    ]


def event(kind: str, **values: object) -> str:
    return json.dumps({"_event": f"v2_{kind}", "_timestamp": "2026-11-28T08:00:00Z", **values})


def ended(kind: str, task: str, host: str, **values: object) -> str:
    duration = {"start": "2026-11-28T08:00:00.000000Z", "end": "2026-11-28T08:00:01.500000Z"}
    return event(f"runner_on_{kind}", task={"name": task, "duration": duration}, hosts={host: values})


LOCKED = {"code": "node_locked", "text": "/run/kubepin.lock is held."}
IN_USE = {"code": "node_in_use", "text": "node w2 is in use."}
OUTPUT = "\n".join(
    [
        "[WARNING]: no event",
        event("playbook_on_play_start", play={"name": "Switch"}),
        event("playbook_on_task_start", task={"name": "kubeadm_upgrade : Node | Install"}, hosts={}),
        ended("failed", "Install", "w1", failed=True, msg=LOCKED["text"], problems=[LOCKED]),
        ended("ok", "Read", "w2", changed=False, problems=[{"code": "waived_later", "text": "waived."}]),
        ended("ok", "Set", "w2", ansible_facts={"kubepin_plan": {"problems": [IN_USE]}, "other": {"problems": [{}]}}),
        ended("unreachable", "Wait", "w2", unreachable=True, changed=False, msg="no\n answer", status=None),
        event("playbook_on_stats", stats={"w1": {"ok": 1, "changed": 0, "failures": 1, "unreachable": 0}}),
    ]
)


def test_a_run_is_read_from_its_events() -> None:
    run = base.AnsibleRun.ended(2, OUTPUT)
    assert [(each.play, each.task, each.host, each.seconds) for each in run.failures] == [
        ("Switch", "Install", "w1", 1.5),
        ("Switch", "Wait", "w2", 1.5),
    ]
    assert run.problems() == {"node_locked": LOCKED["text"], "node_in_use": IN_USE["text"]}
    assert run.fact("kubepin_plan", "w2") == {"problems": [IN_USE]}
    assert run.fact("kubepin_plan", "w1") == run.fact("kubepin_result") == {}
    assert (run.error, run.other_output, run.changed, run.changed_nothing) == (
        "no answer",
        ["[WARNING]: no event"],
        False,
        False,
    )
    assert [base.no_answer(each.values) for each in run.failures] == [False, True]


def test_a_task_is_announced_as_soon_as_it_starts() -> None:
    run = base.AnsibleRun()
    assert [name for line in OUTPUT.splitlines() if (name := run.read(line))] == ["kubeadm_upgrade : Node | Install"]


def test_a_run_without_a_result_is_no_success() -> None:
    with pytest.raises(base.CheckFailed, match="no result: ERROR! broken"):
        _ = base.AnsibleRun.ended(4, "ERROR! broken").last
    assert not base.AnsibleRun.ended(4, "ERROR! broken").changed_nothing


def test_a_problem_is_found_by_its_code_and_its_absence_fails() -> None:
    found = base.problems_in([{"problems": [LOCKED]}, {}, {"blocked": [IN_USE]}])
    assert found.keys() == {"node_locked", "node_in_use"}
    found = base.problems_in([{"problems": [LOCKED]}, {}])
    assert base.find_problem(found, "another_run_active", "node_locked") == LOCKED["text"]
    with pytest.raises(base.CheckFailed, match="expected the problem node_in_use, found"):
        base.find_problem(found, "node_in_use")


def test_the_text_of_another_program_is_found_across_line_breaks_and_its_absence_fails() -> None:
    assert base.find_text("the\n  cause is", "the cause") == "the cause"
    with pytest.raises(base.CheckFailed, match='"no space" is not in: something else'):
        base.find_text("something else", "no space")


def test_the_callback_s_own_output_is_read(tmp_path: Path) -> None:
    """With the real callback, and a task that fails and is rescued."""
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {**os.environ, **base.JSON_LINES}
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=environment, cwd=base.ROOT, capture_output=True, text=True, check=False)
    run = base.AnsibleRun.ended(done.returncode, done.stdout)
    assert (run.code, [each.task for each in run.failures], run.changed_nothing) == (0, ["Break"], True)
    assert run.problems() == {"node_in_use": "in use"}


PLAY = """
- name: Play
  hosts: all
  gather_facts: false
  tasks:
    - name: Block
      block:
        - name: Break
          ansible.builtin.fail: {msg: broken}
      rescue:
        - name: Publish
          ansible.builtin.set_fact:
            kubepin_plan: {problems: [{code: node_in_use, text: in use}]}
"""
