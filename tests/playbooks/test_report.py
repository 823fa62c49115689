# SPDX-License-Identifier: GPL-3.0-or-later
"""What role report prints in a run of several batches, and what it writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.component

PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  serial: 1
  vars: {kubepin_started: 0, kubepin_run: lab, kubepin_runs: FOLDER}
  tasks:
    - set_fact: {kubepin_result: {schema: 2, node: "{{ inventory_hostname }}", outcome: tuned}}
    - import_role: {name: report}
      run_once: true
      vars: {report_continues: true}

- hosts: all
  connection: local
  gather_facts: false
  vars: {kubepin_started: 0, kubepin_run: lab, kubepin_runs: FOLDER}
  tasks:
    - include_role: {name: report, tasks_from: summary}
"""


def test_each_batch_adds_its_nodes_and_the_end_shows_all(tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.replace("FOLDER", str(tmp_path)))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "gpu-1,gpu-2,gpu-3", playbook],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_ROLES_PATH": str(PROJECT / "roles")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = re.findall(r"kubepin: 3 nodes: .*?(?=\n\n|\Z)", done.stdout, re.DOTALL)
    shown = [re.findall(r"gpu-\d(?=   )", text) for text in printed]
    assert shown == [["gpu-1"], ["gpu-2"], ["gpu-3"], ["gpu-1", "gpu-2", "gpu-3"]]
    assert "2 to come" in printed[0]
    written = (tmp_path / "lab" / "summary.txt").read_text()
    assert re.findall(r"gpu-\d(?=   )", written) == ["gpu-1", "gpu-2", "gpu-3"]
