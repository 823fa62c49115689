# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns an operator's request into kubelet settings, for switches, previews and upgrades alike."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.reservation import (
    AUTO,
    Reservation,
    choose_reservation,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    Settings,
    reserved_millicores,
    setting_problems,
    version_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    options_not_a_dictionary,
    reserved_count_not_whole,
)


@dataclass(frozen=True)
class DesiredSettings:
    """The operator's request; None leaves a setting as it is."""

    policy: str
    policy_options: t.Optional[t.Mapping[str, t.Any]] = None
    reserved_cpus: str = AUTO
    reserved_cpu_count: t.Optional[int] = None
    topology_manager_policy: t.Optional[str] = None
    topology_manager_scope: t.Optional[str] = None
    memory_manager_policy: t.Optional[str] = None
    reserved_memory: t.Optional[t.Sequence[t.Mapping[str, t.Any]]] = None


@dataclass(frozen=True)
class ChosenSettings:
    """The settings for a request, or the problems with them."""

    settings: Settings
    reservation: t.Optional[Reservation]
    problems: t.List[Problem]


def static_policy_of(variables: t.Mapping[str, t.Any]) -> t.Tuple[t.Optional[DesiredSettings], t.List[Problem]]:
    """The request for the static policy that a role's variables make, or every problem with them.

    :param variables: those of role cpu_manager without their prefix, as texts or as YAML gave them; empty ones leave a
        setting as it is
    """
    count, options = variables["reserved_cpu_count"], variables["policy_options"]
    found = []
    if not is_unset(count) and not str(count).isdigit():
        found.append(reserved_count_not_whole(count))
    if not is_unset(options) and not isinstance(options, t.Mapping):
        found.append(options_not_a_dictionary(options))
    if found:
        return None, found
    desired = DesiredSettings(
        policy="static",
        reserved_cpus=str(variables["reserved_cpus"]),
        reserved_cpu_count=None if is_unset(count) else int(count),
        policy_options=None if is_unset(options) else options,
        topology_manager_policy=variables["topology_manager_policy"] or None,
        topology_manager_scope=variables["topology_manager_scope"] or None,
        memory_manager_policy=variables["memory_manager_policy"] or None,
        reserved_memory=variables["reserved_memory"] or None,
    )
    return desired, []


def is_unset(value: object) -> bool:
    """Whether a role's variable is left empty."""
    return value is None or value == ""


def choose_settings(
    topology: Topology, now: Config, version: t.Optional[str], desired: DesiredSettings
) -> ChosenSettings:
    """The settings to write for *desired*, checked against every rule of this kubelet.

    :param now: the kubelet's effective configuration
    :param version: the kubelet's version; None if it could not be read
    """
    version_refused = version_problems(version)
    settings: Settings = {"cpuManagerPolicy": desired.policy}
    reservation: t.Optional[Reservation] = None
    refused: t.List[Problem] = []
    if desired.policy == "static":
        reservation, refused = choose_reservation(
            topology,
            desired.reserved_cpus,
            desired.reserved_cpu_count,
            now.get("reservedSystemCPUs") or "",
            reserved_millicores(now),
        )
        if reservation:
            settings["reservedSystemCPUs"] = format_cpuset(reservation.cpus)
    optional = {
        "cpuManagerPolicyOptions": _policy_options(desired, now),
        "topologyManagerPolicy": desired.topology_manager_policy,
        "topologyManagerScope": desired.topology_manager_scope,
        "memoryManagerPolicy": desired.memory_manager_policy,
        "reservedMemory": _reserved_memory(desired),
    }
    settings.update({name: value for name, value in optional.items() if value is not None})
    broken = [] if version is None or version_refused else setting_problems({**now, **settings}, version, topology)
    # a missing reservation would only be a consequence of the refused one
    causes = [problem for problem in broken if not (refused and problem.code == "no_cpu_reserved")]
    return ChosenSettings(settings, reservation, [*version_refused, *refused, *causes])


def _policy_options(desired: DesiredSettings, now: Config) -> t.Optional[t.Dict[str, str]]:
    """The policy options in the kubelet's format. The kubelet refuses any with the policy none (policy_none.go)."""
    if desired.policy_options is not None:
        return {name: str(value).lower() for name, value in desired.policy_options.items()}
    return {} if desired.policy == "none" and now.get("cpuManagerPolicyOptions") else None


def _reserved_memory(desired: DesiredSettings) -> t.Optional[t.List[t.Dict[str, t.Any]]]:
    if desired.reserved_memory is None:
        return None
    return [
        {"numaNode": entry["numa_node"], "limits": {kind: str(amount) for kind, amount in entry["limits"].items()}}
        for entry in desired.reserved_memory
    ]
