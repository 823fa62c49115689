# SPDX-License-Identifier: GPL-3.0-or-later
"""How `kubepin check` ends: distinct for nodes that differ and for nodes that could not be checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import Event, Outcome, RunRequest, RunResult, RunVerdict, conduct
from orchestrator.progress import Progress

pytestmark = pytest.mark.component

PLAY = """
- name: Check
  hosts: gpu_nodes
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        kubepin_check: "{{ {'gpu-01': FIRST, 'gpu-02': SECOND}[inventory_hostname] }}"
      vars:
        PLANNED: {outcome: as_planned, problems: [], unchecked: [], policy: static}
        DRIFTED: {outcome: drifted, problems: [{code: state_file_missing, text: The file is gone.}], unchecked: []}
        UNTUNED: {outcome: untuned, problems: [{code: node_untuned, text: It is new.}], unchecked: []}
        UNCHECKED: {outcome: not_checked, problems: [], unchecked: [{code: node_unread, text: No route.}]}
    - ansible.builtin.fail: {msg: not as planned}
      when: kubepin_check.outcome != 'as_planned'
"""


def check(project: Path, first: str, second: str) -> RunResult:
    """A check that finds these on the two hosts."""
    (project / "playbooks" / "check_gpu_nodes.yml").write_text(PLAY.replace("FIRST", first).replace("SECOND", second))
    return conduct(RunRequest("check", project=project))


@pytest.mark.parametrize(
    ("first", "second", "verdict", "code", "outcomes"),
    [
        ("PLANNED", "PLANNED", RunVerdict.DONE, 0, ["as_planned", "as_planned"]),
        ("PLANNED", "DRIFTED", RunVerdict.DIFFERS, 8, ["as_planned", "drifted"]),
        ("UNTUNED", "DRIFTED", RunVerdict.DIFFERS, 8, ["untuned", "drifted"]),
        ("PLANNED", "UNCHECKED", RunVerdict.FAILED, 1, ["as_planned", "not_checked"]),
        ("DRIFTED", "UNCHECKED", RunVerdict.FAILED, 1, ["drifted", "not_checked"]),
    ],
)
def test_the_exit_code_tells_a_difference_from_a_failure(
    project: Path, first: str, second: str, verdict: RunVerdict, code: int, outcomes: list[str]
) -> None:
    result = check(project, first, second)
    assert (result.verdict, result.exit_code) == (verdict, code)
    assert [host.outcome for host in result.hosts] == outcomes


def test_the_cause_of_each_host_is_what_was_found(project: Path) -> None:
    result = check(project, "DRIFTED", "UNCHECKED")
    assert [host.first_cause for host in result.hosts] == ["The file is gone.", "No route."]


def test_a_check_that_ends_before_the_facts_could_not_check(project: Path) -> None:
    (project / "playbooks" / "check_gpu_nodes.yml").write_text(
        "- name: Check\n  hosts: gpu_nodes\n  gather_facts: false\n  tasks: [{ansible.builtin.fail: {msg: no rights}}]\n"
    )
    assert conduct(RunRequest("check", project=project)).exit_code == 1


def test_the_view_shows_what_was_found() -> None:
    progress = Progress()
    fact = {"outcome": Outcome.DRIFTED.value, "problems": [{"text": "The file is gone."}]}
    progress.apply(Event("fact", {"host": "gpu-01", "name": "kubepin_check", "value": fact}))
    assert (progress.hosts["gpu-01"].state, progress.hosts["gpu-01"].note) == ("drifted", "The file is gone.")
