# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem and note about taking and draining a node."""

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


def arrived(pod: str, tolerates_cordon: bool, devices: Sequence[str]) -> str:
    """The note about a pod that came to the node during its drain."""
    how = (
        "tolerates node.kubernetes.io/unschedulable"
        if tolerates_cordon
        else "was bound to it without the scheduler, or before the cordon"
    )
    effect = (
        f"It holds {', '.join(devices)}, and may lose it when the kubelet restarts: delete it afterwards, or keep it off the node."
        if devices
        else "That does not matter: it keeps running while the kubelet restarts, as pods of DaemonSets do."
    )
    return f"pod {pod} came to the node during the drain, because it {how}. {effect}"


def asks_to_stay(pod: str, annotation: str, value: str) -> str:
    """The note about a pod that a drain evicts, and an autoscaler would not."""
    return (
        f'pod {pod} is evicted although it has the annotation {annotation}: "{value}", which keeps autoscalers from it; '
        "as `kubectl drain`, kubepin heeds disruption budgets only."
    )


def in_use(node: str, owner: str, until: str) -> Problem:
    """:param until: when the mark expires; empty if it does not say so"""
    expiry = f" A mark that nobody removes counts until {until}." if until else ""
    return Problem(
        "node_in_use",
        f"node {node}",
        f"was cordoned by {owner}, which may still be working on it",
        f"Wait until that run has ended.{expiry} If it was killed, take the node over "
        "(cpu_manager_take_over: true, or node_in_use in kubeadm_upgrade_accept).",
        waivable=True,
    )


def other_work(node: str, owner: str, is_upgrade: bool) -> Problem:
    """:param is_upgrade: whether the cordon is an upgrade's; otherwise it is a switch's"""
    playbook = "upgrade-cluster.yml" if is_upgrade else "tune-gpu-nodes.yml"
    return Problem(
        "node_in_other_work",
        f"node {node}",
        f"was cordoned by {owner}, which has not finished",
        f"Let it end, or finish its work with {playbook}. To give it up, check the node and remove the mark: "
        f"`kubectl annotate node {node} kubepin.io/cordoned-`.",
    )


def cordoned_meanwhile(node: str) -> Problem:
    return Problem(
        "node_cordoned_meanwhile",
        f"node {node}",
        "was cordoned by another user after this run had planned its work",
        "Find out why, then run again: kubepin leaves the cordon as it is.",
    )


def in_maintenance(node: str, program: str, mark: str) -> Problem:
    return Problem(
        "node_in_maintenance",
        f"node {node}",
        f"is being worked on by {program}, as its {mark} says",
        "Wait until that is over, or leave the node out with --limit. If the mark is stale, remove it, or go on "
        "regardless (cpu_manager_take_over: true, or node_in_maintenance in kubeadm_upgrade_accept).",
        waivable=True,
    )


def maintenance_may_begin(node: str, program: str, mark: str) -> str:
    """The note about a program that may begin to work on the node."""
    return f"{program} may begin to work on node {node} soon, as its {mark} says."


def other_cpu_manager(program: str, pod: str) -> Problem:
    return Problem(
        "other_cpu_manager",
        program,
        f"assigns the CPUs of containers on this node (pod {pod}), and so would the static policy: both would overwrite each other",
        f"Use one of them: keep {program} off the node first, or leave the node out with --limit.",
    )
