# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on kubepin's facts; the roles keep no logic in Jinja."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run import report
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.reading import node_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.result import (
    awaited_nodes,
    failure_fact,
    host_facts,
    result_fact,
    with_failure,
)


def preflight_problems(plans: object) -> str:
    return report.preflight_problems(_facts_per_host(plans, "preflight_problems"))


def run_summary(results: object, seconds: float, new: t.Sequence[str] | None = None, continues: bool = False) -> str:
    facts = _facts_per_host(results, "run_summary")
    return "\n".join(report.run_summary(facts, float(seconds), new, continues))


def _facts_per_host(value: object, name: str) -> Mapping[str, Mapping[str, t.Any]]:
    """:raises AnsibleFilterError: if *value* does not map host names to facts"""
    if not isinstance(value, Mapping) or not all(isinstance(facts, Mapping) for facts in value.values()):
        raise AnsibleFilterError(f"kubepin.tuning.{name} expects a dictionary of host name to facts, got {value!r}")
    return value


class FilterModule:
    """kubepin's filters."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {
            "awaited_nodes": awaited_nodes,
            "failure_fact": failure_fact,
            "host_facts": host_facts,
            "node_facts": node_facts,
            "plan_with_failure": with_failure,
            "preflight_problems": preflight_problems,
            "result_fact": result_fact,
            "run_summary": run_summary,
        }
