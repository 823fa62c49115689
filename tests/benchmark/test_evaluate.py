# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line and the collection's modules have in common."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.evaluate import Sides, Target, analyse_sides, checked_margin
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
        analyse_sides(sides, 3.0, Target(tmp_path / "out", "title"))
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "'3.0' is not a margin",
        *(str(tmp_path / name) for name in ("out", "x", "y")),
    ]


def test_an_analysis_alone_writes_nothing(
    four_arms: list[dict[str, Any]], write_lines: Callable[..., Path], tmp_path: Path
) -> None:
    run = write_lines(four_arms)
    target = Target(tmp_path / "out", "title")
    analysis = analyse_sides(Sides(f"{run}@none-auto", f"{run}@static-auto"), 0.03, target, write=False)
    assert analysis.comparison.verdict == "BEATS"
    assert not target.folder.exists()


@pytest.mark.parametrize("value", [0, 1.0, "3 %", float("nan"), ""])
def test_what_is_no_margin_is_named(value: str | float) -> None:
    with pytest.raises(ValueError, match="is not a margin: expected a share above 0"):
        checked_margin(value)
