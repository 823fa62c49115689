# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which resources of nodes and pods are GPUs. The only place that decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity

DEFAULT_PREFIXES = ("nvidia.com/",)
AUTO = "auto"
WHOLE_GPUS = "nvidia.com/gpu"
"""The resource of the GPUs on the PCI bus. NVIDIA's device plugin names their NUMA nodes as the kernel does."""

_DEVICE_CLASS = "deviceclass.resource.kubernetes.io/"
"""The domain of extended resources that stand for a device class (DRA; Kubernetes API ResourceDeviceClassPrefix)."""

_GPUS_OF_DOMAIN = {
    "nvidia.com/": (
        "nvidia.com/gpu",
        "nvidia.com/mig-",
        *(f"{_DEVICE_CLASS}{name}.nvidia.com" for name in ("gpu", "mig", "vfio.gpu")),
    )
}
"""Domain -> what the names of its GPUs begin with.

NVIDIA's device plugin offers nvidia.com/gpu, gpu.shared, mig-* and mig-*.shared, and ignores other names in its
configuration (k8s-device-plugin, DisableResourceNamingInConfig). Its DRA driver has the device classes gpu.nvidia.com,
mig.nvidia.com and vfio.gpu.nvidia.com; those of compute domains are channels and no GPUs. HAMi's gpumem and gpucores are parts of GPUs. The
domain's other resources have names that operators choose, and are network devices: hostdev, rdma_*, sriov_* (NVIDIA
Network Operator). Who offers GPUs under yet another name names it as a prefix of its own.
"""


def gpu_prefixes(prefixes: Sequence[str]) -> tuple[str, ...]:
    """What names of GPU resources begin with, for the *prefixes* that an operator gave: a domain such as ``nvidia.com/``
    stands for the GPUs of that domain, any other prefix for itself."""
    return _expanded(tuple(prefixes))


def is_gpu(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a resource of that name is a GPU.

    :param prefixes: as the operator gave them
    """
    return name.startswith(_expanded(tuple(prefixes)))


def offered_gpus(status: Mapping[str, Any], prefixes: Sequence[str] = DEFAULT_PREFIXES) -> dict[str, int]:
    """GPU resource -> its allocatable number, by a node's status; 0 for one that the node does not offer at present."""
    allocatable = status.get("allocatable") or {}
    names = {*allocatable, *(status.get("capacity") or {})}
    found = sorted(name for name in names if is_gpu(name, prefixes))
    return {name: int(parse_quantity(allocatable.get(name, "0"))) for name in found}


def counted_resource(status: Mapping[str, Any], wanted: str) -> str:
    """The resource that stands for a node's GPUs.

    :param wanted: its name, or `AUTO` for the GPUs of which the node offers most: a node whose GPUs are partitioned offers
        ``nvidia.com/mig-*`` only (k8s-device-plugin, MIG strategy "mixed"), and one resource shows as well as all whether
        its device plugin is back
    """
    if wanted != AUTO:
        return wanted
    offered = offered_gpus(status)
    return max(offered, key=lambda name: offered[name], default=WHOLE_GPUS)


def gpus_expected_by(node: Mapping[str, Any], resource: str) -> str | None:
    """Why the node should offer GPUs of this *resource*: ``device_plugin``, ``label`` or None.

    A kubelet that starts reports each device that it knew as 0 until its plugin is back, and keeps that 0 if it never
    comes back (kubernetes/kubernetes pkg/kubelet/cm/devicemanager/manager.go readCheckpoint,
    pkg/kubelet/nodestatus/setters.go MachineInfo). The labels are GPU Feature Discovery's and Node Feature Discovery's.
    """
    capacity = (node.get("status") or {}).get("capacity") or {}
    if resource in capacity:
        return "device_plugin"
    labels: Mapping[str, str] = (node.get("metadata") or {}).get("labels") or {}
    found = (labels.get("nvidia.com/gpu.present"), *(labels[name] for name in labels if _is_nvidia_pci(name)))
    return "label" if "true" in found else None


def _is_nvidia_pci(label: str) -> bool:
    return label.startswith("feature.node.kubernetes.io/pci-") and "10de" in label and label.endswith(".present")


@lru_cache
def _expanded(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for prefix in prefixes for name in _GPUS_OF_DOMAIN.get(prefix, (prefix,)))
