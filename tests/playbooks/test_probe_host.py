# SPDX-License-Identifier: GPL-3.0-or-later
"""probe-host.yml on this machine, with real cgroups and the distribution's torch."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
WORKLOAD = {
    "host_probe_engine": "cgroup",
    "host_probe_cpus": 1,
    "host_probe_gpu": "none",
    "host_probe_rounds": 1,
    "host_probe_threads": ["auto"],
    "host_probe_auto_threads": "affinity",
    "host_probe_cells": ["resnet18:float:inference:4"],
    "host_probe_block_seconds": 0.5,
    "ansible_python_interpreter": PYTHON,
    "ansible_become": False,  # these tests run as root, and sudo would drop the variables below
}
CHEAPER = {
    "ANSIBLE_PIPELINING": "true",
    "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait would take the CPUs of other tests
}
SLOTS = {"host_probe_slot_seconds": 5, "host_probe_block_seconds": 2}
FIND_TORCH = (
    "import sys; from importlib.util import find_spec; sys.exit(not (find_spec('torch') and find_spec('torchvision')))"
)


@pytest.fixture(scope="module", autouse=True)
def _host() -> None:
    """Only root may make cgroups, one CPU is too few, and torch is not everywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root may make cgroups")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    if subprocess.run([PYTHON, "-c", FIND_TORCH], capture_output=True, check=False).returncode:
        pytest.skip(f"{PYTHON} has no torch and torchvision (packages python3-torch, python3-torchvision)")


@pytest.fixture(autouse=True)
def _one_at_a_time() -> Iterator[None]:
    """A host refuses a second probe, and several processes run these tests."""
    with Path(tempfile.gettempdir(), "kubepin-test-of-probes.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def play(folder: Path, *arguments: str, **changes: object) -> subprocess.CompletedProcess[str]:
    variables = json.dumps(
        {
            **WORKLOAD,
            "host_probe_directory": str(folder / "runs"),
            "host_probe_host_directory": str(folder / "host"),
            **changes,
        }
    )
    command = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        variables,
        "playbooks/probe_host.yml",
        *arguments,
    ]
    environment = {**os.environ, **CHEAPER, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def left_over() -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob("kubepin-probe-*"), *Path("/sys/fs/cgroup").glob("*/kubepin-probe-*")]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs/localhost/lines.jsonl").read_text().splitlines()]


def check_one_tenant_of_each_arm(lines: list[dict[str, Any]]) -> None:
    environments = {line["arm"]: line["env"] for line in lines if line["kind"] == "process"}
    quota, cpuset = environments["quota-auto"], environments["cpuset-auto"]
    assert (quota["quota_cpus"], cpuset["quota_cpus"]) == (1, 1)
    assert (quota["cpus_allowed"], cpuset["cpus_allowed"]) == (len(os.sched_getaffinity(0)), 1)
    assert (quota["cpus_effective"], cpuset["cpus_effective"]) == (
        quota["cpus_allowed_list"],
        cpuset["cpus_allowed_list"],
    )
    assert cpuset["policy"] == "cpuset"


def check_report_and_clean_up(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert (folder / "runs/localhost/report.html").exists()
    assert "report: " in done.stdout
    assert left_over() == []
    assert list((folder / "host").iterdir()) == []


@pytest.mark.thorough
def test_all_arms_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    done = play(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(tmp_path)
    check_one_tenant_of_each_arm(lines)
    assert [block["status"] for block in lines if block["kind"] == "block"] == ["ok"] * 4
    assert [line["process"] for line in lines if line["kind"] == "end"] == [1, 0, 0]
    check_report_and_clean_up(tmp_path, done)


def test_two_containers_on_all_cpus_time_the_same_cells_at_the_same_time_and_nothing_is_left(tmp_path: Path) -> None:
    done = play(tmp_path, host_probe_load=["solo", "full"], host_probe_tenants=2, **SLOTS)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(tmp_path)
    blocks = [line for line in lines if line["kind"] == "block"]
    for arm in ("quota-auto", "cpuset-auto"):
        seen = sorted((block["load"], block["tenant"], block["status"]) for block in blocks if block["arm"] == arm)
        assert seen == [("full", 0, "ok"), ("full", 1, "ok"), ("solo", 0, "ok")]
        windows = [
            (block["started"], block["started"] + block["counters"]["wall_ms"] / 1e3)
            for block in blocks
            if (block["arm"], block["load"]) == (arm, "full")
        ]
        assert max(start for start, _end in windows) < min(end for _start, end in windows)
    own = {
        (line["tenant"], line["env"]["cpus_allowed_list"])
        for line in lines
        if line["kind"] == "process" and line["arm"] == "cpuset-auto" and line["load"] == "full"
    }
    assert len({cpu for _tenant, cpu in own}) == len(own) == 2
    check_one_tenant_of_each_arm([line for line in lines if line.get("tenant") == 0 and line["load"] == "solo"])
    check_report_and_clean_up(tmp_path, done)


@pytest.mark.thorough
def test_busy_neighbours_take_cpus_and_go_with_the_measurement(tmp_path: Path) -> None:
    done = play(tmp_path, host_probe_load=["solo", "busy"], **SLOTS)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(tmp_path)
    others: dict[str, list[float]] = {"solo": [], "busy": []}
    for block in (line for line in lines if line["kind"] == "block"):
        counters = block["counters"]
        others[block["load"]].append(counters["host_busy_cpus"] - counters["cpu_ms"] / counters["wall_ms"])
    assert min(others["busy"]) > 0.5
    assert left_over() == []


def test_check_mode_names_both_commands_and_runs_nothing(tmp_path: Path) -> None:
    done = play(tmp_path, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--arm quota" in done.stdout
    assert "--arm cpuset" in done.stdout
    assert "each with these commands in random order: 1" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_refusal_names_all_problems_and_cleans_up(tmp_path: Path) -> None:
    done = play(tmp_path, host_probe_cpus=4096, host_probe_memory="30Gi")
    assert done.returncode != 0
    assert "cpus is 4096" in done.stdout + done.stderr
    assert "memory is '30Gi'" in " ".join((done.stdout + done.stderr).split())
    assert list((tmp_path / "host").iterdir()) == []
