# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that shape what role gpu_benchmark plans and finds; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.plugin_utils import _benchmark


def benchmark_summary(facts: Any, comparisons: Any) -> str:
    return "\n".join(_benchmark.benchmark_summary(facts, comparisons))


class FilterModule:
    """What Ansible looks for in a filter file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "benchmark_settings_problems": _benchmark.benchmark_settings_problems,
            "benchmark_plan": _benchmark.benchmark_plan,
            "benchmark_todo": _benchmark.benchmark_todo,
            "benchmark_fact": _benchmark.benchmark_fact,
            "comparison_sources": _benchmark.comparison_sources,
            "comparison_fact": _benchmark.comparison_fact,
            "benchmark_statistics": _benchmark.benchmark_statistics,
            "benchmark_summary": benchmark_summary,
        }
