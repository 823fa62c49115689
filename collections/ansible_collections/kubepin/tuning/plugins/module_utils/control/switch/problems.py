# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a switch or its rollback."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import Difference


def reserved_count_not_whole(value: object) -> Problem:
    return Problem(
        "reserved_cpu_count_invalid",
        f'reserved_cpu_count "{value}"',
        "is invalid: expected a whole number of CPUs",
    )


def options_not_a_dictionary(value: object) -> Problem:
    return Problem(
        "policy_options_invalid",
        f'policy_options "{value}"',
        'is invalid: expected a dictionary, such as {"full-pcpus-only": true}',
    )


def profile_unknown(value: object, known: Iterable[str]) -> Problem:
    return Problem("profile_unknown", f'profile "{value}"', f"is unknown: expected one of {', '.join(known)}")


def profile_without(profile: str, what: str) -> Problem:
    """:param what: what the machine does not tell"""
    return Problem(
        "profile_not_for_machine",
        f"profile {profile}",
        f"needs {what}, and the machine tells none, as some virtual machines do",
        "Use the profile balanced, or have the hypervisor show the host's topology.",
    )


def changed_since(path: str) -> Problem:
    return Problem(
        "file_changed_since",
        path,
        "was changed after the switch that is to be rolled back",
        "Undo that edit first, or restore the file by hand from the switch's journal and remove the journal.",
    )


def restarts_more(service: str) -> Problem:
    """:param service: of k3s, RKE2 or MicroK8s"""
    if service.startswith("snap."):
        with_it = (
            "also kube-proxy and, unless this node joined as a worker, its API server, scheduler and controller manager"
        )
    elif service.endswith("-agent"):
        with_it = "the agent, which also supervises the container runtime"
    else:
        with_it = "this server of the control plane and its agent"
    return Problem(
        "restarts_more",
        "the switch",
        f"restarts {service}.service: not only the kubelet, but {with_it}. Containers keep running",
        waivable=True,
    )


def revert_takes_away(title: str, root_dir: str) -> Problem:
    """:param title: the human-readable name of the snap"""
    return Problem(
        "snap_revert_takes_settings",
        title,
        "keeps the settings when its snap is refreshed. `snap revert` to a revision from before the switch removes them, and the "
        "kubelet would then refuse its state file, and stay down",
        "Before such a revert, roll the switch back. If the kubelet is down already, drain the node, stop the service, move "
        f"{root_dir}/cpu_manager_state away, and start it.",
        waivable=True,
    )


def inventory_lacks(path: str, variables: Mapping[str, object]) -> Problem:
    """:param variables: those of kubespray that would keep the settings"""
    return Problem(
        "inventory_lacks_settings",
        "kubespray",
        f"writes {path} anew at its next run, without what kubepin adds: the kubelet would then refuse its state file, and stay down",
        f"Before that run, set these variables for this node in kubespray's inventory: {_as_yaml(variables)}. "
        "emit-node-settings.yml writes them as a file (format kubespray).",
        waivable=True,
    )


def inventory_keeps(path: str, variables: Mapping[str, object]) -> Problem:
    """:param variables: those of kubespray that set what a rollback would take back"""
    return Problem(
        "inventory_keeps_settings",
        path,
        f"has the settings too, as kubespray writes it from its inventory: {_as_yaml(variables)}",
        "Switch the node with -e cpu_manager_policy=none, remove these variables from the inventory, and run kubespray. In another order, "
        "the kubelet would refuse its state file, and stay down.",
    )


def _as_yaml(variables: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {json.dumps(value, sort_keys=True)}" for name, value in variables.items())


def changed_between(path: str, switch_id: str) -> Problem:
    return Problem(
        "file_changed_between",
        path,
        f"was changed by someone else, or by an upgrade, before the switch {switch_id}, so the text of before the first switch "
        "lacks that change",
        "Give the file its text of before the first switch, which the first record in /var/lib/kubepin/switches has. Drain the "
        "node, restart the kubelet, and run again. Make the change anew afterwards.",
    )


def records_missing(directory: str) -> Problem:
    return Problem(
        "records_missing",
        directory,
        "lacks records of switches, so what was there before the first one is not known",
        "Put the missing files back from a backup. Or give the kubelet's files the texts that they are to have without "
        "kubepin, move the folder away, drain the node and restart the kubelet.",
    )


def without_record(path: str) -> Problem:
    return Problem(
        "file_without_record",
        path,
        "was written by kubepin, but no record of a switch says what was there before: an upgrade has moved settings of "
        "config.yaml there, or the records were removed",
        "If the kubelet is to keep these settings, move them to config.yaml and to the ConfigMap kubelet-config in kube-system. "
        "Remove the file, drain the node, restart the kubelet, and run again.",
    )


def upgrade_unfinished(folder: str) -> Problem:
    return Problem(
        "upgrade_unfinished",
        folder,
        "belongs to an upgrade that has not ended",
        "Run upgrade-cluster.yml again to finish it.",
    )


def archive_not_writable(path: str, reason: str) -> Problem:
    return Problem(
        "archive_not_writable",
        path,
        f"on the control node cannot be written: {reason}. kubepin's records on the node were not removed",
        "Make room there, or correct its permissions, and run again.",
    )


def not_below_home(path: str, home: str) -> Problem:
    return Problem("not_below_home", path, f"is not below {home}, but the node offers it for the archive")


def version_stays(before: str, now: str) -> Problem:
    return Problem(
        "version_stays",
        f"kubelet {now}",
        f"was {before} before kubepin's first change, and stays: Kubernetes supports no downgrade",
    )


def backups_stay(folder: str) -> Problem:
    return Problem(
        "upgrade_backups_stay",
        folder,
        "stays: it holds the backups of an upgrade, with credentials of the cluster, which are not copied to the control node",
        "Remove it once you no longer need to go back.",
    )


def not_restarted(differences: Iterable[Difference]) -> Problem:
    """:param differences: at least one"""
    return Problem(
        "kubelet_not_restarted",
        "the running kubelet",
        f"was not restarted since its files or flags were changed, so it is not known to start with them: "
        f"{'; '.join(each.text for each in differences)}",
        "Drain the node and restart the kubelet first, or undo these changes, or accept the risk with "
        "cpu_manager_accept_not_restarted.",
        waivable=True,
    )


def other_machine(node: str, host_boot_id: str, node_boot_id: str) -> Problem:
    return Problem(
        "other_machine",
        "this host",
        f"is not the machine that the API calls {node} (boot IDs {host_boot_id} and {node_boot_id})",
        "Set the host's own node name in kubepin_node_name.",
    )


def not_ready(reason: str) -> Problem:
    return Problem(
        "node_not_ready",
        "the node",
        f"is not Ready ({reason})",
        "Repair it first, or leave it out with --limit.",
    )


def clock_wrong(seconds: float) -> Problem:
    """:param seconds: how far it is ahead, negative if it is behind"""
    hours, minutes = divmod(int(abs(seconds)) // 60, 60)
    amount = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return Problem(
        "clock_wrong",
        "the node's clock",
        f"is at least {amount} {'ahead of' if seconds > 0 else 'behind'} the control node's. A kubelet with a wrong clock takes "
        "certificates for expired or not yet valid",
        "Correct it (`timedatectl`, `chronyc tracking`), and run again.",
    )


def gpus_not_back(resource: str, expected: str, waited: int) -> Problem:
    """:param expected: what says that the node has GPUs
    :param waited: seconds
    """
    return Problem(
        "gpus_not_back",
        "the node",
        f"offers no {resource}, although {expected}; kubepin waited {waited} s for them. Without them, the switch would be kept "
        "without a look at a GPU",
        "See to the device plugin's pod and the driver, then run again, or accept that no GPU is checked with "
        "cpu_manager_accept_missing_gpus.",
        waivable=True,
    )


def watch_too_short(seconds: int, period: float) -> Problem:
    return Problem(
        "probe_seconds_too_short",
        f"cpu_manager_probe_seconds {seconds}",
        f"is too short: the pod must watch its device for more than one reconcile period of the kubelet ({period:g} s)",
        "Raise it, or leave it out.",
    )


def timeout_too_short(timeout: int, watched: int) -> Problem:
    return Problem(
        "timeout_too_short",
        f"cpu_manager_timeout {timeout}",
        f"is too short: it must be longer than the {watched} s for which the probe pod watches its device",
        "Raise it.",
    )


_WITHOUT_SLICES = "leave cpu_manager_system_slices out"
_WITHOUT_BAN = "leave cpu_manager_irqbalance out"


def nothing_reserved(option: str, policy: str) -> Problem:
    """:param option: system_slices or irqbalance"""
    return Problem(
        "no_cpus_for_system",
        f"{option} true",
        f"needs reserved CPUs, but the policy {policy} reserves none",
        f"Use the policy static, or leave cpu_manager_{option} out.",
    )


def no_cpusets() -> Problem:
    return Problem(
        "cgroup_without_cpusets",
        "system_slices",
        "needs cgroup v2 with the cpuset controller, which this machine does not have: on cgroup v1, systemd restricts no CPUs",
        f"Boot with systemd.unified_cgroup_hierarchy=1, if the kubelet and the container runtime are set up for it, or {_WITHOUT_SLICES}.",
    )


def systemd_without_allowed_cpus() -> Problem:
    return Problem(
        "systemd_too_old",
        "system_slices",
        "needs systemd 244 or newer, which knows AllowedCPUs=",
        f"Update the system, or {_WITHOUT_SLICES}.",
    )


def unit_restricted(unit: str, cpus: str) -> Problem:
    return Problem(
        "unit_already_restricted",
        unit,
        f"has AllowedCPUs={cpus}, which kubepin did not set",
        f"Find the file that sets it (`systemctl cat {unit}`) and remove the line, or {_WITHOUT_SLICES}.",
    )


def pods_below_unit(unit: str, root: str) -> Problem:
    return Problem(
        "pods_in_system_slice",
        f"cgroupRoot /{root}",
        f"puts pods into {unit}, which would confine them to the reserved CPUs",
        f"Remove cgroupRoot from the kubelet's configuration, or {_WITHOUT_SLICES}.",
    )


def reserved_isolated(cpus: str) -> Problem:
    return Problem(
        "daemons_on_isolated_cpus",
        f"reserved CPUs {cpus}",
        "are isolated (isolcpus): the kernel does not spread system daemons over them",
        "Reserve CPUs that are not isolated, or leave cpu_manager_system_slices and cpu_manager_irqbalance out.",
    )


def affinity_elsewhere(service: str, cpus: str, reserved: str) -> Problem:
    """:param service: a service, or system.conf for the default of all services"""
    return Problem(
        "service_affinity_elsewhere",
        service,
        f"has CPUAffinity={cpus}, which contains none of the reserved CPUs {reserved}: systemd could not start it",
        f"Change its CPUAffinity=, reserve one of these CPUs, or {_WITHOUT_SLICES}.",
    )


def irqbalance_missing() -> Problem:
    return Problem("irqbalance_missing", "irqbalance", "is not installed", f"Install it, or {_WITHOUT_BAN}.")


def irqbalance_without_file(files: Iterable[str]) -> Problem:
    return Problem(
        "irqbalance_without_file",
        "irqbalance.service",
        f"reads its environment neither from {' nor from '.join(files)}",
        f"Add an EnvironmentFile= to it, or {_WITHOUT_BAN}.",
    )


def irqbalance_file_unusual(path: str, reason: str) -> Problem:
    return Problem(
        "irqbalance_file_unusual",
        path,
        f"cannot get a ban list: {reason}",
        f"Close the quote, or {_WITHOUT_BAN}.",
    )


def irqbalance_old(version: str, first: str) -> Problem:
    return Problem(
        "irqbalance_too_old",
        f"irqbalance {version}",
        f"does not support IRQBALANCE_BANNED_CPULIST, which {first} introduced",
        f"Update it, or {_WITHOUT_BAN} and set IRQBALANCE_BANNED_CPUS by hand.",
    )
