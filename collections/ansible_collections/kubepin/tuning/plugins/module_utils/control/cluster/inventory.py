# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: a node object of the API as host variables, and the groups that it belongs to.

The API does not know sockets, NUMA nodes, L3 groups, CPU numbers, or which CPUs are near a GPU. These can only be read
on the node (kubepin.tuning.cpu_topology_info).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import offered_gpus

Node = Mapping[str, Any]

_ROLE = "node-role.kubernetes.io/"
_CONTROL_PLANE = {"control-plane", "master"}
_NFD = "feature.node.kubernetes.io/"
"""Node Feature Discovery's labels: cpu-model.vendor_id, .family, .id; cpu-hardware_multithreading; memory-numa (more than one node)."""
_GPU_PRODUCT = "nvidia.com/gpu.product"
"""NVIDIA's GPU Feature Discovery."""


def node_facts(node: Node, prefixes: Sequence[str]) -> dict[str, Any]:
    """What the API knows about a node (schema 1), for the variable `kubepin_node`.

    :param prefixes: prefixes of GPU resource names
    """
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels: Mapping[str, str] = metadata.get("labels") or {}
    info: Mapping[str, str] = status.get("nodeInfo") or {}
    ready: Mapping[str, str] = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    return {
        "schema": 1,
        "roles": sorted(label[len(_ROLE) :] for label in labels if label.startswith(_ROLE)),
        "ready": ready.get("status") == "True",
        "unschedulable": bool(spec.get("unschedulable")),
        "kubelet_version": info.get("kubeletVersion", "").removeprefix("v"),
        "container_runtime": info.get("containerRuntimeVersion"),
        "kernel": info.get("kernelVersion"),
        "os": info.get("osImage"),
        "architecture": info.get("architecture"),
        "gpus": offered_gpus(status, prefixes),
        "gpu_model": labels.get(_GPU_PRODUCT),
        "cpu": {
            "capacity": _cpus(status.get("capacity") or {}),
            "allocatable": _cpus(status.get("allocatable") or {}),
            "vendor": labels.get(f"{_NFD}cpu-model.vendor_id"),
            "family": labels.get(f"{_NFD}cpu-model.family"),
            "model": labels.get(f"{_NFD}cpu-model.id"),
            "multithreading": _flag(labels, f"{_NFD}cpu-hardware_multithreading"),
            "several_numa_nodes": _flag(labels, f"{_NFD}memory-numa"),
        },
        "addresses": list(status.get("addresses") or []),
        "labels": dict(labels),
        "taints": list(spec.get("taints") or []),
    }


def address(facts: Mapping[str, Any], types: Sequence[str]) -> str | None:
    """The first address of the first of the *types* that the node has."""
    found = {entry["type"]: entry["address"] for entry in reversed(facts["addresses"])}
    return next((found[kind] for kind in types if kind in found), None)


def groups(facts: Mapping[str, Any], gpu_labels: Mapping[str, str]) -> list[str]:
    """The groups of a node: first the group that the playbooks use, then those of its hardware and version.

    A control plane node is never in the playbooks' other groups, even with GPUs: it is tuned only on explicit request.

    :param gpu_labels: a node with any of these labels is a GPU node even if its device plugin offers nothing at present
    """
    labels = facts["labels"]
    if _CONTROL_PLANE & set(facts["roles"]):
        found = ["control_plane"]
    elif any(facts["gpus"].values()) or any(labels.get(name) == value for name, value in gpu_labels.items()):
        found = ["gpu_nodes"]
    else:
        found = ["other_nodes"]
    if facts["gpu_model"]:
        found.append(_safe("gpu", facts["gpu_model"]))
    if facts["kubelet_version"]:
        found.append(_safe("kubelet", facts["kubelet_version"]))
    found.append(_safe("cpu", *_cpu_words(facts["cpu"])))
    return found


def _cpu_words(cpu: Mapping[str, Any]) -> list[str]:
    words = [str(cpu["capacity"])]
    words += [str(cpu[name]) for name in ("vendor", "family", "model") if cpu[name]]
    words += ["smt"] if cpu["multithreading"] else []
    words += ["numa"] if cpu["several_numa_nodes"] else []
    return words


def _safe(*words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")


def _cpus(resources: Mapping[str, str]) -> int:
    """Whole CPUs; 0 if the node does not report them."""
    return int(parse_quantity(resources.get("cpu", "0")))


def _flag(labels: Mapping[str, str], name: str) -> bool | None:
    return None if name not in labels else labels[name] == "true"
