# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.report import gpu_loss_text

LOST = {
    "namespace": "ml",
    "pod": "train",
    "container": "main",
    "state": "lost",
    "cause": "container_update",
    "evidence": ["it is gone"],
    "remedy": "Delete it.",
}
KEPT = {**LOST, "state": "kept", "pod": "well", "cause": None, "remedy": None}


def test_the_lost_are_told_with_evidence_and_remedy_and_what_was_not_read() -> None:
    nodes = [
        {"node": "gpu-01", "gpu_loss": {"containers": [LOST, KEPT], "unknown": []}, "error": ""},
        {"node": "gpu-02", "gpu_loss": {}, "error": "no kubelet"},
    ]
    assert gpu_loss_text(nodes).splitlines() == [
        "kubepin: 2 running containers with a GPU on 2 nodes: 1 lost their GPU, 1 have it, 0 unknown. Nothing was changed.",
        "  ml/train   main   gpu-01   LOST by container_update",
        "      it is gone",
        "      remedy: Delete it.",
        "  gpu-02   not read: no kubelet",
    ]


def test_a_kubelet_that_does_not_start_is_told_with_its_node() -> None:
    problem = {"text": "the kubelet does not stay up: no room. Make room."}
    nodes = [{"node": "gpu-01", "gpu_loss": {"containers": [], "kubelet_problem": problem}, "error": ""}]
    assert gpu_loss_text(nodes).splitlines()[1:] == ["  gpu-01   the kubelet does not stay up: no room. Make room."]
