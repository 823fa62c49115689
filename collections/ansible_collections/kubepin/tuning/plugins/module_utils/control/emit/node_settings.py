# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the settings that new nodes need, from nodes or dumps of machines like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.notes import machine_notes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.problems import no_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS, Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    KNOWN_SINCE,
    MANAGED,
    Settings,
    minor_of,
    setting_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import reserved_isolated


@dataclass(frozen=True)
class Example:
    """A node, or a dump of one, that new nodes will be like."""

    name: str
    topology: Topology
    version: str | None
    """Of the kubelet that new nodes will have; None if unknown."""
    effective: Config | None
    """The kubelet's configuration, `effective` of `read_kubelet`; None if it was not read."""
    unread: str = ""
    """Why a node's kubelet could not be read."""


@dataclass(frozen=True)
class NodeSettings:
    """The settings that new nodes of one machine type need."""

    name: str
    """Names the machine type where a format needs a name: a DNS label."""
    nodes: tuple[str, ...]
    """The nodes or dumps of this type."""
    version: str
    """The kubelet's."""
    settings: Settings
    """Only fields that this version knows, none empty, in the order of MANAGED."""
    reservation: str
    """What the reserved CPUs are, in words."""
    topology: Topology
    notes: tuple[str, ...]
    system_slices: bool = False
    """Whether system daemons are confined to the reserved CPUs."""

    @property
    def minor(self) -> int:
        """36 of 1.36.3."""
        return minor_of(self.version)


def settings_for(
    example: Example, desired: DesiredSettings, cleared: frozenset[str] = frozenset(), system_slices: bool = False
) -> tuple[NodeSettings | None, list[Problem]]:
    """The settings for new nodes like *example*, or every problem with them.

    They are what is desired, and what the example already has in the fields that kubepin manages: new nodes have no
    earlier setting that could stay as it is.

    :param cleared: fields that the format or its installer sets to "", whatever the example has
    :param system_slices: whether system daemons are to run on the reserved CPUs alone
    """
    version = example.version
    if version is None:
        return None, [no_version()]
    now = {**DEFAULTS, **(example.effective or {}), **dict.fromkeys(cleared, "")}
    chosen = choose_settings(example.topology, now, version, desired)
    if chosen.problems or chosen.reservation is None:
        return None, chosen.problems
    isolated = chosen.reservation.cpus & example.topology.isolated
    if system_slices and isolated:
        return None, [reserved_isolated(format_cpuset(isolated))]
    minor = minor_of(version)
    kept = {name: now[name] for name in MANAGED if now[name] != DEFAULTS[name]}
    effective = {**kept, **chosen.settings}
    settings = {
        name: effective[name]
        for name in MANAGED
        if name in effective and effective[name] not in ({}, [], "") and minor >= KNOWN_SINCE.get(name, 0)
    }
    found = NodeSettings(
        name="",
        nodes=(example.name,),
        version=version,
        settings=settings,
        reservation=chosen.reservation.explanation,
        topology=example.topology,
        notes=(
            *chosen.notes,
            *machine_notes(example.topology, chosen.reservation.cpus),
            *_untold(example, now, settings, version),
        ),
        system_slices=system_slices,
    )
    return found, []


def _untold(example: Example, now: Config, settings: Settings, version: str) -> list[str]:
    """What the settings take for granted, and new nodes must have from elsewhere."""
    if example.unread:
        return [
            f"{example.name}: its kubelet could not be read, so the kubelet's defaults were assumed: {example.unread}"
        ]
    if example.effective is None and "reservedMemory" in settings:
        return [
            "reservedMemory was checked against the kubelet's defaults: its sum must be kubeReserved + systemReserved + evictionHard of "
            "new nodes, and many installers set these."
        ]
    granted = {problem.text for problem in setting_problems({**now, **settings}, version, example.topology)}
    return [
        f"New nodes also need the other settings of the kubelets that they are to be like. With the defaults: {problem.text}"
        for problem in setting_problems({**DEFAULTS, **settings}, version, example.topology)
        if problem.text not in granted
    ]


def by_machine_type(found: Sequence[NodeSettings], name: str) -> list[NodeSettings]:
    """One for each machine type, named *name*, or with a number behind it if there are several."""
    types: list[NodeSettings] = []
    for one in found:
        at = next((number for number, other in enumerate(types) if _kind(other) == _kind(one)), None)
        if at is None:
            types.append(one)
        else:
            notes = (*types[at].notes, *(note for note in one.notes if note not in types[at].notes))
            types[at] = replace(types[at], nodes=types[at].nodes + one.nodes, notes=notes)
    if len(types) == 1:
        return [replace(types[0], name=name)]
    return [replace(each, name=f"{name}-{number}") for number, each in enumerate(types, 1)]


def _kind(node: NodeSettings) -> tuple[Any, ...]:
    """What two nodes of one machine type have in common: the settings, and the CPUs as the kubelet groups them."""
    topology = node.topology
    groups = (topology.sockets, topology.numa_nodes, topology.l3_groups)
    cpus = [[format_cpuset(group.cpus) for group in each] for each in groups]
    return node.minor, node.settings, cpus, [format_cpuset(core.cpus) for core in topology.cores]


def shown_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings' values for people, by field."""
    return {name: shown(value) for name, value in settings.items()}
