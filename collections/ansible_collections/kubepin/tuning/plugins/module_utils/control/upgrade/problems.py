# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem and note of an upgrade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import Difference
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

CLUSTER = "cluster"
"""The subject of a problem that is not about a single node."""

WAIVABLE = (
    "certificates",
    "disk",
    "external_etcd",
    "image_repository",
    "kubelet_not_restarted",
    "node_in_maintenance",
    "node_in_use",
    "removed_apis",
    "runtime",
)
"""The codes of problems that an operator can waive with `kubeadm_upgrade_accept`."""

_DRAIN_REMEDIES = {
    "pod_without_controller": "Delete it, or allow its deletion with kubeadm_upgrade_drain_force: true.",
    "pod_local_data": "Save it, and allow this with kubeadm_upgrade_drain_delete_emptydir_data: true.",
    "several_budgets": "Change their selectors.",
    "budget_failing": "Repair the budget.",
    "budget_pod_not_ready": "Repair its application, or relax the budget (in Kubernetes 1.27 and newer with "
    "`unhealthyPodEvictionPolicy: AlwaysAllow`).",
    "budget_exhausted": "Scale its owner up, or relax the budget.",
}
"""What to do about a pod that cannot be evicted; leaving its node out is not a remedy here, as all nodes are upgraded."""


def _problem(code: str, subject: str, finding: str, remedy: str) -> Problem:
    return Problem(code, subject, finding, remedy, waivable=code in WAIVABLE)


def version(problem: Problem) -> Problem:
    """:param problem: with a version, or with the path to it"""
    finding = f"cannot be upgraded: {problem.subject} {problem.finding}"
    return _problem(problem.code, CLUSTER, finding, problem.remedy)


def no_batches() -> Problem:
    return Problem(
        "batches_invalid",
        "kubeadm_upgrade_batches",
        "is empty: expected how many workers at a time, such as [1] or [1, 20%]",
    )


def batch_invalid(size: object) -> Problem:
    return Problem(
        "batches_invalid",
        f'"{size}" in kubeadm_upgrade_batches',
        "is not a number of workers: expected a whole number from 1 on, or a percentage such as 20%",
        "On the command line, pass the list as JSON, or in a file with -e @FILE: anything else stays text.",
    )


def not_in_run(node: str) -> Problem:
    return _problem(
        "inventory",
        node,
        "is in the cluster, but not in this run: its kubelet would be left behind, and kubeadm's next minor refuses that",
        "Name it in the inventory (groups control_plane, gpu_nodes, other_nodes), and run without --limit.",
    )


def unknown_node(host: str, node: str, known: Sequence[str]) -> Problem:
    return _problem(
        "inventory",
        CLUSTER,
        f'has no node "{node}", which is the node of host {host} in the inventory. It has {", ".join(known)}',
        "Correct kubepin_node_name.",
    )


def other_machine(node: str, host: str, host_boot_id: str, node_boot_id: str) -> Problem:
    return _problem(
        "inventory",
        node,
        f"is not the machine of host {host} (boot IDs {node_boot_id} and {host_boot_id})",
        "Correct kubepin_node_name.",
    )


def no_control_plane() -> Problem:
    return _problem(
        "inventory",
        CLUSTER,
        "has no control plane node, set up by kubeadm, among the hosts of this run",
        "Name the control plane nodes in the group control_plane.",
    )


def node_unreadable(node: str, host: str, reason: str) -> Problem:
    return _problem(
        "node_unreadable",
        node,
        f"could not be read through host {host}: {reason.strip().rstrip('.')}",
        "Repair it, or correct the inventory.",
    )


def node_problem(node: str, problem: Problem) -> Problem:
    """The same code, with the node as the subject. Never waivable, whatever the code: the operator waives problems of upgrades."""
    return Problem(
        problem.code, node, f"has a problem with its kubelet: {problem.subject} {problem.finding}", problem.remedy
    )


def not_restarted(node: str, differences: Iterable[Difference]) -> Problem:
    """:param differences: at least one"""
    return _problem(
        "kubelet_not_restarted",
        node,
        "has a kubelet that was not restarted since its files or flags were changed, so it is not known to start with them: "
        + "; ".join(each.text for each in differences),
        "Drain the node and restart the kubelet first, or undo these changes.",
    )


def configz_unreadable(node: str, reason: str) -> str:
    return (
        f"the configuration that the kubelet of {node} runs with could not be read ({reason.rstrip('.')}), so that only its flags were "
        "compared with those of its next start"
    )


def not_ready(node: str, reason: str) -> Problem:
    return _problem("not_ready", node, f"is not Ready ({reason})", "Repair it first, or remove it from the cluster.")


def node_in_use(problem: Problem) -> Problem:
    """A node that another run of kubepin may still be working on."""
    return _problem(
        "node_in_use", _node_of(problem), problem.finding, "Wait until that run has ended, unless it was killed."
    )


def node_in_maintenance(problem: Problem) -> Problem:
    """A node that another program works on."""
    remedy = "Wait until that is over; if the mark is stale, remove it."
    return _problem("node_in_maintenance", _node_of(problem), problem.finding, remedy)


def node_in_other_work(problem: Problem) -> Problem:
    """A node with an unfinished switch."""
    return _problem("node_in_other_work", _node_of(problem), problem.finding, problem.remedy)


def _node_of(problem: Problem) -> str:
    return problem.subject.removeprefix("node ")


def kubelet_newer(node: str, kubelet: object, server: object) -> Problem:
    return _problem(
        "skew",
        node,
        f"runs kubelet {kubelet}, which is newer than the API server ({server})",
        f"Install a kubelet of {server} or older.",
    )


def kubelet_too_old(node: str, kubelet: object, allowed: int, server: object) -> Problem:
    return _problem(
        "skew",
        node,
        f"runs kubelet {kubelet}, which is more than {allowed} minors behind the API server ({server})",
        "Upgrade or remove the node by hand.",
    )


def certificates(node: str, days: int, expiring: Sequence[tuple[str, float]]) -> Problem:
    listed = ", ".join(
        f"{path} ({'expired ' if left < 0 else ''}{counted(abs(left), 'day')}{' ago' if left < 0 else ''})"
        for path, left in expiring
    )
    return _problem(
        "certificates",
        node,
        f"has certificates that expire within {days} days: {listed}",
        "Renew them with `kubeadm certs renew all`, and restart the static pods; a running kubelet renews its own.",
    )


def removed_api_requested(resource: str, release: str) -> Problem:
    return _problem(
        "removed_apis",
        CLUSTER,
        f"has a client that requested {resource} since the API server started, which {release} no longer serves",
        "Find the client in the audit log, update it, and restart the API server to reset its counter.",
    )


def removed_api_stored(resource: str, name: str, api: str, writers: str, release: str) -> Problem:
    return _problem(
        "removed_apis",
        CLUSTER,
        f"stores {resource} {name}, written with {api} by {writers}, which {release} no longer serves",
        "Update the manifest, chart or client, and apply it again.",
    )


def removed_api_without_successor(resource: str, name: str, api: str, writers: str, release: str) -> Problem:
    return _problem(
        "removed_apis",
        CLUSTER,
        f"stores {resource} {name} of {api}, written by {writers}, which {release} cannot read, and which the present release has in no "
        "other version",
        "Save it with `kubectl get -o yaml`, delete it, and create it in a version of the new release after the upgrade.",
    )


def removed_api_note(resource: str, release: str) -> str:
    return (
        f"{resource}, which {release} no longer serves, has been requested since the API server started. No stored object was written "
        "with it, and Kubernetes' own programs request it too. If one of your clients may use it, look for it in the audit log."
    )


def no_cgroup_driver(config_map: str, drivers: Sequence[str]) -> Problem:
    return _problem(
        "cgroup_driver",
        CLUSTER,
        f"does not set cgroupDriver in ConfigMap kube-system/{config_map}, and kubeadm 1.22 then writes systemd. The nodes use "
        f"{', '.join(drivers) or 'a driver that could not be read'}",
        f"Set `cgroupDriver: cgroupfs` or `systemd` in it: `kubectl -n kube-system edit configmap {config_map}`.",
    )


def other_cgroup_driver(node: str, driver: str, config_map: str, configured: str) -> Problem:
    return _problem(
        "cgroup_driver",
        node,
        f"uses the cgroup driver {driver}, and ConfigMap kube-system/{config_map} says {configured}, which kubeadm would "
        "write to the node",
        "Make both the same as the container runtime's.",
    )


def dockershim(node: str, runtime: str) -> Problem:
    return _problem(
        "dockershim",
        node,
        f"runs {runtime} through dockershim, which 1.24 no longer has",
        "Move it to containerd or cri-dockerd first.",
    )


def frozen_registry(version: object) -> Problem:
    return _problem(
        "image_repository",
        CLUSTER,
        f"pulls the images of kubeadm {version} from imageRepository k8s.gcr.io, which is frozen and may end at any time",
        "Load image archives (kubeadm_upgrade_image_archives), or name a mirror (`kubectl -n kube-system edit configmap "
        "kubeadm-config`).",
    )


def old_containerd(node: str, runtime: str, minor: int, needed: str) -> Problem:
    return _problem(
        "runtime",
        node,
        f"runs {runtime}, and 1.{minor} needs containerd {needed} or newer",
        "Upgrade the runtime first.",
    )


def cgroup_v1(node: str) -> Problem:
    return _problem(
        "cgroup_v1",
        node,
        "has control groups v1, with which the kubelet of 1.35 refuses to start",
        "Boot it with v2; or, while the cluster is at 1.31 to 1.34, add `failCgroupV1: false`: `kubectl -n kube-system edit "
        "configmap kubelet-config`.",
    )


def removed_flag(node: str, flag: str, minor: int) -> Problem:
    return _problem(
        "kubelet_flags",
        node,
        f"runs its kubelet with --{flag}, which 1.{minor} no longer knows",
        "Move the setting to the kubelet's configuration file, or remove the flag from KUBELET_EXTRA_ARGS.",
    )


def removed_gate(subject: str, where: str, gate: str, minor: int) -> Problem:
    return _problem(
        "feature_gates",
        subject,
        f"sets the feature gate {gate} in {where}, which 1.{minor} no longer knows and does not start with",
        f"Remove {gate} there: what it turned on is either always on or gone.",
    )


def removed_admission_plugin(flag: str, plugin: str, minor: int) -> Problem:
    return _problem(
        "admission_plugins",
        CLUSTER,
        f"names the admission plugin {plugin} in {flag} of its API server, which does not start with it since 1.{minor}",
        f"Remove {plugin} from the extraArgs of apiServer in the ConfigMap kubeadm-config and from the API servers.",
    )


def old_kubeadm_api(version: str, minor: int) -> Problem:
    return _problem(
        "kubeadm_api",
        CLUSTER,
        f"has a kubeadm-config of kubeadm.k8s.io/{version}, which kubeadm no longer reads since 1.{minor}",
        "Convert it with `kubeadm config migrate` of the present version, and put the result into the ConfigMap kubeadm-config.",
    )


def static_pod_references(node: str, path: str, references: Sequence[str], minor: int) -> Problem:
    return _problem(
        "static_pods",
        node,
        f"has a static pod in {path} that refers to {', '.join(references)}, which the kubelet does not start since 1.{minor}",
        "Give it files of the node (hostPath) in their place, make it a DaemonSet, or remove it.",
    )


def events_unlimited(node: str) -> str:
    return (
        f"the kubelet of {node} has eventRecordQPS: 0, which since 1.37 means that it creates events without a limit, where it was a "
        "default limit before: set a number such as 50 (the kubelet's default) to keep one"
    )


def config_overwritten(node: str, config_map: str, fields: Sequence[str]) -> str:
    return (
        f"the configuration file of the kubelet of {node} differs from ConfigMap kube-system/{config_map} in {', '.join(fields)}: "
        "kubeadm will write the ConfigMap's values. To keep those of patches, name the patches' folder in "
        "kubeadm_upgrade_patches_directory"
    )


def drain(node: str, problem: Problem) -> Problem:
    remedy = _DRAIN_REMEDIES.get(problem.code, problem.remedy)
    return _problem("drain", node, f"cannot be drained: {problem.subject} {problem.finding}", remedy)


def disk(node: str, system: Mapping[str, object], needed: int, reserve: int) -> Problem:
    paths = ", ".join(str(path) for path in system["paths"])  # type: ignore[attr-defined]   # a list, from JSON
    return _problem(
        "disk",
        node,
        f"has too little space in {paths}: {system['free_mb']} MB are free, and {needed} MB are needed "
        f"({system['needed_mb']} MB, and {reserve} MB that stay free)",
        "Make room, or lower kubeadm_upgrade_disk_reserve_mb.",
    )


def source(node: str, problem: Problem) -> Problem:
    return _problem(
        "source", node, f"cannot be upgraded from this source: {problem.subject} {problem.finding}", problem.remedy
    )


def server_older(current: str, least: str) -> Problem:
    return Problem(
        "server_older",
        "the API server",
        f"is still at {current}, and the kubelet of {least} must not be newer",
        "Nothing was changed on this node. Find out why the control plane was not upgraded, and run again.",
    )


def external_etcd(node: str) -> Problem:
    return _problem(
        "external_etcd",
        node,
        "does not run etcd as a static pod, so kubepin takes no snapshot of it",
        "Take one yourself.",
    )


def settings_not_kept(path: str, settings: Sequence[str], folder: str) -> Problem:
    return Problem(
        "settings_not_kept",
        path,
        f"was rewritten by kubeadm, and its {', '.join(settings)} cannot be kept",
        f"The kubelet was not restarted. The old file is in {folder}.",
    )
