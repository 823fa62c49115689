# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of nodes whose measurement before a switch failed: the roles as tune_gpu_nodes.yml calls them, on made-up facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import outcome

pytestmark = pytest.mark.component
PROJECT = Path(__file__).parents[2]
NO_GPU = {"code": "no_free_gpu", "subject": "", "finding": "gpu-1 has no free GPU", "remedy": "", "waivable": False}
PLAY = """
- hosts: all
  connection: local
  gather_facts: false
  vars: {kubepin_plan: PLAN, kubepin_benchmark: BENCHMARK}
  tasks:
    - ansible.builtin.include_role: {name: gpu_benchmark, tasks_from: preflight}
      vars: {gpu_benchmark_label: before}

- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: preflight}
      run_once: true
    - ansible.builtin.debug: {msg: "{{ inventory_hostname }} would be switched"}
"""


def play(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, Any]:
    """Two nodes that would change; gpu-1 was not measured."""
    plan = {"schema": 2, "changed": True, "outcome": "not_begun", "problems": [], "notes": []}
    measured = "{{ {'complete': inventory_hostname != 'gpu-1', 'problems': [] if inventory_hostname != 'gpu-1' else [cause]} }}"
    benchmark = {"schema": 3, "run": "lab", "runs": {"before": measured}, "problems": []}
    cause = {**NO_GPU, "text": "gpu-1 has no free GPU."}
    text = PLAY.replace("PLAN", json.dumps(plan)).replace("BENCHMARK", json.dumps(benchmark))
    (folder / "play.yml").write_text(text)
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(PROJECT / "roles"))
    monkeypatch.chdir(PROJECT)
    command = ["ansible-playbook", "-i", "gpu-1,gpu-2", str(folder / "play.yml"), "-e", json.dumps({"cause": cause})]
    outcome.main([*command, *arguments])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_no_node_is_switched_if_one_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = play(tmp_path, monkeypatch, capsys)
    assert found["codes"] == ["not_measured_before"]
    assert found["outcomes"]["gpu-1"] == "refused"
    said = " ".join(" ".join(found["said"]).split())
    assert "1 of 2 nodes cannot be switched as asked" in said
    assert "gpu-1 has no free GPU" in said
    assert "-e kubepin_run=lab" in said
    assert "would be switched" not in said


def test_all_nodes_are_switched_if_that_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = play(tmp_path, monkeypatch, capsys, "-e", "gpu_benchmark_accept_unmeasured=true")
    assert found["codes"] == []
    assert sorted(line for line in found["said"] if "would be" in line) == [
        "gpu-1 would be switched",
        "gpu-2 would be switched",
    ]
