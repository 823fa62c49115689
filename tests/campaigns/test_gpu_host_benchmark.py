# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of runs, what counts as measured, and what the pod gets. No kubelet is started here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.settings import DEFAULT_KUBERNETES
from tests.campaigns import gpu_host_benchmark


def plan(folder: Path, rounds: int = 2) -> gpu_host_benchmark.Plan:
    return gpu_host_benchmark.Plan(
        binaries=folder / "bin",
        work=folder / "work",
        output=folder,
        run_id="r",
        policies=("none", "static"),
        threads=("auto", "4"),
        rounds=rounds,
        cpus=4,
        reserved="0,1",
        memory="30Gi",
        deadline=0.0,
        python="/usr/bin/python3",
        program=("--matrix", "resnets"),
    )


def test_every_round_has_every_arm_and_even_rounds_run_backwards(tmp_path: Path) -> None:
    arms = [(arm_run.round, arm_run.policy, arm_run.threads) for arm_run in plan(tmp_path).runs()]
    first = [("none", "auto"), ("static", "auto"), ("none", "4"), ("static", "4")]
    assert arms == [(1, *arm) for arm in first] + [(2, *arm) for arm in reversed(first)]


def test_only_a_run_whose_program_ended_as_asked_is_left_out_of_the_next_call(tmp_path: Path) -> None:
    whole, killed, *missing = plan(tmp_path, rounds=1).runs()
    whole.results.write_text('{"schema": 1, "kind": "process"}\n{"schema": 1, "kind": "end"}\n')
    killed.results.write_text('{"schema": 1, "kind": "process"}\n')
    assert (whole.done, killed.done, *(arm_run.done for arm_run in missing)) == (True, False, False, False)


def test_kubelets_differ_in_the_policy_alone(tmp_path: Path) -> None:
    none, static = (gpu_host_benchmark.kubelet_configuration(plan(tmp_path), policy) for policy in ("none", "static"))
    assert {key for key in none if none[key] != static[key]} == {"cpuManagerPolicy"}


def test_the_pod_is_guaranteed_with_whole_cpus_and_runs_the_arguments_of_the_caller(tmp_path: Path) -> None:
    arm_run = plan(tmp_path).runs()[1]
    container = gpu_host_benchmark.pod(plan(tmp_path), arm_run)["spec"]["containers"][0]  # type: ignore[index]
    assert container["resources"] == {"limits": {"cpu": "4", "memory": "30Gi"}}
    words = " ".join(container["command"])
    assert "-m pod round --run-id r --arm static --round 1 --threads auto" in words
    assert words.endswith("--matrix resnets")


def test_the_runc_wrapper_is_valid_python_once_filled_in(tmp_path: Path) -> None:
    compile(gpu_host_benchmark.WRAPPER.format(python="python3", binaries=tmp_path), "wrapper", "exec")


def test_packing_without_a_build_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    assert gpu_host_benchmark.main(["pack", str(tmp_path / "packed")]) == 1
    assert f"python3 -m sandbox build --k8s {DEFAULT_KUBERNETES}" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_the_pod_of_another_policy_has_another_name(tmp_path: Path) -> None:
    names = {
        json.dumps(gpu_host_benchmark.pod(plan(tmp_path), arm_run)["metadata"]) for arm_run in plan(tmp_path).runs()
    }
    assert len(names) == 8
