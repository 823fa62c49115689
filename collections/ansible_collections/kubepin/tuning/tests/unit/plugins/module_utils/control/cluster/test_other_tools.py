# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.other_tools import foreign_work

STATE = "nvidia.com/gpu-driver-upgrade-state"


def node(taints: tuple[tuple[str, str], ...] = (), **metadata: Any) -> dict[str, Any]:
    found = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in taints]
    return {"metadata": {"name": "gpu-01", **metadata}, "spec": {"taints": found} if found else {}}


@pytest.mark.parametrize(
    ("marked", "program", "mark"),
    [
        (node(annotations={"weave.works/kured-reboot-in-progress": "2026-11-27"}), "kured", "annotation weave.works/"),
        (node(labels={STATE: "drain-required"}), "NVIDIA's operator", f"label {STATE}=drain-required"),
        (node(labels={"nvidia.com/ofed-driver-upgrade-state": "pod-restart-required"}), "NVIDIA's operator", "ofed"),
        (node((("ToBeDeletedByClusterAutoscaler", "17"),)), "cluster autoscaler", "taint ToBeDeletedByClusterAuto"),
        (node((("karpenter.sh/disrupted", ""),)), "Karpenter", "taint karpenter.sh/disrupted says"),
        (node((("karpenter.sh/disruption", "disrupting"),)), "Karpenter", "karpenter.sh/disruption=disrupting"),
        (node((("medik8s.io/drain", ""),)), "node maintenance operator", "medik8s.io/drain"),
        (node((("kubevirt.io/drain", "draining"),)), "node maintenance operator", "kubevirt.io/drain=draining"),
        (node((("medik8s.io/remediation", "self-node-remediation"),)), "remediation of medik8s", "remediation"),
        (node((("node.kubernetes.io/out-of-service", "nodeshutdown"),)), "shut the node down", "out-of-service"),
    ],
)
def test_a_node_that_another_program_works_on_is_named(marked: dict[str, Any], program: str, mark: str) -> None:
    (problem,), notes = foreign_work(marked)
    assert problem.code == "node_in_maintenance"
    assert problem.waivable
    assert program in problem.finding
    assert mark in problem.finding
    assert notes == []


@pytest.mark.parametrize(
    ("marked", "mark"),
    [
        (node(labels={STATE: "upgrade-required"}), "upgrade-required"),
        (node(labels={STATE: "upgrade-failed"}), "upgrade-failed"),
        (node((("DeletionCandidateOfClusterAutoscaler", "17"),)), "DeletionCandidateOfClusterAutoscaler=17"),
    ],
)
def test_a_program_that_may_begin_is_noted_only(marked: dict[str, Any], mark: str) -> None:
    problems, (note,) = foreign_work(marked)
    assert problems == []
    assert mark in note


@pytest.mark.parametrize(
    "sound",
    [
        node(),
        node(labels={STATE: "upgrade-done"}),
        node(annotations={"weave.works/kured-most-recent-reboot-needed": "2026-11-27"}),
        node((("nvidia.com/gpu", "present"), ("karpenter.sh/unregistered", ""))),
        node((("node.kubernetes.io/unschedulable", ""),)),
    ],
)
def test_a_node_on_which_nobody_works_is_left_to_kubepin(sound: dict[str, Any]) -> None:
    assert foreign_work(sound) == ([], [])
