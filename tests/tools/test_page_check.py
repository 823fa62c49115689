# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser, and that the check finds what is wrong with a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import report
from benchmark.evaluate import index_reports
from tests.benchmark import experiments
from tools import page_check

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(page_check.missing() is not None, reason=f"no browser: {page_check.missing()}"),
]


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_nothing_is_wrong_with_a_report(name: str, tmp_path: Path) -> None:
    report.write(experiments.EXPERIMENTS[name](), {"timings.jsonl": b"{}\n"}, tmp_path, "gpu-01", "make it so")
    assert page_check.check([tmp_path / "report.html"]) == []


def test_nothing_is_wrong_with_the_page_of_several_nodes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in experiments.EXPERIMENTS]
    for folder, experiment in zip(folders, experiments.EXPERIMENTS.values()):
        report.write(experiment(), {}, folder, folder.name, "")
    assert page_check.check([index_reports(folders, tmp_path, "What helps on these nodes?")]) == []


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<html><body><p style="color: #ccc; width: 2000px">faint</p><a href="#x" style="outline: none">x</a>'
        "<details><summary>more</summary><p>folded</p></details></body></html>"
    )
    problems = "\n".join(page_check.check([page]))
    for part in ("axe-core html-has-lang", "axe-core color-contrast", "needs 20", "shows no focus"):
        assert part in problems
