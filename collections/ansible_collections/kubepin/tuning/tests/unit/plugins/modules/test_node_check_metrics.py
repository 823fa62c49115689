# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.modules import node_check_metrics

Data = t.Dict[str, t.Any]


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


class Ended(Exception):
    """The module has ended."""


class Module:
    """What `run` uses of a module."""

    def __init__(self, directory: Path, checks: t.List[Data], check_mode: bool = False) -> None:
        self.params: Data = {"directory": str(directory), "checks": checks}
        self.check_mode = check_mode

    def exit_json(self, **result: t.Any) -> t.NoReturn:
        raise Ended(result)

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        raise Ended({"failed": True, "msg": msg, **result})


def run(module: Module) -> Data:
    """The module's result."""
    with pytest.raises(Ended) as ended:
        node_check_metrics.run(module)
    result: Data = ended.value.args[0]
    return result


def test_a_repaired_node_has_no_problem_left_and_other_nodes_keep_their_files(tmp_path: Path) -> None:
    run(Module(tmp_path, [check("a", "drifted", problems=[{"code": "policy_differs"}]), check("b", "as_planned")]))
    others = (tmp_path / "kubepin-b.prom").read_text()
    run(Module(tmp_path, [check("a", "as_planned")]))
    found = (tmp_path / "kubepin-a.prom").read_text()
    assert 'kubepin_node_as_planned{node="a"} 1.0' in found
    assert "policy_differs" not in found
    assert (tmp_path / "kubepin-b.prom").read_text() == others


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert run(Module(tmp_path, [check("gpu-01", "as_planned")], check_mode=True))["files"]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    message = run(Module(tmp_path / "none", [check("gpu-01", "as_planned")]))["msg"]
    assert str(tmp_path / "none") in message
    assert "--collector.textfile.directory" in message


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "kubepin-gpu-01.prom").mkdir()
    message = run(Module(tmp_path, [check("gpu-01", "as_planned")]))["msg"]
    assert f'node_check_metrics_directory "{tmp_path}" cannot take the metrics: {os.strerror(21)}' in message


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "library prometheus_client" in run(Module(tmp_path, [check("gpu-01", "as_planned")]))["msg"]
    assert list(tmp_path.iterdir()) == []
