# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns an operator's request into kubelet settings, for switches, previews and upgrades alike."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.reservation import (
    AUTO,
    Reservation,
    Spread,
    choose_reservation,
    l3_rounding_note,
    reservation_reasons,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.reserved_memory import (
    choose_reserved_memory,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    KNOWN_SINCE,
    Settings,
    minor_of,
    reserved_millicores,
    setting_problems,
    version_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    options_not_a_dictionary,
    profile_unknown,
    reserved_count_not_whole,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import (
    BALANCED,
    PROFILES,
    ProfileSettings,
    profile_settings,
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
    profile: str = BALANCED
    """What the settings that are None are with the policy static; each of the others wins over it."""


@dataclass(frozen=True)
class ChosenSettings:
    """The settings for a request, or the problems with them."""

    settings: Settings
    reservation: t.Optional[Reservation]
    problems: t.List[Problem]
    origins: t.Mapping[str, str] = field(default_factory=dict)
    """Setting -> who asks for it, for people."""
    reasons: t.Mapping[str, t.List[str]] = field(default_factory=dict)
    """Setting -> where the numbers that kubepin chose come from: sentences for people."""
    notes: t.Sequence[str] = ()
    """What the profile prefers, and this kubelet or machine cannot do."""


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
    profile = variables["profile"] or BALANCED
    if profile not in PROFILES:
        found.append(profile_unknown(profile, PROFILES))
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
        profile=profile,
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
    usable = None if version_refused else version
    profile = _profile(topology, now, usable, desired)
    reservation, refused, why = _reserved_cpus(topology, now, desired, profile.spread)
    asked = {
        "cpuManagerPolicyOptions": _policy_options(desired, now),
        "topologyManagerPolicy": desired.topology_manager_policy,
        "topologyManagerScope": desired.topology_manager_scope,
        "memoryManagerPolicy": desired.memory_manager_policy,
        "reservedMemory": _reserved_memory(desired),
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    settings: Settings = {
        "cpuManagerPolicy": desired.policy,
        **({"reservedSystemCPUs": format_cpuset(reservation.cpus)} if reservation else {}),
        **profile.settings,
        **asked,
    }
    if usable is None:
        return ChosenSettings(settings, reservation, [*version_refused, *refused])
    origins = {
        **dict.fromkeys(profile.settings, f"profile {desired.profile}"),
        **dict.fromkeys(asked, "your setting"),
    }
    reasons = {"reservedSystemCPUs": why} if reservation else {}
    problems = [*refused, *profile.problems]
    # what is missing would only be a consequence of what was refused
    consequences = {"no_cpu_reserved"} if refused else set()
    computes = settings.get("memoryManagerPolicy") == "Static" and "reservedMemory" not in asked
    if computes and minor_of(usable) >= KNOWN_SINCE["reservedMemory"]:
        memory, found = choose_reserved_memory(topology, {**now, **settings}, usable)
        problems += found
        if memory:
            settings["reservedMemory"], reasons["reservedMemory"] = memory.entries, memory.reasons
            origins["reservedMemory"] = "computed"
        else:
            consequences.add("reserved_memory_sum")
    broken = setting_problems({**now, **settings}, usable, topology)
    problems += [problem for problem in broken if problem.code not in consequences and problem not in problems]
    notes = _notes(topology, reservation, profile, desired)
    return ChosenSettings(settings, reservation, problems, origins, reasons, notes)


def _profile(topology: Topology, now: Config, version: t.Optional[str], desired: DesiredSettings) -> ProfileSettings:
    if version is None or desired.policy != "static":
        return ProfileSettings()
    return profile_settings(desired.profile, topology, now, version, desired.policy_options)


def _reserved_cpus(
    topology: Topology, now: Config, desired: DesiredSettings, spread: Spread
) -> t.Tuple[t.Optional[Reservation], t.List[Problem], t.List[str]]:
    """The reservation or every problem with it, and why it is as it is."""
    if desired.policy != "static":
        return None, [], []
    request = (
        desired.reserved_cpus,
        desired.reserved_cpu_count,
        now.get("reservedSystemCPUs") or "",
        reserved_millicores(now),
        spread,
    )
    reservation, found = choose_reservation(topology, *request)
    return reservation, found, reservation_reasons(topology, reservation, *request) if reservation else []


def _notes(
    topology: Topology, reservation: t.Optional[Reservation], profile: ProfileSettings, desired: DesiredSettings
) -> t.List[str]:
    if desired.policy != "static" and desired.profile != BALANCED:
        return [f"Profile {desired.profile} has no effect with cpuManagerPolicy {desired.policy}."]
    automatic = desired.reserved_cpus == AUTO and desired.reserved_cpu_count is None
    note = None
    if reservation and automatic and profile.spread is Spread.L3:
        note = l3_rounding_note(topology, reservation.cpus)
    return [*profile.notes, *([note] if note else [])]


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
