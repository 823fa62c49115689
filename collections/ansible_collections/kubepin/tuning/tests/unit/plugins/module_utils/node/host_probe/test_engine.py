# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found of the engines, and what a probe does to cgroups of version 2."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe import engine as host_engine
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.engine import (
    CgroupEngine,
    find_engines,
    find_gpus,
    run_command,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import Engine, Job, Plan
from ansible_collections.kubepin.tuning.tests.unit.plugins.module_utils.node.host_probe.test_plan import FOUND, WANTED


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH to put stand-ins in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host_engine, "_CDI_FILES", (str(tmp_path / "cdi" / "*"),))
    return tmp_path


def program(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_an_engine_that_does_not_answer_says_why(programs: Path) -> None:
    program(programs, "docker", "echo Cannot connect to the Docker daemon. >&2; exit 1")
    (engine,) = find_engines("docker", None, "python3", run_command)
    assert engine.problem == "does not answer: Cannot connect to the Docker daemon."


def test_an_engine_that_hangs_does_not_hold_up_the_run() -> None:
    assert run_command(["/bin/sleep", "9"], 0.1) == (127, "", "no answer within 0 s")


def test_auto_looks_at_all_engines_in_turn(programs: Path) -> None:
    program(programs, "podman", '[ "$1" = info ] && echo 5.2 || exit 1')
    engines = find_engines("auto", "example.org/torch:1", "/no/python", run_command)
    assert [engine.name for engine in engines] == ["docker", "podman", "nerdctl", "cgroup"]
    assert engines[0].problem == "there is no program docker in PATH."
    assert engines[1] == Engine("podman", "5.2", gives_gpus=False, has_image=False)
    assert "/no/python cannot import torch and torchvision" in engines[3].problem


def test_gpus_come_from_the_toolkit_or_a_cdi_specification(programs: Path) -> None:
    for name in ("docker", "podman"):
        program(programs, name, "echo 1")
    assert not any(find_engines(name, None, "", run_command)[0].gives_gpus for name in ("docker", "podman"))
    program(programs, "nvidia-container-runtime-hook", "")
    assert find_engines("docker", None, "", run_command)[0].gives_gpus
    assert not find_engines("podman", None, "", run_command)[0].gives_gpus
    (programs / "cdi").mkdir()
    (programs / "cdi" / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    assert find_engines("podman", None, "", run_command)[0].gives_gpus


def test_a_host_without_the_driver_has_no_list_of_gpus(programs: Path) -> None:
    assert find_gpus(run_command) == []
    program(programs, "nvidia-smi", "echo 0, GPU-aa, 00000000:21:00.0")
    assert [gpu.uuid for gpu in find_gpus(run_command)] == ["GPU-aa"]


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host_engine, "read_cgroup_roots", lambda: (2, {"": str(tmp_path)}))
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def engine() -> CgroupEngine:
    request = dataclasses.replace(WANTED, python=sys.executable)
    return CgroupEngine(request, FOUND, Plan([], Engine("cgroup")))


def test_a_controller_that_the_root_keeps_to_itself_is_lent_and_taken_back(version_2: Path) -> None:
    made = engine()
    control = version_2 / "cgroup.subtree_control"
    made.prepare()
    assert control.read_text() == "+cpuset"
    made.clean()
    assert control.read_text() == "-cpuset"


def test_a_root_that_has_all_controllers_is_left_alone(version_2: Path) -> None:
    control = version_2 / "cgroup.subtree_control"
    control.write_text("cpuset cpu\n")
    made = engine()
    made.prepare()
    made.clean()
    assert control.read_text() == "cpuset cpu\n"


def test_a_cgroup_that_refuses_a_value_is_named(version_2: Path) -> None:
    (version_2 / "kubepin-probe-cpuset-12" / "cpuset.cpus").mkdir(parents=True)
    with pytest.raises(TuningError, match=r"kubepin-probe-cpuset-12/cpuset\.cpus does not take '4-15'"):
        engine().start(Job("cpuset-12", (), 12, "4-15"), sys.stderr.buffer)


def test_cgroups_of_an_interrupted_probe_are_removed(version_2: Path) -> None:
    left = version_2 / "kubepin-probe-quota-auto"
    left.mkdir()
    (version_2 / "system.slice").mkdir()
    assert engine().clean() == [str(left)]
    assert not left.exists()
    assert (version_2 / "system.slice").exists()
