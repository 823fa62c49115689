# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of other programs that drain, reboot or remove nodes. Pure: a node object in, problems and notes out."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems


@dataclass(frozen=True)
class ForeignMark:
    """A mark on a node.

    *place* is `taint`, `label` or `annotation`. *key* and *value* are patterns of the whole text. *stops* tells whether
    the program is working on the node; otherwise it may begin to.
    """

    program: str
    place: str
    key: str
    value: str = ".*"
    stops: bool = True


_AT_WORK = (
    "cordon-required|wait-for-jobs-required|pod-deletion-required|drain-required|node-maintenance-required|"
    "post-maintenance-required|pod-restart-required|validation-required|uncordon-required"
)

MARKS = (
    # kubereboot/kured cmd/kured/main.go KuredRebootInProgressAnnotation; only with --annotate-nodes
    ForeignMark("kured", "annotation", "weave.works/kured-reboot-in-progress"),
    # NVIDIA/k8s-operator-libs pkg/upgrade/consts.go: GPU operator (gpu, vgpu), network operator (ofed)
    ForeignMark("the driver upgrade of NVIDIA's operator", "label", r"nvidia\.com/\w+-driver-upgrade-state", _AT_WORK),
    ForeignMark(
        "the driver upgrade of NVIDIA's operator",
        "label",
        r"nvidia\.com/\w+-driver-upgrade-state",
        "upgrade-required|upgrade-failed",
        stops=False,
    ),
    # kubernetes/autoscaler cluster-autoscaler/utils/taints/taints.go
    ForeignMark("cluster autoscaler", "taint", "ToBeDeletedByClusterAutoscaler"),
    ForeignMark("cluster autoscaler", "taint", "DeletionCandidateOfClusterAutoscaler", stops=False),
    # kubernetes-sigs/karpenter pkg/apis/v1/taints.go, and pkg/apis/v1beta1/taints.go before Karpenter 1.0
    ForeignMark("Karpenter", "taint", r"karpenter\.sh/disrupted"),
    ForeignMark("Karpenter", "taint", r"karpenter\.sh/disruption", "disrupting"),
    # medik8s/node-maintenance-operator controllers/taint.go; its predecessor, and Harvester, use the second
    ForeignMark("the node maintenance operator", "taint", r"medik8s\.io/drain"),
    ForeignMark("the node maintenance operator", "taint", r"kubevirt\.io/drain"),
    # medik8s/self-node-remediation controllers NodeNoExecuteTaint, medik8s/fence-agents-remediation api/v1alpha1
    ForeignMark("a remediation of medik8s", "taint", r"medik8s\.io/remediation"),
    # k8s.io/api/core/v1 TaintNodeOutOfService: set by a person or a remediation after the node was shut down
    ForeignMark("whoever shut the node down", "taint", r"node\.kubernetes\.io/out-of-service"),
)


def foreign_work(node: Mapping[str, t.Any]) -> tuple[list[Problem], list[str]]:
    """The problems with a node on which another program works, and notes about programs that may begin to."""
    name = node["metadata"]["name"]
    found = [(mark, text) for mark in MARKS for text in _found(mark, node)]
    stopping = [
        problems.in_maintenance(name, mark.program, f"{mark.place} {text}") for mark, text in found if mark.stops
    ]
    notes = [
        problems.maintenance_may_begin(name, mark.program, f"{mark.place} {text}")
        for mark, text in found
        if not mark.stops
    ]
    return stopping, notes


def _found(mark: ForeignMark, node: Mapping[str, t.Any]) -> Iterator[str]:
    """The mark as it stands on the node, key=value."""
    for key, value in _pairs(mark.place, node):
        if re.fullmatch(mark.key, key) and re.fullmatch(mark.value, value):
            yield f"{key}={value}" if value else key


def _pairs(place: str, node: Mapping[str, t.Any]) -> list[tuple[str, str]]:
    if place == "taint":
        taints = (node.get("spec") or {}).get("taints") or []
        return [(taint["key"], taint.get("value") or "") for taint in taints]
    return list((node["metadata"].get(f"{place}s") or {}).items())
