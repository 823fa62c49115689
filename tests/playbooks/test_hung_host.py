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


def host_that_hangs(folder: Path) -> str:
    """An inventory with a node whose Python does not answer."""
    hangs = folder / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    hosts = folder / "hosts"
    hosts.write_text(f"[gpu_nodes]\ngpu-01 ansible_connection=local ansible_python_interpreter={hangs}\n")
    return str(hosts)


def play(folder: Path, playbook: str, **given: Any) -> subprocess.CompletedProcess[str]:
    variables = {"kubepin_read_timeout": 1, "kubepin_runs": str(folder / "runs"), "kubepin_run": "here", **given}
    command = ["ansible-playbook", "-i", host_that_hangs(folder), playbook, "-e", json.dumps(variables)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.component
@pytest.mark.parametrize(
    ("playbook", "given", "variable"),
    [
        ("diagnose-gpu-pods.yml", {}, "gpu_diagnosis_timeout"),
        ("preview-gpu-nodes.yml", {}, "kubepin_read_timeout"),
        ("emit-node-settings.yml", {"node_settings_formats": "drop-in"}, "kubepin_read_timeout"),
        ("audit-gpu-pods.yml", {"gpu_qos_pods_file": "pods.json"}, "kubepin_read_timeout"),
    ],
)
def test_the_report_names_a_host_that_does_not_answer_in_time(
    tmp_path: Path, playbook: str, given: Mapping[str, str], variable: str
) -> None:
    (tmp_path / "pods.json").write_text('{"kind": "List", "items": []}')
    files = {name: str(tmp_path / value) for name, value in given.items() if name.endswith("_file")}
    done = play(tmp_path, playbook, **{**given, **files})
    said = " ".join(done.stdout.split())
    assert "gpu-01" in said
    assert "did not answer within 1 s" in said, done.stdout + done.stderr
    assert f"raise {variable}" in said


@pytest.mark.component
@pytest.mark.parametrize(
    "playbook", ["audit-gpu-pods.yml", "diagnose-gpu-pods.yml", "emit-node-settings.yml", "preview-gpu-nodes.yml"]
)
def test_a_variable_of_the_wrong_type_is_refused_before_a_node_is_read(tmp_path: Path, playbook: str) -> None:
    done = play(tmp_path, playbook, kubepin_batches="[1]")
    assert done.returncode != 0
    assert "variable_is_text" in done.stdout or "batches_invalid" in done.stdout
    assert "did not answer" not in done.stdout
    assert "Timed out" not in done.stdout


@pytest.mark.component
def test_a_diagnosis_goes_on_without_a_host_that_hangs(tmp_path: Path) -> None:
    done = play(tmp_path, "diagnose-gpu-pods.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "runs/here/gpu-diagnosis/diagnosis.json").read_text())
    assert [(node["node"], "did not answer" in node["error"]) for node in report["nodes"]] == [("gpu-01", True)]
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


def test_users_can_raise_every_time_limit_of_reading() -> None:
    limits = [
        (path.relative_to(PROJECT), task["timeout"])
        for path in sorted(PROJECT.glob("roles/*/tasks/*.yml"))
        for task in tasks_of(yaml.safe_load(path.read_text()))
        if "timeout" in task and task.get("failed_when") is False
    ]
    assert len(limits) >= 11
    assert [(path, limit) for path, limit in limits if "_timeout" not in str(limit)] == []
