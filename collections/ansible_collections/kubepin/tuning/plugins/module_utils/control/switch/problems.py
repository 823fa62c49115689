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


def changed_since(path: str) -> Problem:
    return Problem(
        "file_changed_since",
        path,
        "was changed after the switch that is to be rolled back",
        "Undo that edit first, or restore the file by hand from the switch's journal and remove the journal.",
    )


def restarts_more(service: str) -> Problem:
    """:param service: of k3s or RKE2"""
    server = not service.endswith("-agent")
    with_it = (
        "this server of the control plane and its agent"
        if server
        else "the agent, which also supervises the container runtime"
    )
    return Problem(
        "restarts_more",
        "the switch",
        f"restarts {service}.service: not only the kubelet, but {with_it}. Containers keep running",
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
