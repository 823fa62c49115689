# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with draining a node."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_SKIP_NODE = "or leave the node out with --limit."


def no_controller(pod: str) -> Problem:
    return Problem(
        "pod_without_controller",
        f"pod {pod}",
        "has no controller, so nothing would start it again",
        f"Delete it, allow its deletion with `force`, {_SKIP_NODE}",
    )


def daemon_set_missing(pod: str, daemon_set: str) -> Problem:
    return Problem(
        "pod_without_controller",
        f"pod {pod}",
        f"belongs to DaemonSet {daemon_set}, which does not exist, so nothing would start it again",
        f"Delete it, allow its deletion with `force`, {_SKIP_NODE}",
    )


def local_data(pod: str, volumes: Sequence[str]) -> Problem:
    return Problem(
        "pod_local_data",
        f"pod {pod}",
        f"would lose the data of its emptyDir volume{'s' if len(volumes) != 1 else ''} {', '.join(volumes)}",
        f"Save it and allow this with `delete_emptydir_data`, {_SKIP_NODE}",
    )


def _not_evicted(code: str, pod: str, reason: str, remedy: str) -> Problem:
    return Problem(code, f"pod {pod}", f"cannot be evicted: {reason}", remedy)


def several_budgets(pod: str, budgets: Sequence[str]) -> Problem:
    return _not_evicted(
        "several_budgets",
        pod,
        f"it has {len(budgets)} disruption budgets ({', '.join(budgets)}), and the eviction API accepts one",
        f"Change their selectors, {_SKIP_NODE}",
    )


def budget_outdated(pod: str, budget: str, observed: int, generation: int) -> Problem:
    return _not_evicted(
        "budget_outdated",
        pod,
        f"the status of disruption budget {budget} is out of date (generation {observed} of {generation})",
        "Try again in a few seconds; if it stays so, check kube-controller-manager.",
    )


def budget_failing(pod: str, budget: str, reason: str) -> Problem:
    return _not_evicted(
        "budget_failing",
        pod,
        f"disruption budget {budget} allows 0, because its controller fails: {reason.rstrip('.')}",
        f"Repair the budget, {_SKIP_NODE}",
    )


def budget_pod_not_ready(pod: str, budget: str, healthy: int, desired: int) -> Problem:
    return _not_evicted(
        "budget_pod_not_ready",
        pod,
        f"disruption budget {budget} allows 0 (currently {healthy} healthy of {desired} desired), and the pod itself is not ready",
        "Repair its application, relax the budget (in Kubernetes 1.27 and newer with `unhealthyPodEvictionPolicy: "
        f"AlwaysAllow`), {_SKIP_NODE}",
    )


def budget_exhausted(pod: str, budget: str, healthy: int, desired: int) -> Problem:
    return _not_evicted(
        "budget_exhausted",
        pod,
        f"disruption budget {budget} allows 0 (currently {healthy} healthy of {desired} desired)",
        f"Scale its owner up, relax the budget, {_SKIP_NODE}",
    )


def other_cpu_manager(program: str, pod: str) -> Problem:
    return Problem(
        "other_cpu_manager",
        program,
        f"assigns the CPUs of containers on this node (pod {pod}), and so would the static policy: both would overwrite each other",
        f"Use one of them: keep {program} off the node first, or leave the node out with --limit.",
    )
