# SPDX-License-Identifier: GPL-3.0-or-later
"""The module benchmark_report holds the documentation; the action of its name does the work, tested as Ansible runs it."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.kubepin.tuning.plugins.action import benchmark_report

Result = dict[str, Any]
Act = Callable[..., Result]


def sides(timings: Path, folder: Path) -> Result:
    return {"a": f"{timings}@none-auto", "b": f"{timings}@static-auto", "folder": str(folder)}


def test_a_report_is_written_and_returned(act: Act, timings: Path, tmp_path: Path) -> None:
    result = act(benchmark_report, {**sides(timings, tmp_path / "out"), "label_b": "tuned", "margin": "0.05"})
    assert (result["changed"], result["report"]["verdict"], result["report"]["asked"]) == (False, "BEATS", "whole")
    assert result["report"]["arms"] == {"today": "none-auto", "exclusive": "tuned"}
    assert result["report"]["margin"] == 0.05
    assert json.loads((tmp_path / "out/report.json").read_text()) == result["report"]
    assert sorted(result["files"]) == sorted(map(str, (tmp_path / "out").iterdir()))


def test_check_mode_compares_and_writes_nothing(act: Act, timings: Path, tmp_path: Path) -> None:
    result = act(benchmark_report, sides(timings, tmp_path / "out"), check_mode=True)
    assert result["report"]["verdict"] == "BEATS"
    assert str(tmp_path / "out/report.html") in result["files"]
    assert not (tmp_path / "out").exists()


def test_all_problems_of_a_report_come_at_once(act: Act, timings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    asked = {"a": f"{timings}@gone", "b": str(tmp_path / "lost"), "folder": str(tmp_path / "out"), "margin": 3}
    result = act(benchmark_report, asked)
    assert result["failed"]
    assert [problem["finding"].partition(": ")[0] for problem in result["problems"]] == [
        "'3.0' is not a margin",
        f"{tmp_path}/out",
        f"{timings}/run.jsonl",
        f"{tmp_path}/lost",
    ]
    assert all(problem["text"] in result["msg"] for problem in result["problems"])


def test_a_missing_option_is_named(act: Act, tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="one of the following is required: source, a"):
        act(benchmark_report, {"folder": str(tmp_path)})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"source": ["x"], "a": "x", "b": "y"}, "mutually exclusive: source|a"),
        ({"a": "x"}, "required together: a, b"),
        ({"source": ["x"], "allow_different": ["weather"]}, "value of allow_different must be one or more of: gpu"),
    ],
)
def test_options_that_do_not_belong_together(act: Act, given: Result, problem: str) -> None:
    with pytest.raises(AnsibleError) as refused:
        act(benchmark_report, given)
    assert problem in str(refused.value)


def test_an_experiment_is_judged_without_writing(act: Act, timings: Path, tmp_path: Path) -> None:
    result = act(benchmark_report, {"source": [str(timings)]})
    assert not result["changed"]
    assert result["files"] == []
    report = result["report"]
    assert (report["schema"], report["rounds"], report["is_precise"]) == (4, 5, True)
    assert report["arms"] == {"today": "none-auto", "exclusive": "static-auto"}
    assert report["recommendation"] == "change"
    assert list(tmp_path.iterdir()) == [timings]


def test_a_missing_library_is_named_with_the_way_out(
    act: Act, timings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_scipy(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    result = act(benchmark_report, sides(timings, tmp_path / "out"))
    assert result["failed"]
    assert "library scipy is missing on the control node" in result["msg"]
    assert "Install it for the Python that runs Ansible" in result["msg"]
