# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which devices the kubelet's device manager gives. Ported from Kubernetes (Apache License 2.0):
pkg/kubelet/cm/devicemanager/{topology_hints,manager}.go of 1.21 to 1.36."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    Hint,
    Nodes,
    Refused,
    combinations,
    unexpected,
)

Ids = frozenset[str]
"""IDs of devices, all of one resource."""

_SORTS_NODES = 22
"""The minor version since which a device on several NUMA nodes counts as one on the chosen ones (filterByAffinity). Before, it
depends on the order of a Go map."""

_LOOKS_AT_NODES_WITH_DEVICES = 36
"""The minor version since which NUMA nodes without devices are in no hint (deviceNUMANodes)."""


@dataclass(frozen=True)
class DevicePlugin:
    """A device plugin whose devices are all healthy.

    `devices` maps their IDs to their NUMA nodes, none if the plugin names none. `lowest_first`: whether it answers
    GetPreferredAllocation with the lowest IDs. Without this, Kubernetes takes any of the devices that are equally good.
    """

    resource: str
    devices: Mapping[str, Nodes]
    lowest_first: bool = False


@dataclass
class _Choice:
    """Devices of one resource for one container; `certain` is False if others were possible, on other NUMA nodes."""

    plugin: DevicePlugin
    needed: int
    ids: set[str] = field(default_factory=set)
    certain: bool = True

    def take(self, pool: Ids, lowest_first: bool) -> None:
        """allocateRemainingFrom: as many as are needed, in the order of a Go map unless the plugin has one."""
        chosen = sorted(pool)[: self.needed]
        open_choice = 0 < len(chosen) < len(pool) and not lowest_first
        if open_choice and len({self.plugin.devices[device] for device in pool}) > 1:
            self.certain = False
        self.ids.update(chosen)
        self.needed -= len(chosen)


@dataclass
class DeviceManager:
    """The device manager's books. `given` maps pods, containers and resources to their devices."""

    minor: int
    nodes: Nodes
    """All NUMA nodes of the machine."""
    plugins: Mapping[str, DevicePlugin]
    given: dict[str, dict[str, dict[str, Ids]]] = field(default_factory=dict)
    _reusable: dict[str, dict[str, Ids]] = field(default_factory=dict)

    def hints(self, pod: str, wanted: Mapping[str, int], whole_pod: bool) -> dict[str, Sequence[Hint] | None]:
        """The hints for each resource; None if its plugin names no NUMA nodes (GetTopologyHints, GetPodTopologyHints).

        :param wanted: resource -> number of devices, above 0
        :param whole_pod: for all containers at once, none of which has devices yet
        """
        return {
            resource: self._hints_for(
                self.plugins[resource],
                frozenset() if whole_pod else self._reusable.get(pod, {}).get(resource, frozenset()),
                number,
            )
            for resource, number in wanted.items()
        }

    def _hints_for(self, plugin: DevicePlugin, reusable: Ids, wanted: int) -> Sequence[Hint] | None:
        """generateDeviceTopologyHints"""
        if not any(plugin.devices.values()):
            return None
        available = self._available(plugin)
        if len(available | reusable) < wanted:
            return []
        with_devices = frozenset().union(*plugin.devices.values()) & self.nodes
        nodes = with_devices if with_devices and self.minor >= _LOOKS_AT_NODES_WITH_DEVICES else self.nodes
        must = [plugin.devices[device] for device in reusable if plugin.devices[device]]
        fewest = len(nodes)
        found = []
        for mask in combinations(nodes):
            if sum(bool(mask & near) for near in plugin.devices.values()) >= wanted:
                fewest = min(fewest, len(mask))
            if not all(mask & near for near in must):
                continue
            if len(must) + sum(bool(mask & plugin.devices[device]) for device in available) >= wanted:
                found.append(mask)
        return [Hint(mask, len(mask) == fewest) for mask in found]

    def _available(self, plugin: DevicePlugin) -> Ids:
        return frozenset(plugin.devices).difference(*self._used(plugin.resource))

    def _used(self, resource: str) -> list[Ids]:
        return [found.get(resource, frozenset()) for containers in self.given.values() for found in containers.values()]

    def allocate(
        self, pod: str, container: str, reused_later: bool, wanted: Mapping[str, int], hint: Hint
    ) -> frozenset[str]:
        """Gives a container its devices (Allocate); returns the resources of which it may as well get others.

        :param reused_later: whether it ends before the next container starts, as init containers do
        :param hint: the topology manager's
        :raises Refused: if the kubelet refuses the pod
        """
        self._reusable = {uid: found for uid, found in self._reusable.items() if uid == pod}
        reusable = self._reusable.setdefault(pod, {})
        open_choices = set()
        mine = self.given.setdefault(pod, {}).setdefault(container, {})
        refusals = []
        for resource, number in wanted.items():  # Kubernetes: in any order
            try:
                choice = self._choose(self.plugins[resource], reusable.get(resource, frozenset()), number, hint)
            except Refused as exc:
                refusals.append(str(exc))
                continue
            mine[resource] = frozenset(choice.ids)
            if not choice.certain:
                open_choices.add(resource)
        if refusals:
            raise Refused(refusals[0], certain=len(refusals) == 1)
        for resource, ids in mine.items():
            before = reusable.get(resource, frozenset())
            reusable[resource] = before | ids if reused_later else before - ids
        return frozenset(open_choices)

    def _choose(self, plugin: DevicePlugin, reusable: Ids, wanted: int, hint: Hint) -> _Choice:
        """devicesToAllocate: what init containers had, then devices on these NUMA nodes, then others."""
        choice = _Choice(plugin, wanted)
        choice.take(reusable, False)
        available = self._available(plugin)
        if len(available) < choice.needed:
            raise unexpected(
                f"requested number of devices unavailable for {plugin.resource}. Requested: {choice.needed}, "
                f"Available: {len(available)}"
            )
        aligned, others, nowhere = self._by_affinity(plugin, available, hint)
        if self.minor < _SORTS_NODES and 0 < choice.needed < len(available) and hint.nodes:
            choice.certain = choice.certain and all(plugin.devices[device] <= hint.nodes for device in aligned)
        choice.take(aligned, plugin.lowest_first)
        for pool in [others | nowhere] if plugin.lowest_first else [others, nowhere]:
            choice.take(pool, plugin.lowest_first)
        return choice

    @staticmethod
    def _by_affinity(plugin: DevicePlugin, available: Ids, hint: Hint) -> tuple[Ids, Ids, Ids]:
        """filterByAffinity: devices on these NUMA nodes, on others, and on none."""
        nodes = hint.nodes
        if nodes is None or not any(plugin.devices.values()):
            return frozenset(), frozenset(), available
        aligned = frozenset(device for device in available if plugin.devices[device] & nodes)
        nowhere = frozenset(device for device in available if not plugin.devices[device])
        return aligned, available - aligned - nowhere, nowhere

    def replace(self, pod: str, found: Mapping[str, Mapping[str, Ids]]) -> None:
        """Notes the devices that a pod really has."""
        self.given[pod] = {container: dict(devices) for container, devices in found.items()}

    def release(self, pod: str) -> None:
        """Frees the devices of a pod (UpdateAllocatedDevices)."""
        self.given.pop(pod, None)
