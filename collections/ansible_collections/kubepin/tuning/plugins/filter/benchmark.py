# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the plans and results of roles gpu_benchmark and host_probe; the roles keep no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark import facts, progress


def benchmark_summary(benchmarks: Any, comparisons: Any) -> str:
    return "\n".join(facts.benchmark_summary(benchmarks, comparisons))


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "benchmark_settings_problems": facts.benchmark_settings_problems,
            "benchmark_plan": facts.benchmark_plan,
            "benchmark_todo": facts.benchmark_todo,
            "benchmark_fact": facts.benchmark_fact,
            "comparison_sources": facts.comparison_sources,
            "comparison_fact": facts.comparison_fact,
            "benchmark_statistics": facts.benchmark_statistics,
            "benchmark_summary": benchmark_summary,
            "plan_with_measurement": facts.with_measurement,
            "measurement_progress": progress.measurement_progress,
        }
