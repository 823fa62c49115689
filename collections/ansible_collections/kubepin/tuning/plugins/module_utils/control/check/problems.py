# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every way in which a node differs from its plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import Difference

_TUNE = "Find out who changed it, and run `kubepin tune`, which puts the planned settings back."

SETTING_CODES = {
    "cpuManagerPolicy": "policy_differs",
    "cpuManagerPolicyOptions": "policy_options_differ",
    "reservedSystemCPUs": "reservation_differs",
}
"""Field of KubeletConfiguration -> code; the others share `setting_differs`."""


def untuned(policy: str, planned: str) -> Problem:
    return Problem(
        "node_untuned",
        "this node",
        f"is new or was rolled back: kubepin's journal has no switch in force, and the kubelet's CPU manager policy is {policy} "
        f"where {planned} is planned",
        "Run `kubepin tune`, with --limit for this node alone.",
    )


def setting_differs(name: str, configured: str, source: str, planned: str) -> Problem:
    """:param source: where the configured value comes from"""
    return Problem(
        SETTING_CODES.get(name, "setting_differs"), name, f"is {configured} ({source}), and {planned} is planned", _TUNE
    )


def file_changed(path: str, removed: bool, journal: str) -> Problem:
    """:param journal: the file with the switch's record"""
    return Problem(
        "file_changed_since_switch",
        path,
        f"{'was removed' if removed else 'has another text'} since kubepin's last switch, which can therefore not be rolled back",
        "If a setting differs too, `kubepin tune` writes the file anew. Otherwise restore its text from the switch's record, "
        f"{journal}, or move that record away to keep the edit.",
    )


def rewritten_by_upgrade(path: str) -> str:
    return f"{path} is as kubepin's last upgrade of this node left it, so the switch before it can no longer be rolled back"


def not_restarted(differences: Iterable[Difference]) -> Problem:
    """:param differences: at least one"""
    return Problem(
        "kubelet_not_restarted",
        "the running kubelet",
        f"does not have what its files and flags say: {'; '.join(each.text for each in differences)}",
        "Undo the edit, or drain the node and restart the kubelet. If a planned setting is among them, `kubepin tune` does both.",
    )


def kubelet_not_running(service: str) -> Problem:
    return Problem(
        "kubelet_not_running",
        f"{service}.service",
        "has no process",
        f"Find out why: `systemctl status {service}`, `journalctl --unit {service}`.",
    )


def switch_unfinished(switch_id: str) -> Problem:
    return Problem(
        "switch_unfinished",
        f"switch {switch_id}",
        "has not ended: a run is at work on this node, or was interrupted",
        "If no run is at work, run `kubepin tune`, which undoes an interrupted switch first.",
    )


def daemons_differ(path: str, planned: str) -> Problem:
    """:param planned: what the file is to be for"""
    return Problem("system_daemons_differ", path, f"is not as planned: {planned}", _TUNE)


def unit_elsewhere(unit: str, cpus: str, planned: str) -> Problem:
    return Problem(
        "unit_not_confined",
        unit,
        f"runs on CPUs {cpus} instead of {planned}, although its drop-in file is as planned",
        f"Find out what else sets its CPUs: `systemctl show {unit} -p AllowedCPUs -p DropInPaths`. "
        f"`systemctl set-property --runtime {unit} AllowedCPUs={planned}` sets them until the next boot.",
    )


def state_file_missing(path: str) -> Problem:
    return Problem(
        "state_file_missing",
        path,
        "does not exist although the policy is static: at its next start the kubelet would forget which CPUs containers have, and "
        "assign them anew",
        "The kubelet writes the file again when a container with exclusive CPUs starts or ends. To be sure, drain the node and "
        "restart the kubelet.",
    )


def state_file_refused(path: str, reason: str, starts: bool) -> Problem:
    """:param starts: False of a kubelet that is down, which `kubepin tune` leaves alone"""
    by_tune = "Run `kubepin tune`, which removes it while the kubelet is stopped, once the node is drained."
    return Problem(
        "state_file_refused",
        path,
        f"would make the kubelet's next start fail: {reason.rstrip('.')}",
        by_tune if starts else "Drain the node, and remove the file while the kubelet is stopped.",
    )


def not_assigned(container: str, cpus: str) -> Problem:
    """:param cpus: the CPUs that it runs on"""
    return Problem(
        "exclusive_cpus_not_assigned",
        container,
        f"qualifies for exclusive CPUs, but the kubelet's state file has none for it; it runs on CPUs {cpus or 'unknown'}",
        "Restart the pod: the kubelet assigns CPUs when it admits a pod.",
    )


def cpus_differ(container: str, cpus: str, assigned: str) -> Problem:
    return Problem(
        "exclusive_cpus_lost",
        container,
        f"runs on CPUs {cpus or 'unknown'} by its cgroup, and the kubelet assigned {assigned} to it",
        "Find out what writes cgroups on this node besides the kubelet (an NRI plugin, a node agent, a daemon-reload), and restart "
        "the pod.",
    )


def cpus_shared(container: str, cpus: str, others: Sequence[str]) -> Problem:
    return Problem(
        "exclusive_cpus_shared",
        container,
        f"shares CPUs {cpus}, which should be its own, with {', '.join(others)}",
        "Restart these containers. If it happens again, find out what writes cgroups on this node besides the kubelet.",
    )


def not_in_api(reason: str) -> Problem:
    return Problem(
        "api_unread",
        "the API",
        f"does not say which pods run on this node: {reason.rstrip('.')}",
        "Repair the access, or correct kubepin_node_name.",
    )


def configz_unread(reason: str) -> Problem:
    return Problem(
        "configz_unread",
        "the running kubelet",
        f"was not compared with its files and flags: {reason.rstrip('.')}",
        "It needs a node that is Ready, and the permission to `get nodes/proxy`.",
    )


def cgroups_unread(reason: str) -> Problem:
    return Problem(
        "cgroups_unread", "the CPUs of the containers", f"cannot be read: {reason.rstrip('.')}", "Mount the hierarchy."
    )


def node_unread(reason: str) -> Problem:
    return Problem(
        "node_unread", "this node", f"cannot be read: {reason.rstrip('.')}", "Repair the access to the host."
    )


def metrics_unwritable(directory: str, reason: str) -> Problem:
    return Problem(
        "metrics_unwritable",
        f'node_check_metrics_directory "{directory}"',
        f"cannot take the metrics: {reason.rstrip('.')}",
        "Name the folder that node_exporter on the control node reads (--collector.textfile.directory), and let the user of "
        "this run write there.",
    )
