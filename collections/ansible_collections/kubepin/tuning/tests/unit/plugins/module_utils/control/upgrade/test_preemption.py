# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose CPUs a drained pod may take."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.preemption import preemptions

Data = dict[str, Any]
CRITICAL = 2_000_000_000
MASTER = {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}


def node(name: str, cpus: str, taints: list[Data] | None = None, **spec: Any) -> Data:
    return {"metadata": {"name": name}, "spec": {"taints": taints, **spec}, "status": {"allocatable": {"cpu": cpus}}}


def pod(name: str, cpu: str, priority: int = 0, qos: str = "Guaranteed", **spec: Any) -> Data:
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"priority": priority, "containers": [{"resources": {"requests": {"cpu": cpu}}}], **spec},
        "status": {"phase": "Running", "qosClass": qos},
    }


class Cluster:
    """A critical pod on the control plane, and a worker whose only CPU is taken."""

    def __init__(self) -> None:
        self.nodes = [node("cp", "2", [MASTER]), node("w1", "1", unschedulable=True), node("w2", "1")]
        self.pods = {"cp": [pod("dns", "100m", CRITICAL, "Burstable")], "w1": [], "w2": [pod("pinned", "1")]}

    def found(self) -> list[str]:
        return preemptions(self.nodes, self.pods, {"cp": ["default/dns"]})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_critical_pod_that_fits_nowhere_else_may_take_whole_cpus(cluster: Cluster) -> None:
    [text] = cluster.found()
    assert "pod default/dns (priority 2000000000) leaves cp" in text
    assert "no other node has 0.1 CPUs free for it: it may preempt default/pinned on w2." in text


@pytest.mark.parametrize(
    "taint",
    [
        pytest.param(None, id="room elsewhere"),
        pytest.param({"key": "dedicated", "value": "dns", "effect": "NoSchedule"}, id="room behind a tolerated taint"),
        pytest.param({"key": "soft", "effect": "PreferNoSchedule"}, id="room behind a mere preference"),
    ],
)
def test_room_elsewhere_harms_nobody(cluster: Cluster, taint: Data | None) -> None:
    cluster.nodes.append(node("w3", "1", [taint] if taint else None))
    cluster.pods["w3"] = []
    cluster.pods["cp"][0]["spec"]["tolerations"] = [{"key": "dedicated", "operator": "Equal", "value": "dns"}]
    assert cluster.found() == []


def test_room_behind_a_taint_is_none(cluster: Cluster) -> None:
    cluster.nodes.append(node("w3", "1", [{"key": "dedicated", "value": "other", "effect": "NoSchedule"}]))
    cluster.pods["w3"] = []
    cluster.pods["cp"][0]["spec"]["tolerations"] = [{"key": "dedicated", "value": "dns"}]
    assert len(cluster.found()) == 1


@pytest.mark.parametrize(
    ("pinned", "moved"),
    [
        pytest.param({"priority": CRITICAL}, {}, id="of the same priority"),
        pytest.param({"qos": "Burstable"}, {}, id="without CPUs of its own"),
        pytest.param({"cpu": "950m"}, {}, id="fractional"),
        pytest.param({}, {"preemptionPolicy": "Never"}, id="who moves preempts nobody"),
        pytest.param({}, {"priority": 0}, id="who moves is not more important"),
    ],
)
def test_other_pods_are_not_named(cluster: Cluster, pinned: Data, moved: Data) -> None:
    cluster.pods["w2"] = [pod("pinned", **{"cpu": "1", **pinned})]
    cluster.pods["cp"][0]["spec"].update(moved)
    assert cluster.found() == []


def test_a_pod_that_stays_is_not_asked(cluster: Cluster) -> None:
    assert preemptions(cluster.nodes, cluster.pods, {"cp": []}) == []
