# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with what the operator says about a node's GPU access."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def node_fact_unknown(node: str, key: str, known: Iterable[str]) -> Problem:
    return Problem(
        "node_fact_unknown",
        f"fact {key} of node {node}",
        f"is unknown: expected one of {', '.join(known)}",
        "Correct its name, or remove it.",
    )


def node_fact_invalid(node: str, key: str, value: object, expected: str) -> Problem:
    return Problem("node_fact_invalid", f'fact {key} "{value}" of node {node}', f"is invalid: expected {expected}")


def kubelet_facts_invalid(reason: str) -> Problem:
    return Problem(
        "kubelet_facts_invalid",
        "`kubelet`",
        f"is not what kubepin.tuning.kubelet_info returns: {reason}",
        "Leave it out, and it is read.",
    )
