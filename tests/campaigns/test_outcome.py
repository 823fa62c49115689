# SPDX-License-Identifier: GPL-3.0-or-later
"""What Molecule learns of a playbook: with Ansible itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaigns import outcome

PLAY = """
- name: Play
  hosts: all
  gather_facts: false
  tasks:
    - name: Publish a plan
      ansible.builtin.set_fact:
        kubepin_plan: {outcome: not_begun, problems: []}
    - name: Show a report
      ansible.builtin.debug: {msg: [two, "lines\\nof it"]}
    - name: Publish a result
      ansible.builtin.set_fact:
        kubepin_result: {outcome: undone, problems: [{code: node_in_use, text: in use}]}
      when: inventory_hostname == 'w1'
    - name: Fail
      ansible.builtin.fail: {msg: broken}
      when: inventory_hostname == item
      loop: [w1, w3]
"""


def test_codes_outcomes_and_texts_of_a_failed_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    assert outcome.main(["ansible-playbook", "-i", "w1,w2", "-c", "local", str(tmp_path / "play.yml")]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["codes"] == ["node_in_use"]
    assert found["outcomes"] == {"w1": "undone", "w2": "not_begun"}
    assert [line for line in found["said"] if "item" not in line] == [*["two", "lines", "of it"] * 2, "broken"]
    assert (found["recap"]["w1"]["failures"], found["recap"]["w2"]["failures"]) == (1, 0)


def test_output_that_is_no_event_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome.main(["sh", "-c", "echo ERROR! no such file; exit 4"]) == 4
    assert json.loads(capsys.readouterr().out)["other"] == ["ERROR! no such file"]
