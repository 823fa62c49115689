# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what was read of a node, from the results of the modules that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, problems_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.problems import not_read_in_time

Data = Mapping[str, Any]

READ_TIMEOUT = "kubepin_read_timeout"
"""The variable that sets how long a node may take to be read, in all roles that only read nodes."""


def node_facts(topology: Data, kubelet: Data) -> dict[str, Any]:
    """What was read of a node, with `error` and `kubelet_error` if its topology or its kubelet could not be read.

    :param topology: the result of cpu_topology_info, also of a failed task
    :param kubelet: the result of kubelet_info, also of a failed task; that of a skipped task if the node has no kubelet
    """
    return {
        "topology": topology.get("topology", {}),
        "kubelet": kubelet.get("kubelet", {}),
        "error": _error(topology, "topology"),
        "kubelet_error": _error(kubelet, "kubelet"),
    }


def _error(result: Data, name: str) -> str:
    if name in result or result.get("skipped"):
        return ""
    late = timed_out(result, READ_TIMEOUT)
    return late.text if late else str(result.get("msg") or f"the {name} could not be read")


def timed_out(result: Data, variable: str) -> Problem | None:
    """The problem of a task that Ansible ended at its time limit; None for any other result.

    Ansible adds `timedout` to the result then (ansible-core: _internal/_errors/_task_timeout.py).

    :param variable: sets the task's time limit
    """
    limit = result.get("timedout")
    return not_read_in_time(limit["period"], variable) if limit else None


def reading_problems(result: Data, variable: str) -> list[Problem]:
    """Why a task that reads a node failed.

    :param variable: sets the task's time limit
    """
    late = timed_out(result, variable)
    return [late] if late else problems_of(result)
