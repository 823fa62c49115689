# SPDX-License-Identifier: GPL-3.0-or-later
"""check-gpu-nodes.yml without any cluster: what cannot be checked is said for each node, and the run fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


def test_nodes_that_cannot_be_read_are_not_checked_and_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[gpu_nodes]\ngpu-01\ngpu-02\n")
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "kubepin_kubeconfig": str(tmp_path / "missing"),
        "kubepin_runs": str(tmp_path / "runs"),
        "kubepin_run": "here",
        "node_check_metrics_directory": str(tmp_path / "metrics"),
    }
    (tmp_path / "metrics").mkdir()
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts"), "check-gpu-nodes.yml", "-e", json.dumps(given)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    folder = tmp_path / "runs/here/check"
    assert (folder / "check.txt").read_text().startswith("kubepin: 2 nodes: 2 not checked\n")
    nodes = json.loads((folder / "check.json").read_text())["nodes"]
    assert [(node["node"], node["outcome"]) for node in nodes] == [("gpu-01", "not_checked"), ("gpu-02", "not_checked")]
    metrics = tmp_path / "metrics"
    assert sorted(path.name for path in metrics.iterdir()) == ["kubepin-gpu-01.prom", "kubepin-gpu-02.prom"]
    assert (
        'kubepin_node_problems{code="node_unread",node="gpu-02"} 1.0' in (metrics / "kubepin-gpu-02.prom").read_text()
    )
