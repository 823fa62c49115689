# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod

Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def pods(tmp_path: Path) -> str:
    """A file with a pod that gets exclusive CPUs under the static policy, and one that does not."""
    specs = {"whole": pod(main("2 1Gi")), "fractional": pod(main("1500m 1Gi"))}
    items = [{"kind": "Pod", "metadata": {"name": name, "namespace": "ml"}, "spec": specs[name]} for name in specs]
    file = tmp_path / "pods.json"
    file.write_text(json.dumps({"kind": "List", "items": items}))
    return str(file)


@pytest.mark.parametrize("check_mode", [False, True])
def test_pods_of_a_file_are_audited(answer: Answer, pods: str, check_mode: bool) -> None:
    result = answer("gpu_pod_info", pods_file=pods, _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert (result["summary"]["pods"], result["summary"]["exclusive"]) == (2, 1)
    assert result["summary"]["reasons"] == {"fractional_cpu": 1}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param({"cpu_multiple": 0}, "cpu_multiple 0 is invalid: expected a whole number above 0", id="multiple"),
        pytest.param({"pods_file": "absent.json"}, "absent.json", id="no such file"),
        pytest.param({"nodes": {"gpu-01": {"runc": "new"}}}, "gpu-01", id="unknown fact of a node"),
    ],
)
def test_refused(answer: Answer, pods: str, params: dict[str, t.Any], message: str) -> None:
    result = answer("gpu_pod_info", **{"pods_file": pods, **params})
    assert result["failed"] is True
    assert message in result["msg"]


def test_a_file_of_nodes_needs_one_of_pods(answer: Answer) -> None:
    assert "pods_file" in answer("gpu_pod_info", nodes_file="nodes.json")["msg"]
