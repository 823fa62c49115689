# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.modules.run_report import result_files


def test_each_node_has_its_file_and_those_without_a_result_have_none() -> None:
    (found,) = result_files(Path("runs"), {"a": {"node": "gpu-01", "outcome": "tuned"}, "b": {}})
    assert (found.host, found.path) == ("a", Path("runs/gpu-01.json"))
    assert json.loads(found.text)["outcome"] == "tuned"


def test_a_result_is_new_until_its_file_has_it(tmp_path: Path) -> None:
    (file,) = result_files(tmp_path, {"a": {"node": "gpu-01", "outcome": "tuned"}})
    assert file.is_new()
    file.path.write_text(file.text)
    assert not file.is_new()
    (changed,) = result_files(tmp_path, {"a": {"node": "gpu-01", "outcome": "rolled_back"}})
    assert changed.is_new()


def test_a_report_that_cannot_be_written_leaves_the_old_one_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "summary.txt"
    machine = Node(lambda argv: (0, "", ""))
    machine.replace(str(path), "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(UnicodeEncodeError):
        machine.replace(str(path), "\ud800")
    assert [each.name for each in tmp_path.iterdir()] == ["summary.txt"]
    assert path.read_text() == "old"
