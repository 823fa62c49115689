# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CPUs container_cpus_info finds for the containers of a node."""

from __future__ import annotations

import typing as t
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.cpu_cgroups import read_cpu_cgroups
from ansible_collections.kubepin.tuning.plugins.modules import container_cpus_info

Answer = t.Callable[..., t.Dict[str, t.Any]]
UID, ID = "3a1c2b7e-6f0e-4d0c-8a8e-0f5f0a1b2c3d", "0f" * 32


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a machine with cgroup version 2, which the module reads."""
    monkeypatch.setattr(container_cpus_info, "read_cpu_cgroups", partial(read_cpu_cgroups, str(tmp_path)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("29 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    return tmp_path


@pytest.mark.parametrize("check_mode", [False, True])
def test_each_container_of_a_pod_has_its_cpus(answer: Answer, machine: Path, check_mode: bool) -> None:
    folder = machine / f"sys/fs/cgroup/kubepods/pod{UID}/{ID}"
    folder.mkdir(parents=True)
    (folder / "cpuset.cpus.effective").write_text("2-3\n")
    result = answer("container_cpus_info", _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["cgroups"] == {
        "version": 2,
        "containers": [{"id": ID, "pod": UID, "cpus": "2-3"}],
        "error": None,
    }


def test_a_machine_without_cpu_sets_is_no_failure_and_says_why(answer: Answer, machine: Path) -> None:
    (machine / "proc/self/mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    result = answer("container_cpus_info")
    assert (result.get("failed"), result["cgroups"]["version"], result["cgroups"]["containers"]) == (None, None, [])
    assert result["cgroups"]["error"]


def test_it_takes_no_option(answer: Answer) -> None:
    result = answer("container_cpus_info", root="/tmp")
    assert result["failed"] is True
    assert "Unsupported parameters" in result["msg"]
