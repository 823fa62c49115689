# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with variables, inventory and limit of a run."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_KINDS = {"list": ("a list", "[...]"), "dict": ("a dictionary", "{...}")}
_AS_JSON = "On the command line, pass it as JSON ({}), or in a file with -e @FILE: anything else stays text."


def text_given(name: str, kind: str, value: object) -> Problem:
    """:param kind: ``list`` or ``dict``"""
    words, form = _KINDS[kind]
    example = f"-e '{{\"{name}\": {form}}}'"
    return Problem("variable_is_text", f'{name} "{value}"', f"is text: expected {words}", _AS_JSON.format(example))


def batch_invalid(size: object) -> Problem:
    """:param size: of a batch of nodes"""
    return Problem(
        "batches_invalid",
        f'"{size}" in kubepin_batches',
        "is not a number of nodes: expected a whole number from 1 on, or a percentage such as 25%",
        _AS_JSON.format('-e \'{"kubepin_batches": [1, "25%"]}\''),
    )


def report_not_writable(folder: str, reason: str) -> Problem:
    return Problem(
        "report_not_writable",
        f"the report of this run in {folder}",
        f"cannot be written: {reason}",
        "Name another folder in kubepin_runs.",
    )


def not_read_in_time(seconds: int, variable: str) -> Problem:
    """:param variable: sets the time limit"""
    return Problem(
        "host_timed_out",
        "the host",
        f"did not answer within {seconds} s",
        f"If it is slow or overloaded, raise {variable}; otherwise find out what hangs on it.",
    )


def no_nodes() -> Problem:
    return Problem(
        "inventory_without_nodes",
        "The group `gpu_nodes` of the inventory",
        "has no hosts, so there is nothing to do",
        "Without -i, kubepin works on the sandbox: start it with `make sandbox-up`. For your own cluster, copy inventory/example to "
        "inventory/<site>, fill in control_plane and gpu_nodes, and run `ansible-playbook -i inventory/<site> tune-gpu-nodes.yml`.",
    )


def limit_without_nodes(limit: str, groups: Sequence[str], hosts: Sequence[str]) -> Problem:
    """:param hosts: of the groups"""
    return Problem(
        "limit_without_nodes",
        f'--limit "{limit}"',
        f"leaves no host of the group {', '.join(groups)}, so there is nothing to do",
        f"Limit the run to hosts of that group: {', '.join(hosts)}.",
    )


def limit_without_localhost(limit: str) -> Problem:
    return Problem(
        "limit_without_localhost",
        f'--limit "{limit}"',
        "leaves out localhost, so nothing was done: this playbook works on the cluster, not on hosts",
        "Run it without --limit.",
    )


def groups_not_comparable(group_a: str, group_b: str) -> Problem:
    return Problem(
        "groups_not_comparable",
        f'compare_platforms_a "{group_a}" and compare_platforms_b "{group_b}"',
        "are invalid: expected two different groups of the inventory, each with hosts, of which --limit leaves some",
        "Name them on the command line, such as -e compare_platforms_a=amd -e compare_platforms_b=intel.",
    )
