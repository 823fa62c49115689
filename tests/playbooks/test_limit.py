# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks that read nodes and report once print their report with --limit, too, which leaves localhost out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


def play(folder: Path, playbook: str, *arguments: str, **variables: object) -> str:
    """What a run on two hosts prints that are this machine, which has no kubelet."""
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    nodes = {"gpu-01": here, "gpu-02": here}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"children": {"gpu_nodes": {"hosts": nodes}}}}))
    given = json.dumps({"kubepin_runs": str(folder / "runs"), "kubepin_run": "here", **variables})
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook, "-e", given, *arguments],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "KUBECONFIG": "/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("playbook", "variables", "report", "file"),
    [
        (
            "diagnose-gpu-pods.yml",
            {},
            "kubepin: 0 running containers with a GPU on 1 node:",
            "gpu-diagnosis/diagnosis.txt",
        ),
        ("preview-gpu-nodes.yml", {}, "kubepin: preview of 1 node under the static policy.", "preview/preview.txt"),
        ("emit-node-settings.yml", {"node_settings_formats": ["drop-in"]}, "Nothing was written. ", None),
        ("audit-gpu-pods.yml", {"gpu_qos_pods_file": "PODS"}, "kubepin: 0 GPU pods", "gpu-pods/audit.txt"),
    ],
)
def test_one_node_of_two_is_reported(
    tmp_path: Path, playbook: str, variables: dict[str, object], report: str, file: str | None
) -> None:
    pods = tmp_path / "pods.json"
    pods.write_text(json.dumps({"kind": "List", "items": []}))
    given = {name: str(pods) if value == "PODS" else value for name, value in variables.items()}
    printed = play(tmp_path, playbook, "--limit", "gpu-01", **given)
    assert report in printed
    assert "gpu-02" not in printed
    assert file is None or (tmp_path / "runs/here" / file).is_file()
