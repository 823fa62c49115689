# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with the Kubernetes API, and of every problem and note about taking and draining a node
and the pod that verifies it."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_SKIP_NODE = "or leave the node out with --limit."


def no_controller(pod: str) -> Problem:
    return Problem(
        "pod_without_controller",
        f"pod {pod}",
        "has no controller, so nothing would start it again",
        f"Delete it, allow its deletion with cpu_manager_drain_force: true, {_SKIP_NODE}",
    )


def daemon_set_missing(pod: str, daemon_set: str) -> Problem:
    return Problem(
        "pod_without_controller",
        f"pod {pod}",
        f"belongs to DaemonSet {daemon_set}, which does not exist, so nothing would start it again",
        f"Delete it, allow its deletion with cpu_manager_drain_force: true, {_SKIP_NODE}",
    )


def local_data(pod: str, volumes: Sequence[str]) -> Problem:
    return Problem(
        "pod_local_data",
        f"pod {pod}",
        f"would lose the data of its emptyDir volume{'s' if len(volumes) != 1 else ''} {', '.join(volumes)}",
        f"Save it and allow this with cpu_manager_drain_delete_emptydir_data: true, {_SKIP_NODE}",
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


_OTHER_KUBECONFIG = "or name another kubeconfig with `kubeconfig`."
_NAME_KUBECONFIG = (
    "Name another one: `kubepin assess --kubeconfig FILE`, the variable kubepin_kubeconfig of a playbook, the option kubeconfig of a "
    "module, or the environment variable KUBECONFIG."
)


def client_missing(message: str) -> Problem:
    """:param message: Ansible's, which names the library, the Python and the host"""
    return Problem("client_missing", "", message, "Install what the requirements.txt of kubepin lists.")


def kubeconfig_missing(path: str) -> Problem:
    return Problem("kubeconfig_missing", f'kubeconfig "{path}"', "does not exist", _NAME_KUBECONFIG)


def kubeconfig_invalid(path: str, reason: str) -> Problem:
    return Problem("kubeconfig_invalid", f'kubeconfig "{path}"', f"cannot be used: {reason}", _NAME_KUBECONFIG)


def api_unreachable(server: str, reason: str) -> Problem:
    """:param server: the API server, in words"""
    return Problem(
        "api_unreachable",
        server,
        f"cannot be reached: {reason}",
        f"Check that the control plane is up and reachable from here, {_OTHER_KUBECONFIG}",
    )


def api_unauthorized(server: str, answer: str) -> Problem:
    return Problem("api_unauthorized", server, f"refuses the credentials: {answer}", f"Renew them, {_OTHER_KUBECONFIG}")


def api_forbidden(server: str, answer: str) -> Problem:
    return Problem("api_forbidden", server, f"forbids it: {answer}", f"Grant it, {_OTHER_KUBECONFIG}")


def namespace_terminating(server: str, answer: str) -> Problem:
    return Problem("namespace_terminating", server, f"refuses it: {answer}", "Wait until the namespace is gone.")


def api_refused(server: str, status: int, request: str, answer: str) -> Problem:
    return Problem("api_refused", server, f"answers {status} to {request}: {answer}")


def node_unknown(node: str, server: str, known: Sequence[str]) -> Problem:
    return Problem(
        "node_unknown", f'node "{node}"', f"is not in the cluster of {server}", f"It has: {', '.join(known)}."
    )


def pod_not_removed(what: str, pod: str, seconds: float) -> Problem:
    """:param what: the kind of pod, such as "probe pod" """
    return Problem(
        "pod_not_removed",
        f"the {what} {pod}",
        f"is still there {seconds:g} s after its deletion",
        "Check that the node's kubelet runs.",
    )


def pod_of_others(pod: str, label: str) -> Problem:
    return Problem(
        "pod_of_others",
        f"pod {pod}",
        f"is not kubepin's: it lacks the label {label}",
        "Remove it, or choose another `namespace`.",
    )


def state_not_reached(node: str, seconds: float, unmet: Sequence[str]) -> Problem:
    return Problem(
        "node_state_not_reached",
        f"node {node}",
        f"did not reach the wanted state within {seconds:g} s: {'; '.join(unmet)}",
        f"Look at its events and its kubelet (`kubectl describe node {node}`), or allow more time.",
    )


def drain_timed_out(node: str, seconds: float, remaining: Sequence[str]) -> Problem:
    return Problem(
        "drain_timed_out",
        f"node {node}",
        f"was not empty after {seconds:g} s: {'; '.join(remaining)}",
        "Allow more time, relax the budgets, or look at the pods' finalizers and grace periods.",
    )


def drain_stopped(node: str, remaining: Sequence[str]) -> Problem:
    return Problem(
        "drain_stopped",
        f"the drain of node {node}",
        f"was stopped as asked: {'; '.join(remaining)}",
        "Run again to go on.",
    )


def probe_options_invalid() -> Problem:
    return Problem(
        "probe_options_invalid",
        "`cpus`, `gpus` or `observe_seconds`",
        "is invalid: expected `cpus` of at least 1, `gpus` of at least 0, and `observe_seconds` less than `timeout`",
        "Correct them.",
    )


def probe_not_begun(node: str, seconds: float, missing: str) -> Problem:
    """:param missing: what keeps the kubelet from having reported"""
    return Problem(
        "probe_not_begun",
        f"the probe pod of node {node}",
        f"was not started within {seconds:g} s: {missing}",
        f"Look at the node's kubelet (`kubectl describe node {node}`), or raise `timeout`.",
    )


def kubelet_ended(node: str) -> Problem:
    return Problem(
        "kubelet_ended",
        f"the kubelet of node {node}",
        "has ended: it refuses the API server's connections",
        "See `journalctl --unit kubelet` on the node.",
    )


def probe_refused(pod: str, answer: str) -> Problem:
    return Problem(
        "probe_refused",
        f"the probe pod {pod}",
        f"is refused by the API server: {answer}",
        "Allow it there, or choose another `namespace`.",
    )


def probe_deleted(pod: str) -> Problem:
    return Problem(
        "probe_deleted",
        f"the probe pod {pod}",
        "was deleted by someone else",
        "Run again once the node is left alone.",
    )


def probe_timed_out(pod: str, observed: float, wanted: float, timeout: float, state: str) -> Problem:
    """:param state: what the pod does, or the last error of the API"""
    return Problem(
        "probe_timed_out",
        f"the probe pod {pod}",
        f"was observed for {observed:g} s of {wanted:g} s within {timeout:g} s: {state}",
        "See its events, or raise `timeout`.",
    )


def probe_rejected(node: str, wants: str, reason: str, remedy: str) -> Problem:
    """:param remedy: what the kubelet's reason means, in a whole sentence"""
    return Problem(
        "probe_rejected", f"node {node}", f"rejects the probe pod with {wants}: {reason.rstrip('.')}", remedy
    )


def probe_container_ended(image: str, code: object, reason: str) -> Problem:
    """:param code: its exit code"""
    return Problem(
        "probe_container_ended",
        "the probe's container",
        f"ended with exit code {code} ({reason.rstrip('.')})",
        f"Check that image {image} has /bin/sh, tr and sleep.",
    )


def probe_image_missing(node: str, image: str, reason: str) -> Problem:
    return Problem(
        "probe_image_missing",
        f"node {node}",
        f"cannot get the probe's image {image}: {reason}",
        "Name one that it has or can pull with `image` and `image_pull_secrets`.",
    )


def probe_not_started(node: str, reason: str) -> Problem:
    return Problem(
        "probe_not_started",
        f"node {node}",
        f"cannot start the probe's container: {reason}",
        "Look at the container runtime's log on the node.",
    )


def probe_not_guaranteed(qos: str, namespace: str) -> Problem:
    return Problem(
        "probe_not_guaranteed",
        "the probe pod",
        f"is {qos} instead of Guaranteed: an admission webhook or LimitRange of namespace {namespace} has changed it",
        "Choose another `namespace`.",
    )


def probe_without_device(gpus: str, paths: str) -> Problem:
    return Problem(
        "probe_without_device",
        "the probe pod",
        f"got {gpus}, but no device file {paths} is in it",
        "Name the GPU runtime with `runtime_class`, or what the node has with `gpu_resource` and `device_paths`.",
    )


def probe_device_closed(reason: str) -> Problem:
    return Problem(
        "probe_device_closed",
        "the probe pod",
        f"could not open its device from the start: {reason}",
        "Run a GPU pod of your own on the node: the GPU driver and the container runtime need repair if it fails too.",
    )


def probe_lost_device(seconds: float, reason: str) -> Problem:
    return Problem(
        "probe_lost_device",
        "the probe pod",
        f"lost its device after {seconds:g} s: {reason}",
        "The container runtime took it away when the kubelet updated the container's CPU set.",
    )


def rights_missing(kubeconfig: str, server: str, purposes: Sequence[str], missing: Sequence[str]) -> Problem:
    """:param missing: the permissions, in words"""
    return Problem(
        "rights_missing",
        f'the user of kubeconfig "{kubeconfig}"',
        f"lacks permissions at {server} for {', '.join(purposes)}: {'; '.join(missing)}",
        "Grant them: docs/rbac.yaml has a ClusterRole for each purpose. Or name another kubeconfig in kubepin_kubeconfig.",
    )
