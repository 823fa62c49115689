# SPDX-License-Identifier: GPL-3.0-or-later
"""The module benchmark_timings_info holds the documentation; the action of its name does the work, tested as Ansible runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.action import benchmark_timings_info

Result = dict[str, Any]
Act = Callable[..., Result]


def test_what_each_arm_measured_is_returned(act: Act, timings: Path) -> None:
    result = act(benchmark_timings_info, {"sources": [str(timings)]}, check_mode=True)
    arms = result["summary"]["arms"]
    assert {name: (arm["rounds"], arm["cells"][0]["mean_ms"]) for name, arm in arms.items()} == {
        "none-auto": (5, 12.003),
        "static-auto": (5, 10.003),
    }


def test_a_missing_folder_of_timings_is_named(act: Act, tmp_path: Path) -> None:
    result = act(benchmark_timings_info, {"sources": [str(tmp_path / "gone")]})
    assert result["failed"]
    (problem,) = result["problems"]
    assert problem["code"] == "timings_unusable"
    assert problem["text"] == f"{tmp_path}/gone: no such file or folder: expected JSON lines of the benchmark."
