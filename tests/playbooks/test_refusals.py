# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks refuse of variables, and what an audit fails on: each with a code, and before anything else is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import outcome

pytestmark = pytest.mark.component
PROJECT = Path(__file__).parents[2]
POD = {
    "kind": "Pod",
    "metadata": {"namespace": "ml", "name": "train"},
    "spec": {
        "nodeName": "gpu-01",
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "1500m", "nvidia.com/gpu": "1"}}}],
    },
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("given", "codes", "said"),
    [
        ({"gpu_qos_apply": True}, ["patches_from_file"], "Omit gpu_qos_pods_file"),
        ({"gpu_qos_nodes": "text"}, ["variable_is_text"], "kubepin: nothing was changed:"),
        ({"gpu_qos_fail_on": "not_exclusive"}, ["gpu_pods_not_exclusive"], "1 of 1 GPU pods have containers"),
        ({"gpu_qos_fail_on": "at_risk"}, ["gpu_pods_at_risk"], "may lose their GPU"),
        ({}, [], "kubepin: 1 GPU pod"),
    ],
)
def test_an_audit_is_refused_or_fails_with_a_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, Any],
    codes: list[str],
    said: str,
) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": [POD]}))
    variables = {
        "ansible_python_interpreter": sys.executable,
        "gpu_qos_pods_file": str(tmp_path / "pods.json"),
        "kubepin_runs": str(tmp_path / "runs"),
        **given,
    }
    monkeypatch.chdir(PROJECT)
    command = ["ansible-playbook", "-i", "localhost,", "audit-gpu-pods.yml", "-e", json.dumps(variables)]
    status = outcome.main(command)
    found = json.loads(capsys.readouterr().out)
    assert (bool(status), found["codes"]) == (bool(codes), codes)
    assert said in " ".join(found["said"])
