# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that hangs while it is read: the report names it, as it names one that is unreachable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]


@pytest.mark.component
def test_the_report_names_a_host_that_does_not_answer_in_time(tmp_path: Path) -> None:
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    given = {
        "gpu_diagnosis_timeout": 1,
        "kubepin_runs": str(tmp_path / "runs"),
        "kubepin_run": "here",
    }
    hosts = tmp_path / "hosts"
    hosts.write_text(f"[gpu_nodes]\ngpu-01 ansible_connection=local ansible_python_interpreter={hangs}\n")
    command = ["ansible-playbook", "-i", str(hosts), "diagnose-gpu-pods.yml", "-e", json.dumps(given)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "runs/here/gpu-diagnosis/diagnosis.json").read_text())
    assert [(node["node"], "Timed out" in node["error"]) for node in report["nodes"]] == [("gpu-01", True)]
    assert "gpu-01" in (tmp_path / "runs/here/gpu-diagnosis/diagnosis.txt").read_text()


def tasks_of(part: Any) -> Iterator[Mapping[str, Any]]:
    """The tasks in a list of tasks and blocks."""
    for task in part or []:
        yield task
        for section in ("block", "rescue", "always"):
            yield from tasks_of(task.get(section))


def test_a_task_whose_failure_is_reported_reports_a_time_out_too() -> None:
    bounded = [
        (path.relative_to(PROJECT), task)
        for path in sorted(PROJECT.glob("roles/*/tasks/*.yml"))
        for task in tasks_of(yaml.safe_load(path.read_text()))
        if "timeout" in task and task.get("failed_when") is False
    ]
    assert bounded
    assert [(path, task["name"]) for path, task in bounded if task.get("ignore_errors") is not True] == []
