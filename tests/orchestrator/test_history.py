# SPDX-License-Identifier: GPL-3.0-or-later
"""`kubepin runs`: what each run found on its nodes, and what changed since the run before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.__main__ import main

ENVIRONMENT = {"gpu": "NVIDIA H100", "driver": "570.1", "torch": "2.5.1", "kernel": "6.8.0"}
CONTRASTS = [
    {
        "question": "threads",
        "name": "threads set against today",
        "load": "solo",
        "load_name": "idle node",
        "ratio": 2.31,
        "low": 2.16,
        "high": 2.47,
        "verdict": "BEATS",
    },
    {
        "question": "exclusive",
        "name": "exclusive CPUs against threads set",
        "load": "full",
        "load_name": "full node",
        "ratio": 0.85,
        "low": 0.79,
        "high": 0.91,
        "verdict": "WORSE",
    },
]
Keep = Callable[..., Path]


@pytest.fixture
def keep(project: Path) -> Keep:
    """Writes the folder of a run that measured nodes, as kubepin and its roles leave it behind."""

    def write(
        hour: int,
        nodes: Mapping[str, Mapping[str, Any]],
        *,
        kubelet: str = "v1.33.1",
        kubepin: str = "v1.0",
        variables: Mapping[str, Any] | None = None,
        schema: int = 4,
    ) -> Path:
        folder = project / "runs" / f"2026-11-27T{hour:02}-00-00Z"
        folder.mkdir(parents=True)
        request: dict[str, Any] = {
            "inventory": [],
            "limit": None,
            "variables": variables or {},
            "variable_files": [],
            "check": False,
        }
        started = f"2026-11-27T{hour:02}:00:00+00:00"
        attempt = {"started": started, "ended": started, "verdict": "done", "exit_code": 0}
        record = {
            "schema": 1,
            "run": folder.name,
            "verb": "benchmark",
            "request": request,
            "versions": {"kubepin": kubepin},
            "inventory_sha256": "0",
            "attempts": [attempt],
        }
        measured = {"policy": "static", "kubelet": kubelet}
        facts = {node: {"kubepin_benchmark": {"node": node, "runs": {"run": measured}}} for node in nodes}
        hosts = [{"host": node, "outcome": "measured", "facts": found} for node, found in facts.items()]
        result = {"schema": 1, "sentence": "benchmark done", "hosts": hosts}
        for name, content in (("run.json", record), ("result.json", result)):
            (folder / name).write_text(json.dumps(content))
        for node, changes in nodes.items():
            report = {
                "schema": schema,
                "recommendation": "set_threads",
                "lead": "Set the number of threads",
                "line": "benchmark: Set the number of threads.",
                "contrasts": CONTRASTS,
                "environment": ENVIRONMENT,
                **changes,
            }
            path = folder / "benchmark" / node / "run" / "report.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(report))
        return folder

    return write


def listed(project: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["runs", "--json"], project) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_runs_say_what_they_found_newest_first(project: Path, keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    for hour in (8, 9):
        keep(hour, {"gpu-01": {}})
    newest, oldest = listed(project, capsys)
    assert (newest["run"], newest["started"]) == ("2026-11-27T09-00-00Z", "2026-11-27T09:00:00+00:00")
    (node,) = newest["benchmark"]["nodes"]
    assert (node["node"], node["advice"], node["contrasts"]) == ("gpu-01", "set_threads", CONTRASTS)
    assert node["conditions"] == {"Kubernetes": "v1.33.1", **ENVIRONMENT, "policy": "static"}
    assert (newest["benchmark"]["since"], newest["benchmark"]["changes"]) == (oldest["run"], [])
    assert (oldest["benchmark"]["since"], oldest["versions"]) == (None, {"kubepin": "v1.0"})


def test_the_list_for_people_names_advice_intervals_and_changes(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "260")
    keep(8, {"gpu-01": {}})
    keep(9, {"gpu-01": {"environment": {**ENVIRONMENT, "kernel": "6.9.0"}}}, kubelet="v1.34.0")
    assert main(["runs"], project) == 0
    rows = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
    assert rows[1].startswith("2026-11-27T09-00-00Z benchmark done")
    assert rows[2:5] == [
        "gpu-01: Set the number of threads (times as fast: threads set against today: 2.31 [2.16, 2.47]; "
        "exclusive CPUs against threads set, full node: 0.85 [0.79, 0.91])",
        "Kubernetes v1.34.0, gpu NVIDIA H100, driver 570.1, torch 2.5.1, kernel 6.9.0, policy static",
        "since 2026-11-27T08-00-00Z: gpu-01: Kubernetes v1.33.1 -> v1.34.0; gpu-01: kernel 6.8.0 -> 6.9.0",
    ]


def test_a_report_of_an_earlier_version_is_listed_with_its_codes(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "260")
    unnamed = [{key: value for key, value in one.items() if "name" not in key} for one in CONTRASTS]
    keep(8, {"gpu-01": {"contrasts": unnamed}})
    assert main(["runs"], project) == 0
    assert "threads: 2.31 [2.16, 2.47]; exclusive, full: 0.85" in " ".join(capsys.readouterr().out.split())


def test_the_same_advice_is_no_claim_about_ratios(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "260")
    keep(8, {"gpu-01": {}})
    keep(9, {"gpu-01": {"contrasts": [{**CONTRASTS[0], "ratio": 1.2, "low": 1.1, "high": 1.3}]}})
    keep(10, {"gpu-01": {"recommendation": "pin_if_busy"}})
    assert main(["runs"], project) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "since 2026-11-27T08-00-00Z: same advice and conditions" in shown
    assert "since 2026-11-27T09-00-00Z: gpu-01: advice set threads -> pin if busy" in shown


def test_what_changed_is_about_the_last_run_of_the_same_nodes(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    first = keep(7, {"gpu-01": {}}, variables={"gpu_benchmark_batch": 12})
    keep(8, {"gpu-01": {}, "gpu-02": {}})
    (project / "runs" / "2026-11-27T08-30-00Z").mkdir()
    keep(9, {"gpu-01": {"recommendation": "both"}}, kubepin="v1.1")
    newest = listed(project, capsys)[0]["benchmark"]
    assert newest["since"] == first.name
    assert newest["changes"] == [
        {"node": "", "what": "kubepin", "before": "v1.0", "after": "v1.1"},
        {"node": "", "what": "gpu_benchmark_batch", "before": "12", "after": "not set"},
        {"node": "gpu-01", "what": "advice", "before": "set_threads", "after": "both"},
    ]


def test_a_report_of_another_version_is_left_out_and_its_run_is_listed(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(8, {"gpu-01": {}}, schema=1)
    (run,) = listed(project, capsys)
    assert (run["verdict"], run["benchmark"]["nodes"]) == ("done", [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contrasts": [{**CONTRASTS[0], "ratio": "fast"}]}, 'contrasts[0].ratio is "fast"; expected a number'),
        ({"contrasts": [{"load": "solo"}]}, "lacks contrasts[0].question"),
        ({"line": None}, "line is null; expected a text"),
        ({"recommendation": None}, "lacks verdict"),
    ],
)
def test_a_damaged_report_is_named(
    project: Path, keep: Keep, capsys: pytest.CaptureFixture[str], changes: Mapping[str, Any], words: str
) -> None:
    folder = keep(8, {"gpu-01": changes})
    assert main(["runs"], project) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"kubepin: passed over: {folder}/benchmark/gpu-01/run/report.json")
    assert words in said
