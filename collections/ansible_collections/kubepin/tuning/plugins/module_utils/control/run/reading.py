# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what was read of a node, from the results of the modules that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Data = Mapping[str, Any]


def node_facts(topology: Data, kubelet: Data) -> dict[str, Any]:
    """What was read of a node, with `error` and `kubelet_error` if its topology or its kubelet could not be read.

    :param topology: the result of cpu_topology_info, also of a failed task
    :param kubelet: the result of kubelet_info, also of a failed task; that of a skipped task if the node has no kubelet
    """
    return {
        "topology": topology.get("topology", {}),
        "kubelet": kubelet.get("kubelet", {}),
        "error": _error(topology, "topology"),
        "kubelet_error": _error(kubelet, "kubelet"),
    }


def _error(result: Data, name: str) -> str:
    if name in result or result.get("skipped"):
        return ""
    return str(result.get("msg") or f"the {name} could not be read")
