# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: whether a running pod may lose its GPU ("Failed to initialize NVML: Unknown Error"), why, and what is unknown.

Three causes: an update of the container's cgroup, ``systemctl daemon-reload``, and missing links in /dev/char
(NVIDIA Container Toolkit, troubleshooting).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import FIRST_WITHOUT_RECONCILE_OF_PINNED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.costs import RESIZES_IN_PLACE

GRADES: t.Dict[str, str] = {
    "high": "the kubelet alone takes it",
    "low": "taken by an action: a restart of the kubelet, a daemon-reload or an in-place resize of the pod",
    "none": "nothing known takes it",
    "unknown": "unknown properties of the node may take it",
}

KEEPS_DEVICES = (1, 0, 0, True)
"""opencontainers/runc#2994: since this version an update does not touch the devices cgroup."""
SKIPS_MISSING_LINKS, CORRECTED = (1, 1, 3, True), (1, 1, 7, True)
"""opencontainers/runc#3504 and #3845: releases between them drop devices without a link in /dev/char."""
_IN_THE_SPECIFICATION = ("cdi", "device_specs")
_ORDER = ("none", "low", "high")


class Cause(t.NamedTuple):
    """A cause of GPU loss; it is certain if nothing about it is *unknown*."""

    code: str
    grade: str
    text: str
    unknown: t.List[str]


def risk_of(node: Node, exclusive: bool, privileged: bool) -> t.Dict[str, t.Any]:
    """The risk's grade, its causes, and the missing facts about the node that would clarify it.

    :param exclusive: whether the containers that hold the GPU have exclusive CPUs
    :param privileged: whether they are privileged, and so not subject to device rules
    """
    found = [] if privileged else [_update(node, exclusive), _daemon_reload(node), _links(node, exclusive)]
    causes = [cause for cause in found if cause]
    worst = max((cause.grade for cause in causes), key=_ORDER.index, default="none")
    known = max((cause.grade for cause in causes if not cause.unknown), key=_ORDER.index, default="none")
    return {
        "grade": known if known == worst else "unknown",
        "causes": [cause._asdict() for cause in causes],
        "unknown": sorted({name for cause in causes for name in cause.unknown}),
    }


def _update(node: Node, exclusive: bool) -> t.Optional[Cause]:
    """A container update rewrites its device rules (k8s-device-plugin#145; kubernetes/kubernetes#101771): runc below 1.0.0
    writes its own again, and under the systemd driver systemd does, with every runc (docs/evidence/gpu-loss.md)."""
    if node.injection in _IN_THE_SPECIFICATION:
        return None
    old = node.runc is not None and node.runc < KEEPS_DEVICES
    if node.cgroup_driver == "cgroupfs" and node.runc is not None and not old:
        return None
    certain = old or node.cgroup_driver == "systemd"
    unknown = _unknown(node, "kubelet", "policy", "injection", *(() if certain else ("runc", "cgroup_driver")))
    if node.policy not in (None, "static"):
        if not resizes_in_place(node):
            return None
        return Cause("container_update", "low", "an in-place resize of the pod updates the container", unknown)
    if _reconciles_all(node):
        text = "kubelets below 1.22 with the static policy update every container every 10 s"
        return Cause("container_update", "high", text, unknown)
    if not exclusive:
        text = "the static policy updates a container of the shared pool after its start and whenever the pool changes"
        return Cause("container_update", "high", text, unknown)
    text = "a restart of the kubelet updates every container once, those with exclusive CPUs too"
    return Cause("container_update", "low", text, unknown)


def _daemon_reload(node: Node) -> t.Optional[Cause]:
    """A reload makes systemd apply its own device rules again, without those that a hook added
    (NVIDIA/nvidia-docker#1730)."""
    if node.cgroup_driver == "cgroupfs" or node.injection in _IN_THE_SPECIFICATION:
        return None
    text = "a daemon-reload applies systemd's device rules again, without a GPU that the legacy hook added"
    return Cause("daemon_reload", "low", text, _unknown(node, "cgroup_driver", "injection"))


def _links(node: Node, exclusive: bool) -> t.Optional[Cause]:
    """runc passes only devices with a link in /dev/char to systemd (opencontainers/runc#3708). systemd applies its rules
    without them at the next daemon-reload or container update."""
    if node.cgroup_driver == "cgroupfs" or node.injection == "legacy" or node.dev_char_links:
        return None
    if node.runc is not None and not SKIPS_MISSING_LINKS <= node.runc < CORRECTED:
        return None
    text = "runc 1.1.3 to 1.1.6 gives systemd no rule for a device without a link in /dev/char"
    unknown = _unknown(node, "cgroup_driver", "injection", "runc", "dev_char_links")
    if node.policy != "static" or (exclusive and not _reconciles_all(node)):
        return Cause("dev_char_links", "low", text, unknown)
    text += ", and an update of the container by the static policy makes systemd apply its rules"
    return Cause("dev_char_links", "high", text, unknown)


def resizes_in_place(node: Node) -> bool:
    """Whether the kubelet resizes pods in place by default: that updates a container under every policy
    (docs/evidence/gpu-loss.md)."""
    return node.kubelet is not None and node.kubelet.line >= (1, RESIZES_IN_PLACE)


def _reconciles_all(node: Node) -> bool:
    """Whether the kubelet updates every container every 10 s under the static policy, or may do so."""
    return node.kubelet is None or node.kubelet.line < FIRST_WITHOUT_RECONCILE_OF_PINNED


_NAMES = {
    "kubelet": "kubelet_version",
    "policy": "cpu_manager_policy",
    "runc": "runc_version",
    "injection": "device_injection",
}


def _unknown(node: Node, *fields: str) -> t.List[str]:
    return [_NAMES.get(field, field) for field in fields if getattr(node, field) is None]
