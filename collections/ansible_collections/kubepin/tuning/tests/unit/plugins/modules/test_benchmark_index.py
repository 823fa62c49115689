# SPDX-License-Identifier: GPL-3.0-or-later
"""The module benchmark_index holds the documentation; the action of its name does the work, tested as Ansible runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.action import benchmark_index, benchmark_report

Result = dict[str, Any]
Act = Callable[..., Result]


def test_one_page_tells_of_the_reports_of_several_nodes(act: Act, timings: Path, tmp_path: Path) -> None:
    folders = [str(tmp_path / "runs" / node) for node in ("gpu-01", "gpu-02")]
    for folder in folders:
        act(benchmark_report, {"source": [str(timings)], "folder": folder})
    asked = {"reports": folders, "folder": str(tmp_path / "runs")}
    page = tmp_path / "runs/index.html"
    assert act(benchmark_index, asked, check_mode=True) == {"changed": False, "file": str(page)}
    assert not page.exists()
    act(benchmark_index, asked)
    assert 'href="gpu-02/report.html"' in page.read_text()
    result = act(benchmark_index, {**asked, "reports": [*folders, str(tmp_path / "gone")]})
    assert (result["failed"], [problem["text"] for problem in result["problems"]]) == (True, [result["msg"]])
