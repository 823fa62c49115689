# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs on several workers at once: who is switched, for whom an event counts, and what is kept when a run is cut off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import SandboxError
from tests.campaigns import gpu_loss, gpu_loss_kubepin
from tests.campaigns.__main__ import parser
from tests.campaigns.base import AnsibleRun
from tests.campaigns.gpu_loss_kubepin import Findings, WorkersLab
from tests.campaigns.gpu_loss_systemd import (
    CDI,
    CONTAINERD,
    HOOK,
    RELOAD,
    ROLLBACK,
    SHARED,
    SPECS,
    START,
    SWITCH,
    WHOLE,
    Result,
    Setting,
    Subject,
)

NONE, STATIC = "w-1", "w-2"


def lab_of(output: Path) -> WorkersLab:
    lab = object.__new__(WorkersLab)
    lab.subjects = [
        Subject(worker, "2.4.2", "1.1.5", injection, SHARED, f"plain-{injection}")
        for worker in (NONE, STATIC)
        for injection in (SPECS, HOOK)
    ]
    lab.settings = {NONE: Setting("none", links=False), STATIC: Setting("static", links=False)}
    lab.findings, lab.output, lab.file = Findings({"kubelet": "1.36.3"}), output, output / "found.json"
    lab.dead, lab.lost, lab.report = {}, [], lambda _text: None
    return lab


def test_no_two_workers_are_alike_and_those_without_links_come_first() -> None:
    trials = WorkersLab.TRIALS
    assert len(set(trials)) == len(trials)
    assert [trial.setting.links for trial in trials] == [False, False, False, False, True, True]
    assert {(trial.setting.policy, trial.runc) for trial in trials if not trial.setting.links} == {
        (policy, runc) for policy in ("none", "static") for runc in ("own", "1.5.3")
    }


@pytest.mark.parametrize(("problem", "runs"), [(gpu_loss_kubepin.RISK, 2), ("", 1)])
def test_one_run_switches_all_workers_with_the_policy_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, runs: int
) -> None:
    lab, calls = lab_of(tmp_path), []

    def playbook(name: str, workers: Sequence[str] = (), **variables: Any) -> AnsibleRun:
        calls.append((name, *workers))
        run = AnsibleRun.ended(0, "")
        monkeypatch.setattr(run, "problems", lambda: {problem: "text"} if problem else {})
        return run

    monkeypatch.setattr(lab, "playbook", playbook)
    lab.happen(SWITCH)
    assert calls == [("tune-gpu-nodes.yml", NONE)] * runs
    assert [it["runc"] for it in lab.findings.switches] == ["1.1.5"]


def test_a_rollback_counts_for_those_that_kept_their_gpu_in_the_switch(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    specs, hook = (it for it in lab.subjects if it.worker == NONE)
    assert lab.concerned(SWITCH) == [specs, hook]
    lab.lost = [hook]
    assert lab.concerned(ROLLBACK) == [specs]


def row(event: str, outcome: str) -> Result:
    return Result("2.4.2", "1.1.5", SPECS, False, "none", SHARED, event, outcome, None, "")


def test_what_was_found_before_a_run_was_cut_off_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of(tmp_path)

    def observe(event: str) -> list[Result]:
        if event == RELOAD:
            raise SandboxError("the machine is gone")
        return [row(event, "kept")]

    for name in ("begin", "remove_all", "diagnose", "observe"):
        monkeypatch.setattr(lab, name, observe if name == "observe" else lambda *_: [])
    with pytest.raises(SandboxError, match="gone"):
        lab.events_of([*lab.settings.values()], (START, RELOAD), [])
    assert [it["event"] for it in json.loads(lab.file.read_text())["rows"]] == [START]


def test_a_container_that_lost_its_gpu_by_itself_is_left_out_of_what_follows(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    lab.leave_out([lab.result(lab.subjects[0], START, "lost", 9, "refused")])
    assert lab.alive() == lab.subjects[1:]


def test_a_pod_whose_gpu_no_resource_names_asks_for_one_that_all_have() -> None:
    def resources(injection: str, real: bool) -> set[str]:
        subject = Subject(NONE, "2.4.2", "1.1.5", injection, SHARED, "handler")
        (container,) = gpu_loss_kubepin.daemon_set(subject, real)["spec"]["template"]["spec"]["containers"]
        return {name for name in container["resources"]["limits"] if "/" in name}

    assert resources(SPECS, real=True) == {"nvidia.com/gpu"}
    assert resources(CDI, real=False) == {"kubepin.local/gpu"}
    assert resources(CDI, real=True) == resources(HOOK, real=False) == {gpu_loss_kubepin.UNSEEN_RESOURCE}


def test_a_worker_is_switched_in_one_way() -> None:
    options = parser().parse_args(["gpu-loss", "--systemd", "--machine", "--kubepin", "--sandbox", "x"])
    with pytest.raises(SandboxError, match="one of them"):
        gpu_loss.run(options)


DATA = Path(__file__).parent / "data/gpu-loss"


@pytest.fixture(scope="module")
def measured() -> Findings:
    return Findings.read(DATA / "systemd-kubepin.json", {})


def test_the_audit_graded_each_container_of_a_real_gpu_as_it_was_measured(measured: Findings) -> None:
    assert len(measured.audited) == 36
    assert {it.measured for it in measured.audited} == {"none", "low", "high"}
    assert [it for it in measured.audited if not it.agrees] == []


@pytest.mark.parametrize(
    ("name", "differing"),
    # The first run's nodes had the journal, but up to systemd 253 journalctl needs --reverse to find the last line before.
    [("systemd-kubepin", {(HOOK, RELOAD, "lost", "unknown")}), ("kubepin-daemon-reload", set())],
)
def test_the_diagnosis_said_of_each_container_of_a_real_gpu_what_happened(
    name: str, differing: set[tuple[str, str, str, str]]
) -> None:
    found = Findings.read(DATA / f"{name}.json", {})
    lost = {it.event for it in found.diagnosed if it.outcome == "lost"}
    assert lost >= {START, RELOAD}
    assert {(it.injection, it.event, it.state, it.cause) for it in found.diagnosed if not it.agrees} == differing


def test_each_event_alone_on_a_real_gpu(measured: Findings) -> None:
    def losing(event: str) -> set[tuple[str, bool, str]]:
        rows = [it for it in measured.rows if it.event == event and it.outcome == "lost" and it.pod == WHOLE]
        return {(it.injection, it.links, it.runc.partition("+")[0]) for it in rows}

    by_links = {(SPECS, False, "1.1.5"), (CDI, False, "1.1.5")}
    by_hook = {(HOOK, False, "1.1.5"), (HOOK, False, "1.5.3"), (HOOK, True, "1.1.5")}
    assert losing(RELOAD) == losing(SWITCH) == by_links | by_hook
    assert losing(CONTAINERD) == losing(ROLLBACK) == set()


def test_kubepin_named_the_risk_before_it_switched_nodes_with_a_real_gpu(measured: Findings) -> None:
    assert [it["outcome"] for it in measured.switches] == ["tuned"] * 3
    assert [{*it["problems"]} for it in measured.switches] == [{gpu_loss_kubepin.RISK}] * 3
