# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what else the static policy changes for the pods of a node, per version of the kubelet."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import (
    is_on,
    manages_pod_level,
)

RESIZES_IN_PLACE = 33
"""The minor version of 1.x since which pods can be resized in place by default (KEP-1287; GA and always on in 1.35)."""
_ALWAYS_RESIZES = 35
DROPS_QUOTA = 33
"""The minor version of 1.x that brought the gate DisableCPUQuotaWithExclusiveCPUs, beta and on by default
(kubernetes/kubernetes#127525)."""
_ALWAYS_DROPS_QUOTA = 37
"""The minor version of 1.x since which it is locked (pkg/features/kube_features.go)."""


def static_policy_costs(minor: int, after: t.Mapping[str, t.Any]) -> t.List[str]:
    """What operators should know before they switch a kubelet of 1.*minor* to the static policy: sentences for people.

    :param after: the kubelet's effective configuration after the switch
    """
    gates = after.get("featureGates")
    notes = []
    resizes = minor >= _ALWAYS_RESIZES or (
        minor >= RESIZES_IN_PLACE and is_on(gates, "InPlacePodVerticalScaling", True)
    )
    if resizes and not is_on(gates, "InPlacePodVerticalScalingExclusiveCPUs", False):
        # pkg/kubelet/allocation/handlers.go
        notes.append(
            "Under the static policy the kubelet refuses to resize the CPUs of Guaranteed pods in place, also of those without exclusive "
            "CPUs: the vertical pod autoscaler has to recreate them."
        )
    if str((after.get("cpuManagerPolicyOptions") or {}).get("strict-cpu-reservation")).lower() == "true":
        # kubernetes/kubernetes#141196
        notes.append(
            "With strict-cpu-reservation, pods with exclusive CPUs may take all CPUs that are not reserved, and then leave none to other "
            "pods: keep some free, with the requests of the pods on the node."
        )
    if after.get("cpuCFSQuota") is False:
        return notes
    if minor >= _ALWAYS_DROPS_QUOTA or (
        minor >= DROPS_QUOTA and is_on(gates, "DisableCPUQuotaWithExclusiveCPUs", True)
    ):
        notes.append(
            f"Since 1.{DROPS_QUOTA} containers with exclusive CPUs have no CFS quota, nor has a pod with such a container as a whole: part "
            "of the gain comes from that."
        )
        if manages_pod_level(gates, minor):
            # pkg/kubelet/cm/container_manager_linux.go, PodHasExclusiveCPUs
            notes.append(
                "A pod with pod-level resources (spec.resources) keeps its CFS quota unless all of its containers have exclusive CPUs: "
                "PodLevelResourceManagers is on."
            )
    else:
        notes.append(
            "Containers with exclusive CPUs keep their CFS quota, which allows all of these CPUs all of the time."
        )
    return notes
