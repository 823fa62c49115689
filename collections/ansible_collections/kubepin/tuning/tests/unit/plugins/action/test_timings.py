# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions that evaluate timings, in this process as Ansible runs them."""

from __future__ import annotations

import builtins
import json
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.playbook.task import Task
from ansible_collections.kubepin.tuning.plugins.action import benchmark_index, benchmark_report, benchmark_timings_info
from ansible_collections.kubepin.tuning.plugins.plugin_utils.timings import TimingsAction

Result = t.Dict[str, t.Any]


def run(action: type[TimingsAction], arguments: Result, check_mode: bool = False) -> Result:
    task = Task()
    task.args = arguments
    task.check_mode = check_mode
    unused: t.Any = None
    return action(task, unused, unused, unused, unused, unused).run(None, {})


@pytest.fixture
def timings(tmp_path: Path) -> Path:
    """Five rounds of two arms, of which static is faster, as the program in the pod writes them."""
    common = {"schema": 1, "run_id": "r1", "process": 0}
    cell = {"model": "resnet18", "precision": "half", "mode": "inference", "batch": 64}
    lines = [
        line
        for number in range(1, 6)
        for arm, ms in (("none-auto", 12.0), ("static-auto", 10.0))
        for line in (
            {**common, "kind": "process", "arm": arm, "round": number, "env": {}},
            {
                **common,
                "kind": "block",
                "arm": arm,
                "round": number,
                **cell,
                "status": "ok",
                "iter_ms": [ms + number / 1000],
            },
        )
    ]
    file = tmp_path / "timings" / "run.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file.parent


def sides(timings: Path, folder: Path) -> Result:
    return {"a": f"{timings}@none-auto", "b": f"{timings}@static-auto", "folder": str(folder)}


def test_a_report_is_written_and_returned(timings: Path, tmp_path: Path) -> None:
    result = run(
        benchmark_report.ActionModule, {**sides(timings, tmp_path / "out"), "label_b": "tuned", "margin": "0.05"}
    )
    assert (result["changed"], result["report"]["verdict"], result["report"]["asked"]) == (False, "BEATS", "whole")
    assert result["report"]["arms"] == {"today": "none-auto", "exclusive": "tuned"}
    assert result["report"]["margin"] == 0.05
    assert json.loads((tmp_path / "out/report.json").read_text()) == result["report"]
    assert sorted(result["files"]) == sorted(map(str, (tmp_path / "out").iterdir()))


def test_check_mode_compares_and_writes_nothing(timings: Path, tmp_path: Path) -> None:
    result = run(benchmark_report.ActionModule, sides(timings, tmp_path / "out"), check_mode=True)
    assert result["report"]["verdict"] == "BEATS"
    assert str(tmp_path / "out/report.html") in result["files"]
    assert not (tmp_path / "out").exists()


def test_all_problems_of_a_report_come_at_once(timings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    asked = {"a": f"{timings}@gone", "b": str(tmp_path / "lost"), "folder": str(tmp_path / "out"), "margin": 3}
    result = run(benchmark_report.ActionModule, asked)
    assert result["failed"]
    assert [problem["finding"].partition(": ")[0] for problem in result["problems"]] == [
        "'3.0' is not a margin",
        f"{tmp_path}/out",
        f"{timings}/run.jsonl",
        f"{tmp_path}/lost",
    ]
    assert all(problem["text"] in result["msg"] for problem in result["problems"])


def test_one_page_tells_of_the_reports_of_several_nodes(timings: Path, tmp_path: Path) -> None:
    folders = [str(tmp_path / "runs" / node) for node in ("gpu-01", "gpu-02")]
    for folder in folders:
        run(benchmark_report.ActionModule, {"source": [str(timings)], "folder": folder})
    asked = {"reports": folders, "folder": str(tmp_path / "runs")}
    page = tmp_path / "runs/index.html"
    assert run(benchmark_index.ActionModule, asked, check_mode=True) == {"changed": False, "file": str(page)}
    assert not page.exists()
    run(benchmark_index.ActionModule, asked)
    assert 'href="gpu-02/report.html"' in page.read_text()
    result = run(benchmark_index.ActionModule, {**asked, "reports": [*folders, str(tmp_path / "gone")]})
    assert (result["failed"], [problem["text"] for problem in result["problems"]]) == (True, [result["msg"]])


def test_what_each_arm_measured_is_returned(timings: Path) -> None:
    result = run(benchmark_timings_info.ActionModule, {"sources": [str(timings)]}, check_mode=True)
    arms = result["summary"]["arms"]
    assert {name: (arm["rounds"], arm["cells"][0]["mean_ms"]) for name, arm in arms.items()} == {
        "none-auto": (5, 12.003),
        "static-auto": (5, 10.003),
    }


def test_a_missing_folder_of_timings_is_named(tmp_path: Path) -> None:
    result = run(benchmark_timings_info.ActionModule, {"sources": [str(tmp_path / "gone")]})
    assert result["failed"]
    (problem,) = result["problems"]
    assert problem["code"] == "timings_unusable"
    assert problem["text"] == f"{tmp_path}/gone: no such file or folder: expected JSON lines of the benchmark."


def test_a_missing_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="one of the following is required: source, a"):
        run(benchmark_report.ActionModule, {"folder": str(tmp_path)})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"source": ["x"], "a": "x", "b": "y"}, "mutually exclusive: source|a"),
        ({"a": "x"}, "required together: a, b"),
        ({"source": ["x"], "allow_different": ["weather"]}, "value of allow_different must be one or more of: gpu"),
    ],
)
def test_options_that_do_not_belong_together(given: Result, problem: str) -> None:
    with pytest.raises(AnsibleError) as refused:
        run(benchmark_report.ActionModule, given)
    assert problem in str(refused.value)


def test_an_experiment_is_judged_without_writing(timings: Path, tmp_path: Path) -> None:
    result = run(benchmark_report.ActionModule, {"source": [str(timings)]})
    assert not result["changed"]
    assert result["files"] == []
    report = result["report"]
    assert (report["schema"], report["rounds"], report["is_precise"]) == (4, 5, True)
    assert report["arms"] == {"today": "none-auto", "exclusive": "static-auto"}
    assert report["recommendation"] == "change"
    assert list(tmp_path.iterdir()) == [timings]


def test_a_missing_library_is_named_with_the_way_out(
    timings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_scipy(name: str, *arguments: t.Any) -> t.Any:
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    result = run(benchmark_report.ActionModule, sides(timings, tmp_path / "out"))
    assert result["failed"]
    assert "library scipy is missing on the control node" in result["msg"]
    assert "Install it for the Python that runs Ansible" in result["msg"]
