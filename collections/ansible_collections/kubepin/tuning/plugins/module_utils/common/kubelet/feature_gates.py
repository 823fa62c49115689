# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a kubelet's feature gates turn on."""

from __future__ import annotations

import typing as t

_POD_LEVEL = "PodLevelResourceManagers"
_NEEDED = "PodLevelResources"
_ALPHA, _BETA, _NEEDED_BETA = 36, 37, 34


def is_on(gates: t.Optional[t.Mapping[str, t.Any]], name: str, default: bool) -> bool:
    """Whether *gates*, a kubelet's featureGates, turn a gate on."""
    return str((gates or {}).get(name, default)).lower() == "true"


def manages_pod_level(gates: t.Optional[t.Mapping[str, t.Any]], minor: int) -> bool:
    """Whether the kubelet's CPU and memory managers know resources of whole pods (KEP-5526).

    PodLevelResourceManagers is alpha in 1.36 and beta in 1.37, off in both; AllAlpha and AllBeta turn on what is not set by
    name (pkg/features/kube_features.go; k8s.io/component-base/featuregate). Without PodLevelResources, on since 1.34, it does
    nothing (pkg/kubelet/cm/cpumanager/policy_static.go).

    :param gates: the kubelet's featureGates
    :param minor: its minor version of 1.x
    """
    if minor < _ALPHA:
        return False
    of_all = is_on(gates, "AllAlpha" if minor < _BETA else "AllBeta", False)
    needed = is_on(gates, _NEEDED, minor >= _NEEDED_BETA)
    return needed and is_on(gates, _POD_LEVEL, of_all)
