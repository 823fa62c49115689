# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of the control node give the same result in Ansible's worker and in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.component

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    folder: FOLDER
  tasks:
    - kubepin.tuning.run_report: &report {folder: "{{ folder }}", summary: done, results: {a: {node: gpu-01}}}
      register: here
    - kubepin.tuning.run_report: *report
      environment: {LANG: C}
      register: elsewhere
    - kubepin.tuning.run_report: {folder: "{{ folder }}/not-made", summary: done}
      check_mode: true
      register: checked
    - kubepin.tuning.run_report: {folder: "{{ folder }}", text: done}
      register: refused
      ignore_errors: true
    - kubepin.tuning.node_api_info: &node {node: gpu-01, kubeconfig: "{{ folder }}/none"}
      register: failed_here
      ignore_errors: true
    - kubepin.tuning.node_api_info: *node
      environment: {LANG: C}
      register: failed_elsewhere
      ignore_errors: true
    - copy:
        content: "{{ {'here': here, 'elsewhere': elsewhere, 'checked': checked, 'refused': refused,
                      'failed_here': failed_here, 'failed_elsewhere': failed_elsewhere} | to_json }}"
        dest: "{{ folder }}/results.json"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("control-node")
    playbook = folder / "play.yml"
    playbook.write_text(PLAYBOOK.replace("FOLDER", str(folder)))
    subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", playbook],
        cwd=PROJECT,
        env={**os.environ, "KUBECONFIG": str(folder / "none")},
        check=True,
    )
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return {**found, "folder": str(folder)}


def test_the_result_is_the_same(results: dict[str, Any]) -> None:
    folder = results["folder"]
    expected = {"changed": False, "failed": False, "files": [f"{folder}/gpu-01.json", f"{folder}/summary.txt"]}
    assert results["here"] == {**expected, "new": ["a"]}
    assert results["elsewhere"] == {**expected, "new": []}
    assert json.loads(Path(folder, "gpu-01.json").read_text()) == {"node": "gpu-01"}


def test_a_failure_is_the_same(results: dict[str, Any]) -> None:
    assert results["failed_here"]["failed"]
    assert '/none" does not exist' in results["failed_here"]["msg"]
    assert results["failed_here"]["msg"] == results["failed_elsewhere"]["msg"]


def test_check_mode_writes_nothing(results: dict[str, Any]) -> None:
    assert not results["checked"]["failed"]
    assert not Path(results["folder"], "not-made").exists()


def test_a_wrong_option_is_named(results: dict[str, Any]) -> None:
    assert results["refused"]["failed"]
    assert "missing required arguments: summary" in results["refused"]["msg"]
