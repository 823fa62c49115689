# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs under cgroup v2 and the systemd driver: what pods' logs mean, which pods are made, and what the audit says of them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sandbox import containerd
from tests.campaigns import gpu_loss_systemd as campaign
from tests.campaigns.gpu_loss_systemd import CDI, HOOK, SHARED, SPECS, START, WHOLE, Result, Subject

MEASURED = sorted((Path(__file__).parent / "data/gpu-loss").glob("systemd-*.json"))

REFUSED = "refused nvidia-smi=Failed_to_initialize_NVML:_Unknown_Error cuda=error_100 held=works"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        pytest.param([(100, "open")], ("kept", None), id="kept"),
        pytest.param([(100, "open nvidia-smi=works"), (208, REFUSED)], ("lost", 8), id="lost"),
        pytest.param([(100, "open"), (120, REFUSED)], ("lost before", None), id="lost before the event"),
        pytest.param([(100, "open cuda=works"), (208, "open cuda=error_2")], ("kept", None), id="no memory is no loss"),
        pytest.param([], ("no word", None), id="no word"),
    ],
)
def test_what_an_event_did_to_a_container(lines: Any, outcome: Any) -> None:
    assert campaign.outcome_of(lines, since=200.9)[:2] == outcome


def test_logs_of_several_pods_are_told_apart() -> None:
    text = (
        "==> /var/log/pods/default_hook-own-legacy-shared-1_0af/main/0.log\n"
        "2026-11-28T09:32:48.1Z stdout F 100 open\n2026-11-28T09:32:58.1Z stdout F 110 refused x=y\n"
        "==> /var/log/pods/default_neighbour-1_1b/main/0.log\n"
    )
    assert campaign.parse_logs(text) == {
        "hook-own-legacy-shared-1": [(100, "open"), (110, "refused x=y")],
        "neighbour-1": [],
    }


@pytest.mark.parametrize("version", ["version = 2\n", "version = 3\n"])
@pytest.mark.parametrize("systemd", [True, False])
def test_each_handler_has_its_runc_and_only_those_with_the_hook_its_specification(version: str, systemd: bool) -> None:
    config = f"{version}[plugins.'a'.containerd.runtimes.runc.options]\nSystemdCgroup = {str(systemd).lower()}\n"
    text = config + campaign.runtimes(config, {"plain-a": ("/opt/runc-a", False), "hook-a": ("/opt/runc-a", True)})
    found = tomllib.loads(text)["plugins"][containerd.cri_plugin(config)]["containerd"]["runtimes"]
    assert found["hook-a"]["options"] == {"BinaryName": "/opt/runc-a", "SystemdCgroup": systemd}
    assert "base_runtime_spec" in found["hook-a"]
    assert "base_runtime_spec" not in found["plain-a"]


def subject(injection: str, kind: str) -> Subject:
    return Subject("loss-worker-2", "2.4.2", "1.5.3", injection, kind, "plain-1-5-3")


def test_pods_get_the_stand_in_in_the_way_that_is_measured() -> None:
    def container(injection: str) -> Any:
        return campaign.manifest(subject(injection, WHOLE), real=False)["spec"]["containers"][0]

    assert container(SPECS)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container(CDI)["resources"]["limits"]["kubepin.local/gpu"] == 1
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"} in container(HOOK)["env"]
    assert not [name for name in container(HOOK)["resources"]["limits"] if "/" in name]


def test_pods_of_two_workers_have_names_of_their_own() -> None:
    names = {subject(injection, kind).pod for injection in (SPECS, CDI, HOOK) for kind in campaign.KINDS}
    assert len(names) == 9
    assert all(len(name) <= 63 for name in names)


def test_a_real_gpu_comes_from_nvidias_plugin_or_runtime_and_the_rest_from_the_host() -> None:
    def container(injection: str) -> tuple[Any, list[str]]:
        pod = campaign.manifest(subject(injection, WHOLE), real=True)["spec"]
        (found,) = pod["containers"]
        return found, [mount["mountPath"] for mount in found["volumeMounts"]]

    specs, mounts = container(SPECS)
    assert specs["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert set(mounts) >= {"/host/usr", "/usr/local/nvidia"}
    for injection, mounted in ((CDI, []), (HOOK, mounts)):
        found, mounts_found = container(injection)
        assert mounts_found == mounted
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"} in found["env"]
        assert not [name for name in found["resources"]["limits"] if "/" in name]


def read(path: Path) -> tuple[str, list[Result]]:
    """The kubelet's version and the rows of one measurement."""
    data = json.loads(path.read_text())
    return data["kubelet"], [Result(**row) for row in data["rows"]]


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_the_audit_grades_each_container_as_it_was_measured(path: Path) -> None:
    kubelet, rows = read(path)
    seen = {key: (found[0], campaign.measured_grade(found)) for key, found in campaign.by_container(rows).items()}
    known = {key: (row, grade) for key, (row, grade) in seen.items() if grade is not None}
    assert {grade for _, grade in known.values()} >= {"low", "high"}
    graded = {key: campaign.grade(row, kubelet) for key, (row, _) in known.items()}
    assert graded == {key: grade for key, (_, grade) in known.items()}


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_the_diagnosis_names_what_took_each_gpu_that_was_lost(path: Path) -> None:
    kubelet, rows = read(path)
    lost = [row for row in rows if row.outcome == "lost"]
    assert {row.event for row in lost} >= {START, campaign.RESTART}
    said = {row: campaign.diagnosis(row, kubelet) for row in lost}
    assert {found["state"] for found in said.values()} == {"lost"}
    assert {row: found["cause"] for row, found in said.items()} == {
        row: campaign.cause_of(row, row.event) for row in lost
    }


def row(event: str, outcome: str, kind: str = SHARED) -> Result:
    return Result("2.4.2", "1.1.5", SPECS, False, "static", kind, event, outcome, None, "open")


@pytest.mark.parametrize(
    ("lost", "grade"),
    [((), "none"), ((campaign.RELOAD,), "low"), ((campaign.RELOAD, campaign.NEIGHBOUR), "high")],
)
def test_a_loss_without_an_act_grades_higher_than_one_by_an_act(lost: tuple[str, ...], grade: str) -> None:
    rows = [row(event, "lost" if event in lost else "kept") for event in campaign.EVENTS]
    assert campaign.measured_grade(rows) == grade


def test_a_container_of_which_too_little_was_seen_has_no_grade() -> None:
    assert campaign.measured_grade([row(START, "kept"), row(campaign.RESTART, "kept")]) is None


def test_a_line_of_the_table_has_each_event_and_the_grade_of_the_audit() -> None:
    (line,) = campaign.lines([row(START, "kept", WHOLE), row(campaign.RELOAD, "lost", WHOLE)], "1.36.3")
    cells = dict(zip(campaign.HEADINGS, line, strict=True))
    assert (cells[START], cells[campaign.RESIZE], cells[campaign.RELOAD], cells["audit"]) == (
        "kept",
        "-",
        "lost",
        "low",
    )


def lab_of(settings: dict[str, campaign.Setting]) -> campaign.SystemdLab:
    lab = object.__new__(campaign.SystemdLab)
    lab.settings, lab.dead = settings, {}
    lab.subjects = [
        Subject(worker, "2.4.2", "1.5.3", SPECS, kind, "plain-1-5-3") for worker in settings for kind in campaign.KINDS
    ]
    return lab


@pytest.mark.parametrize(("workers", "batches"), [(4, [4]), (3, [3, 1]), (1, [1, 1, 1, 1])])
def test_each_setting_is_tried_once_and_as_many_at_once_as_there_are_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, batches: list[int]
) -> None:
    tried: list[list[campaign.Setting]] = []

    def trial(settings: list[campaign.Setting]) -> list[Result]:
        tried.append(settings)
        return []

    lab = lab_of({})
    monkeypatch.setattr(lab, "workers", [None] * workers, raising=False)
    monkeypatch.setattr(lab, "install", lambda: None)
    monkeypatch.setattr(lab, "trial", trial)
    lab.run()
    assert [len(batch) for batch in tried] == batches
    assert [setting for batch in tried for setting in batch] == [*campaign.SETTINGS]


@pytest.mark.parametrize(
    ("event", "concerned"),
    [
        (campaign.RELOAD, {"w-1": 3, "w-2": 3}),
        (campaign.SWITCH, {"w-1": 3, "w-2": 0}),
        (campaign.RESIZE, {"w-1": 3, "w-2": 1}),
    ],
)
def test_an_event_counts_only_for_the_containers_to_which_it_happens(event: str, concerned: dict[str, int]) -> None:
    lab = lab_of({"w-1": campaign.Setting("none", links=False), "w-2": campaign.Setting("static", links=False)})
    found = [subject.worker for subject in lab.concerned(event)]
    assert {worker: found.count(worker) for worker in concerned} == concerned


def test_a_pod_that_was_started_again_is_not_taken_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        def run(self, *_: str, check: bool) -> str:
            folder = "==> /var/log/pods/default_hook-own-legacy-shared-1_"
            return f"{folder}9\nx stdout F 100 open\nx stdout F 110 {REFUSED}\n{folder}0\nx stdout F 131 open\n"

    lab = lab_of({})
    monkeypatch.setattr(lab, "workers", [Node()], raising=False)
    lab.started = {"hook-own-legacy-shared-1": 130.5}
    assert lab.logs() == {"hook-own-legacy-shared-1": [(131, "open")]}
