# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a diagnosis of GPU pods. Pure: what gpu_loss_info returned on each node in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

_GAP = "   "
_STATES = {"lost": "lost their GPU", "kept": "have it", "unknown": "unknown"}


def gpu_loss_text(nodes: Sequence[Data]) -> str:
    """The counts, then each container that has or may have lost its GPU, with evidence and remedy.

    :param nodes: for each node its name as ``node``, what gpu_loss_info returned as ``gpu_loss`` (empty if it failed) and its
        ``error``
    """
    found = [(node["node"], container) for node in nodes for container in node["gpu_loss"].get("containers", [])]
    states = [container["state"] for _unused, container in found]
    counts = ", ".join(f"{states.count(state)} {words}" for state, words in _STATES.items())
    lines = [
        f"kubepin: {counted(len(found), 'running container')} with a GPU on {counted(len(nodes), 'node')}: {counts}. Nothing was changed."
    ]
    for node, container in found:
        if container["state"] == "kept":
            continue
        words = f"LOST by {container['cause']}" if container["state"] == "lost" else "unknown"
        name = f"{container['namespace']}/{container['pod']}"
        lines.append("  " + _GAP.join([name, container["container"], node, words]))
        lines += [f"      {line}" for line in container["evidence"]]
        lines += [f"      remedy: {container['remedy']}"] if container["remedy"] else []
    for node in nodes:
        problems = [node["error"]] if node["error"] else node["gpu_loss"].get("unknown", [])
        lines += [f"  {node['node']}{_GAP}not read: {problem}" for problem in problems]
        broken = node["gpu_loss"].get("kubelet_problem")
        lines += [f"  {node['node']}{_GAP}{broken['text']}"] if broken else []
    return "\n".join(lines)
