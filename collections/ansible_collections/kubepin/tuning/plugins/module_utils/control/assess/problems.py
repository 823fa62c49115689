# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every finding of an assessment, and of everything that it could not see."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.installer import Installer
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, listed

_MOST = 5


def _nodes(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'GPU node')} ({listed(names, _MOST)})"


def _verb(number: int, one: str, several: str) -> str:
    return one if number == 1 else several


# Findings


def no_gpu_nodes(nodes: int) -> Problem:
    return Problem(
        "no_gpu_nodes",
        f"none of {counted(nodes, 'node')}",
        "offers a GPU (nvidia.com/gpu, nvidia.com/mig-*) or has the label nvidia.com/gpu.present",
        "Install NVIDIA's device plugin, GPU Operator or DRA driver, and run this again. Without GPUs, there is nothing to pin.",
    )


def policy_none(names: Sequence[str], installer: Installer) -> Problem:
    return Problem(
        "policy_none",
        _nodes(names),
        f"{_verb(len(names), 'runs', 'run')} with cpuManagerPolicy none (installed by {installer.name}): no pod has exclusive CPUs there",
        installer.way,
    )


def pods_too_big(pods: Sequence[str]) -> Problem:
    return Problem(
        "pods_too_big",
        f"{counted(len(pods), 'pod')} ({listed(pods, _MOST)})",
        f"{_verb(len(pods), 'requests', 'request')} more CPUs than the static policy would leave to pods on "
        f"{_verb(len(pods), 'its', 'their')} node: the kubelet would refuse {_verb(len(pods), 'it', 'them')} after the switch",
        "Run `kubepin audit` with an inventory: it forecasts for each pod whether it would be refused, also because of NUMA nodes or "
        "whole cores, and what would let it in. `kubepin tune` stops before it changes anything if a pod would be refused.",
    )


def policy_static(names: Sequence[str]) -> Problem:
    return Problem(
        "policy_static",
        _nodes(names),
        f"{_verb(len(names), 'runs', 'run')} with the static policy already",
        "Check with `kubepin check` whether each is as planned, and whether pods have their CPUs.",
    )


def node_not_ready(names: Sequence[str]) -> Problem:
    return Problem(
        "node_not_ready",
        _nodes(names),
        f"{_verb(len(names), 'is', 'are')} not Ready",
        "Repair them first: kubepin switches no node that is not Ready.",
    )


def old_kubelet(names: Sequence[str]) -> Problem:
    return Problem(
        "old_kubelet",
        _nodes(names),
        f"{_verb(len(names), 'has', 'have')} a kubelet below 1.22, which also updates containers with exclusive CPUs; some container "
        "runtimes then remove their GPU",
        "Upgrade them first: `kubepin upgrade`.",
    )


def pods_wait_for_policy(pods: int) -> Problem:
    return Problem(
        "pods_wait_for_policy",
        counted(pods, "GPU pod"),
        f"{_verb(pods, 'qualifies', 'qualify')} for exclusive CPUs, and would get them under the static policy without a change",
        "Switch their nodes as said above, and measure the gain on one of them: `kubepin tune --benchmark --limit NODE`.",
    )


def pods_not_exclusive(pods: int, owners: int) -> Problem:
    return Problem(
        "pods_not_exclusive",
        counted(pods, "GPU pod"),
        f"of {counted(owners, 'owner')} would share CPUs under the static policy too; the table has the reasons",
        "Run `kubepin audit`, which writes a patch for each owner. It needs the API only, and changes nothing.",
    )


def threads_not_set(pods: int) -> Problem:
    return Problem(
        "threads_not_set",
        counted(pods, "GPU pod"),
        f"{_verb(pods, 'has', 'have')} a CPU limit and no OMP_NUM_THREADS: libraries start a thread for each CPU of the host and run into "
        "the quota",
        "Set OMP_NUM_THREADS to the CPU limit. This needs no switch, and may be all that is needed.",
    )


def no_gpu_pods() -> Problem:
    return Problem(
        "no_gpu_pods",
        "no pod",
        "requests a GPU at present",
        "Run this again while the cluster is at work.",
    )


# What was not seen


def configz_unseen(names: Sequence[str], reason: str) -> Problem:
    return Problem(
        "configz_unseen",
        f"the policy, options and reserved CPUs of {_nodes(names)}",
        f"are unknown: {reason.rstrip('.')}",
        "This needs the permission to `get nodes/proxy` (ClusterRole kubepin-check in docs/rbac.yaml), and nodes that are Ready.",
    )


def pods_unseen(reason: str) -> Problem:
    return Problem(
        "pods_unseen",
        "the GPU pods",
        f"are unknown: {reason.rstrip('.')}",
        "This needs the permission to `list pods` in all namespaces.",
    )


def owners_unseen(reason: str) -> Problem:
    return Problem(
        "owners_unseen",
        "the templates of GPU pods",
        f"are unknown, so pods are listed without their Deployment: {reason.rstrip('.')}",
        "This needs the permissions of ClusterRole kubepin-audit in docs/rbac.yaml.",
    )


def version_unseen(reason: str) -> Problem:
    return Problem("version_unseen", "the version of the API server", f"is unknown: {reason.rstrip('.')}")


def only_on_nodes() -> Problem:
    return Problem(
        "only_on_nodes",
        "cores, caches, NUMA nodes, the CPUs beside each GPU, the kubelet's files and state, and the CPUs in the cgroups of containers",
        "are not in the API",
        "Run `kubepin preview` or `kubepin check`, which read them over SSH, with an inventory. The inventory plugin "
        "kubepin.tuning.gpu_nodes makes one from this kubeconfig (docs/operations.md).",
    )


def only_by_measuring() -> Problem:
    return Problem(
        "only_by_measuring",
        "what exclusive CPUs or a thread count would gain",
        "cannot be read anywhere",
        "Run `kubepin benchmark`, which measures it in pods.",
    )
