# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.mark.parametrize("check_mode", [False, True])
def test_topology(answer: Answer, tmp_path: Path, check_mode: bool) -> None:
    online = tmp_path / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0-1\n")
    result = answer("cpu_topology_info", root=str(tmp_path), _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["topology"] == read_topology(str(tmp_path))
    assert result["topology"]["online"] == "0-1"


def test_a_dump_that_is_none_fails_and_is_named(answer: Answer, tmp_path: Path) -> None:
    result = answer("cpu_topology_info", root=str(tmp_path / "absent"))
    assert result["failed"] is True
    assert f"{tmp_path}/absent is neither a folder nor a tar archive" in result["msg"]


def test_the_documentation_names_all_returned_fields(tmp_path: Path) -> None:
    topology = yaml.safe_load(importlib.import_module(f"{MODULES}.cpu_topology_info").RETURN)["topology"]["contains"]
    assert set(topology) == set(read_topology(str(tmp_path)))
