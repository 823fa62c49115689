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
}


@pytest.fixture(scope="module", autouse=True)
def _host() -> None:
    """Only root may make cgroups, one CPU is too few, and torch is not everywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root may make cgroups")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    if subprocess.run([PYTHON, "-c", "import torch, torchvision"], capture_output=True, check=False).returncode:
        pytest.skip(f"{PYTHON} cannot import torch and torchvision (packages python3-torch, python3-torchvision)")


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
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def left_over() -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob("kubepin-probe-*"), *Path("/sys/fs/cgroup").glob("*/kubepin-probe-*")]


def test_all_arms_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    done = play(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / "localhost"
    lines = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    environments = {line["arm"]: line["env"] for line in lines if line["kind"] == "process"}
    quota, cpuset = environments["quota-auto"], environments["cpuset-auto"]
    assert (quota["quota_cpus"], cpuset["quota_cpus"]) == (1, 1)
    assert (quota["cpus_allowed"], cpuset["cpus_allowed"]) == (len(os.sched_getaffinity(0)), 1)
    assert (quota["cpus_effective"], cpuset["cpus_effective"]) == (
        quota["cpus_allowed_list"],
        cpuset["cpus_allowed_list"],
    )
    assert cpuset["policy"] == "cpuset"
    assert [block["status"] for block in lines if block["kind"] == "block"] == ["ok"] * 4
    assert [line["process"] for line in lines if line["kind"] == "end"] == [1, 0, 0]
    assert (folder / "report.html").exists()
    assert "report: " in done.stdout
    assert left_over() == []
    assert list((tmp_path / "host").iterdir()) == []


def test_two_containers_on_all_cpus_time_the_same_cells_at_the_same_time(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        host_probe_load=["solo", "full"],
        host_probe_tenants=2,
        host_probe_slot_seconds=10,
        host_probe_block_seconds=3,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs" / "localhost" / "lines.jsonl").read_text().splitlines()]
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
    assert left_over() == []


def test_busy_neighbours_take_cpus_and_go_with_the_measurement(tmp_path: Path) -> None:
    done = play(tmp_path, host_probe_load=["solo", "busy"], host_probe_slot_seconds=10, host_probe_block_seconds=3)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs" / "localhost" / "lines.jsonl").read_text().splitlines()]
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
    assert "up to 1 rounds would run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_names_all_problems_and_cleans_up(tmp_path: Path) -> None:
    done = play(tmp_path, host_probe_cpus=4096, host_probe_memory="30Gi")
    assert done.returncode != 0
    assert "cpus is 4096" in done.stdout + done.stderr
    assert "memory is '30Gi'" in " ".join((done.stdout + done.stderr).split())
    assert list((tmp_path / "host").iterdir()) == []
