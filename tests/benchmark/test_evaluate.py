# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line and the collection's modules have in common."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.evaluate import Sides, Target, checked_margin, read_experiment, report_experiment, report_sides
from benchmark.experiment import ArmRole, Load, Question, Recommendation
from benchmark.results import InputError

PROJECT = Path(__file__).parents[2]


def test_importing_everything_does_not_wait_for_numpy_and_scipy() -> None:
    program = (
        "import sys; import benchmark.evaluate, benchmark.summary; "
        "print(sorted({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_problems_of_margin_folder_and_both_sides_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    sides = Sides(str(tmp_path / "x"), str(tmp_path / "y"))
    with pytest.raises(InputError) as refused:
        report_sides(sides, 3.0, Target(tmp_path / "out", "title"))
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "'3.0' is not a margin",
        *(str(tmp_path / name) for name in ("out", "x", "y")),
    ]


def test_an_evaluation_alone_writes_nothing(four_arms_file: Path, tmp_path: Path) -> None:
    run = four_arms_file
    target = Target(tmp_path / "out", "title")
    found = report_sides(Sides(f"{run}@none-auto", f"{run}@static-auto"), 0.05, target, write=False)
    assert found.verdict == "BEATS"
    assert not target.folder.exists()


@pytest.mark.parametrize("value", [0, 1.0, "3 %", float("nan"), ""])
def test_what_is_no_margin_is_named(value: str | float) -> None:
    with pytest.raises(ValueError, match="is not a margin: expected a share above 0"):
        checked_margin(value)


Lines = list[dict[str, Any]]
Write = Callable[..., Path]


def test_the_experiment_of_a_folder(four_arms_file: Path) -> None:
    run = four_arms_file
    found = read_experiment([run])
    assert found.arms == {ArmRole.TODAY: "none-auto", ArmRole.THREADS: "none-4", ArmRole.EXCLUSIVE: "static-4"}
    assert (found.label, found.rounds, found.interleaved) == ("node-1", 5, True)
    assert [(one.question, one.load) for one in found.contrasts] == [
        (Question.THREADS, Load.SOLO),
        (Question.EXCLUSIVE, Load.SOLO),
    ]
    assert found.environment["gpu"] == "NVIDIA H200"
    assert found == read_experiment([run.parent])


def later(lines: Lines, factor: float = 1.001) -> Lines:
    """The same processes once more, whose steps take `factor` times as long."""
    timed = [
        {**line, "iter_ms": [step * factor for step in line["iter_ms"]]} if "iter_ms" in line else line
        for line in lines
    ]
    return copy.deepcopy(timed)


def test_halves_are_ordered_by_time(make_lines: Callable[..., Lines], write_lines: Write) -> None:
    """The run that started first is "before", whatever the order of the files and the names of the runs."""
    before = make_lines(["none-auto", "none-4"], run_ids={"none": "z"})
    after = make_lines(["static-4"], run_ids={"static": "m"})
    again = later(make_lines(["none-auto", "none-4"], run_ids={"none": "a"}))
    for lines, hour in ((before, "01"), (after, "02"), (again, "03")):
        for line in lines:
            if line["kind"] == "process":
                line["env"]["started"] = f"2026-01-01T{hour}:00:00Z"
    files = [write_lines(lines, f"{name}.jsonl") for name, lines in (("3", again), ("2", after), ("1", before))]
    found = read_experiment(files)
    assert not found.interleaved
    assert found.recommendation is not Recommendation.REPEAT


def test_tenants_and_loads_are_read(four_arms: Lines, write_lines: Write) -> None:
    lines = [line for line in four_arms if line["arm"] in ("none-auto", "none-4")]
    full = [
        {**line, "load": "full", "tenant": tenant, "tenants": 2}
        for tenant in (0, 1)
        for line in later(lines, 1.001 + tenant / 1000)
    ]
    found = read_experiment([write_lines([*lines, *full])])
    assert [(one.question, one.load) for one in found.contrasts] == [
        (Question.THREADS, Load.SOLO),
        (Question.THREADS, Load.FULL),
    ]
    assert {(one.load, one.tenants) for one in found.throughputs} == {(Load.SOLO, 1), (Load.FULL, 2)}
    assert all(len(rates) == 2 for one in found.throughputs[2:] for rates in one.by_tenant.values())


def test_all_problems_of_an_experiment_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    (tmp_path / "x.jsonl").write_text("oops\n")
    with pytest.raises(InputError) as refused:
        report_experiment(
            [tmp_path / "gone", tmp_path / "x.jsonl"],
            Target(tmp_path / "out", "title"),
            margin=2.0,
            precision=0.0,
            allow_different=["gpu", "weather"],
        )
    assert [problem.partition(": ")[0] for problem in refused.value.problems] == [
        f"{tmp_path}/out",
        "'2.0' is not a margin",
        "0.0 is not a precision",
        "weather cannot be allowed to differ",
        f"{tmp_path}/gone",
        f"{tmp_path}/x.jsonl:1",
    ]
