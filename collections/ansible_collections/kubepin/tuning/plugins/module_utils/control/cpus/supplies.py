# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a machine has for pods beside CPUs, as its kubelet counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import WHOLE_GPUS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import Supplies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DevicePlugin
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import HUGE_PAGES, MEMORY
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import runs_memory_manager


def supplies_of(topology: Topology, settings: Mapping[str, Any], minor: int) -> Supplies:
    """The memory, huge pages and GPUs of a machine.

    What pods may request is what the node has without the huge pages, kubeReserved, systemReserved and evictionHard
    (pkg/kubelet/cm/node_container_manager_linux.go GetNodeAllocatableReservation, pkg/kubelet/nodestatus/setters.go).

    :param settings: fields of the kubelet's configuration; `settings` of `setting_problems`, and valid
    """
    places = {gpu.address: frozenset(() if gpu.numa_node is None else (gpu.numa_node,)) for gpu in topology.gpus}
    plugins = (DevicePlugin(WHOLE_GPUS, places),) if places else ()
    nodes = {node.id: dict(node.memory) for node in topology.numa_nodes}
    if not nodes or not all(MEMORY in memory for memory in nodes.values()):
        return Supplies(plugins=plugins)
    static = settings["memoryManagerPolicy"] == "Static" and runs_memory_manager(settings, minor)
    resources = sorted({resource for memory in nodes.values() for resource in memory})
    totals = {resource: sum(memory.get(resource, 0) for memory in nodes.values()) for resource in resources}
    pages = sum(total for resource, total in totals.items() if resource.startswith(HUGE_PAGES))
    return Supplies(
        memory=nodes if static else {},
        reserved_memory=settings.get("reservedMemory") or (),
        allocatable={**totals, MEMORY: totals[MEMORY] - pages - reserved_memory_of(settings, totals[MEMORY])},
        plugins=plugins,
    )


def reserved_memory_of(settings: Mapping[str, Any], total: int) -> int:
    """The bytes that kubeReserved, systemReserved and evictionHard keep from pods.

    :param total: the node's memory in bytes, of which evictionHard may be a percentage
    """
    eviction = str((settings.get("evictionHard") or {}).get("memory.available", "0"))
    kept = [str((settings.get(field) or {}).get("memory", "0")) for field in ("kubeReserved", "systemReserved")]
    if eviction.endswith("%"):
        return int(sum(map(parse_quantity, kept)) + total * parse_quantity(eviction[:-1]) / 100)
    return int(sum(map(parse_quantity, [*kept, eviction])))
