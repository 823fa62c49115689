# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of the wrong type end a run with their names and the way out, before any node is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("playbook", ["tune-gpu-nodes.yml", "rollback-gpu-nodes.yml", "upgrade-cluster.yml"])
def test_text_instead_of_a_list_is_a_problem_and_no_traceback(tmp_path: Path, playbook: str) -> None:
    """As `-e 'kubepin_batches=[1]'` gives it. The node does not exist: no connection is tried."""
    inventory = tmp_path / "hosts.json"
    nodes = {"hosts": {"gpu-01": {"ansible_host": "192.0.2.1"}}}
    inventory.write_text(
        json.dumps({"all": {"children": {"gpu_nodes": nodes, "control_plane": {"hosts": {"cp": {}}}}}})
    )
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook),
            *("-e", "kubepin_batches=[1]", "-e", "kubeadm_upgrade_accept=disk", "-e", "cpu_manager_policy_options={}"),
        ],
        cwd=PROJECT,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "kubepin: nothing was changed:" in printed
    for problem in ('"[1]" in kubepin_batches is not a number of nodes', 'kubeadm_upgrade_accept "disk" is text'):
        assert problem in printed.replace("\\", "")
    assert "Traceback" not in printed
    assert "Unexpected Exception" not in printed
    assert "UNREACHABLE" not in printed
