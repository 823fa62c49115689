# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys
import typing as t
from pathlib import Path

import pytest

Data = t.Dict[str, t.Any]
Answer = t.Callable[..., Data]


def check(node: str, outcome: str, **more: t.Any) -> Data:
    """A fact `kubepin_check`."""
    return {
        "node": node,
        "outcome": outcome,
        "problems": [],
        "unchecked": [],
        "pinned": 0,
        "gpu_containers": [],
        **more,
    }


@pytest.fixture
def write(answer: Answer) -> Answer:
    """Writes the metrics of some checks into a folder."""

    def run(directory: Path, *checks: Data, check_mode: bool = False) -> Data:
        return answer(
            "node_check_metrics", directory=str(directory), checks=list(checks), _ansible_check_mode=check_mode
        )

    return run


def test_a_repaired_node_has_no_problem_left_and_other_nodes_keep_their_files(write: Answer, tmp_path: Path) -> None:
    write(tmp_path, check("a", "drifted", problems=[{"code": "policy_differs"}]), check("b", "as_planned"))
    others = (tmp_path / "kubepin-b.prom").read_text()
    write(tmp_path, check("a", "as_planned"))
    found = (tmp_path / "kubepin-a.prom").read_text()
    assert 'kubepin_node_as_planned{node="a"} 1.0' in found
    assert "policy_differs" not in found
    assert (tmp_path / "kubepin-b.prom").read_text() == others


def test_check_mode_writes_nothing(write: Answer, tmp_path: Path) -> None:
    assert write(tmp_path, check("gpu-01", "as_planned"), check_mode=True)["files"]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named_with_the_way_out(write: Answer, tmp_path: Path) -> None:
    message = write(tmp_path / "none", check("gpu-01", "as_planned"))["msg"]
    assert str(tmp_path / "none") in message
    assert "--collector.textfile.directory" in message


def test_a_folder_that_takes_no_files_is_named(write: Answer, tmp_path: Path) -> None:
    (tmp_path / "kubepin-gpu-01.prom").mkdir()
    message = write(tmp_path, check("gpu-01", "as_planned"))["msg"]
    assert f'node_check_metrics_directory "{tmp_path}" cannot take the metrics: {os.strerror(21)}' in message


def test_a_missing_library_is_named(write: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "library prometheus_client" in write(tmp_path, check("gpu-01", "as_planned"))["msg"]
    assert list(tmp_path.iterdir()) == []
