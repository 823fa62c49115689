# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that talk to the API, with one in memory."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import new_mark
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import ProbeRequest
from ansible_collections.kubepin.tuning.plugins.modules import node_api_info, pod_probe
from ansible_collections.kubepin.tuning.tests.unit.samples import api_server
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, end, reset

NO_API: Any = None


def test_every_fact_of_the_probe_is_documented() -> None:
    facts = pod_probe.Probe(NO_API, "kube-system", "n1")._facts(
        {"metadata": {"uid": "u"}}, ProbeRequest("n1", "kube-system", "busybox", 1, 1, "gpu", [], 15, 120)
    )
    assert set(yaml.safe_load(pod_probe.RETURN)["probe"]["contains"]) == set(facts)


class TwoNodes:
    """A stand-in for the API of two nodes, of which the pods of one cannot be read; it notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def nodes(self) -> list[Any]:
        self.asked.append("nodes")
        status = {"allocatable": {"cpu": "4", "amd.com/gpu": "2"}}
        return [{"metadata": {"name": name}, "status": status} for name in ("gpu-01", "gpu-02", "mute")]

    def without_node(self, name: Any, known: Any) -> Any:
        return TuningError(f'node "{name}" is not among {", ".join(known)}')

    def pods_on(self, name: Any) -> Any:
        if name == "mute":
            raise TuningError("no pods of mute")
        agent = {"metadata": {"namespace": "k", "name": f"koordlet-{name}", "labels": {"koord-app": "koordlet"}}}
        return [{**agent, "spec": {}}] if name == "gpu-02" else []

    def disruption_budgets(self) -> list[Any]:
        self.asked.append("budgets")
        return []

    def daemon_sets(self) -> Any:
        self.asked.append("daemon sets")
        return set()


def test_gpu_partitions_that_pods_keep_are_counted() -> None:
    class Partitioned(TwoNodes):
        def nodes(self) -> list[Any]:
            return [
                {"metadata": {"name": "gpu-01"}, "status": {"allocatable": {"cpu": "4", "nvidia.com/mig-1g.5gb": "7"}}}
            ]

        def pods_on(self, name: Any) -> list[Any]:
            agent = {
                "namespace": "k",
                "name": "agent",
                "ownerReferences": [{"kind": "DaemonSet", "name": "agent", "controller": True}],
            }
            return [
                {
                    "metadata": agent,
                    "spec": {"containers": [{"name": "a", "resources": {"requests": {"nvidia.com/mig-1g.5gb": "2"}}}]},
                }
            ]

        def daemon_sets(self) -> Any:
            return {("k", "agent")}

    drain = {"delete_emptydir_data": False, "force": False}
    question = {
        "node": "gpu-01",
        "gpu_resource": "auto",
        "configz": False,
        "containers": False,
        "drain": drain,
        "work": None,
    }
    node = node_api_info.read_many(Partitioned(), [question])["gpu-01"]["node"]
    assert (node["gpu_resource"], node["allocatable"]["gpu"], node["drain"]["gpus_kept"]) == (
        "nvidia.com/mig-1g.5gb",
        7,
        2,
    )


def test_many_nodes_are_read_with_their_own_questions_and_one_failure_is_no_other_ones() -> None:
    api: Any = TwoNodes()
    drain = {"delete_emptydir_data": False, "force": False}
    resources = {"gpu-01": "amd.com/gpu", "gone": "nvidia.com/gpu", "mute": "amd.com/gpu", "gpu-02": "nvidia.com/gpu"}
    questions = [
        {"node": name, "gpu_resource": resource, "configz": False, "containers": False, "drain": drain, "work": None}
        for name, resource in resources.items()
    ]
    found = node_api_info.read_many(api, questions)
    assert found["gone"] == {"msg": 'node "gone" is not among gpu-01, gpu-02, mute'}
    assert found["mute"] == {"msg": "no pods of mute"}
    assert [found[name]["node"]["allocatable"]["gpu"] for name in ("gpu-01", "gpu-02")] == [2, 0]
    assert found["gpu-01"]["node"]["drain"]["problems"] == []
    managers = [found[name]["node"]["drain"]["cpu_managers"] for name in ("gpu-01", "gpu-02")]
    assert [[manager["subject"] for manager in of_node] for of_node in managers] == [[], ["Koordinator"]]
    assert found["gpu-01"]["node"]["configz"] is None
    assert api.asked == ["nodes", "budgets", "daemon sets"]


def test_the_containers_of_a_node_are_read_with_the_rule_for_exclusive_cpus():
    class Running(TwoNodes):
        def pods_on(self, name):
            whole = {"limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}}
            return [
                {
                    "metadata": {"namespace": "ml", "name": "trainer", "uid": "u"},
                    "spec": {"containers": [{"name": "main", "resources": whole}, {"name": "waits"}]},
                    "status": {
                        "containerStatuses": [
                            {"name": "main", "containerID": "containerd://abc", "state": {"running": {}}},
                            {"name": "waits", "state": {"waiting": {}}},
                        ]
                    },
                }
            ]

    question = {
        "node": "gpu-01",
        "gpu_resource": "auto",
        "configz": False,
        "containers": True,
        "drain": None,
        "work": None,
    }
    (container,) = node_api_info.read_many(Running(), [question])["gpu-01"]["node"]["containers"]
    assert (container["name"], container["id"], container["gpus"]) == ("main", "abc", ["nvidia.com/gpu"])
    assert (container["exclusive"], container["reasons"]) == (False, ["other_container"])


def test_without_a_drain_only_the_nodes_are_listed():
    api = TwoNodes()
    question = {
        "node": "mute",
        "gpu_resource": "amd.com/gpu",
        "configz": False,
        "containers": False,
        "drain": None,
        "work": None,
    }
    found = node_api_info.read_many(api, [question])
    assert "drain" not in found["mute"]["node"]
    assert api.asked == ["nodes"]


class ReadyNodes(TwoNodes):
    """Nodes of which the first is Ready, the second cannot be asked, and the third is not Ready."""

    def nodes(self) -> Any:
        nodes = super().nodes()
        for node in nodes[:2]:
            node["status"] = {**node["status"], "conditions": [{"type": "Ready", "status": "True"}]}
        return nodes

    def configz(self, name: Any) -> dict[str, Any]:
        self.asked.append(f"configz of {name}")
        if name == "gpu-02":
            raise ApiError("nodes/proxy is forbidden", 403, "")
        return {"maxPods": 110}


def test_kubelets_are_asked_once_and_only_those_of_ready_nodes() -> None:
    api: Any = ReadyNodes()
    names = ("gpu-01", "gpu-02", "mute")
    questions = [
        {"node": name, "gpu_resource": "amd.com/gpu", "configz": True, "containers": False, "drain": None, "work": None}
        for name in names
    ]
    found = node_api_info.read_many(api, questions)
    assert [found[name]["node"]["configz"] for name in names] == [{"maxPods": 110}, None, None]
    assert [found[name]["node"]["configz_error"] for name in names] == [
        None,
        "nodes/proxy is forbidden",
        "the kubelet was not asked, because the node is not Ready",
    ]
    assert sorted(api.asked) == ["configz of gpu-01", "configz of gpu-02", "nodes"]


class RejectingNode:
    """A stand-in for the API of a node whose device plugin is back at the third pod."""

    def __init__(self, rejections: Any) -> None:
        self.rejections, self.pods = rejections, 0
        self.live: Any = None

    def create_pod(self, manifest: Any) -> Any:
        self.pods += 1
        rejected = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices"}
        status = rejected if self.pods <= self.rejections else {"phase": "Running", "qosClass": "Guaranteed"}
        self.live = {**manifest, "metadata": {**manifest["metadata"], "uid": str(self.pods)}, "status": status}
        return self.live

    def pod(self, namespace: Any, name: Any) -> Any:
        return self.live

    def delete_pod(self, pod: Any, at_once: bool = False) -> None:
        self.live = None

    def pod_log(self, namespace: Any, name: Any, container: Any) -> Any:
        lines = (f"kubepin-probe\t{second}\t1\t/dev/nvidia0=\n" for second in range(16))
        return "".join(lines) if self.live["status"]["phase"] == "Running" else ""

    def pod_events(self, namespace: Any, uid: Any) -> list[Any]:
        return []

    def kubelet_listens(self, node: Any) -> Any:
        return None

    def until(self, deadline: Any) -> Any:
        return contextlib.nullcontext()


class LateStatus(RejectingNode):
    """A stand-in for the API of a node whose kubelet tells of a rejection by an event only."""

    def create_pod(self, manifest: Any) -> Any:
        super().create_pod(manifest)
        if self.live["status"]["phase"] == "Failed":
            self.live["status"] = {"phase": "Pending"}
        return self.live

    def pod_events(self, namespace: Any, uid: Any) -> list[Any]:
        return [{"type": "Warning", "reason": "UnexpectedAdmissionError", "message": "no healthy devices"}]


class EndingKubelet(RejectingNode):
    """A stand-in for the API of a node whose kubelet ends after some seconds; its pods are removed by nobody then."""

    def __init__(self, clock: Any, ends_at: Any, starts_again_at: float = 999) -> None:
        super().__init__(rejections=0)
        self.clock, self.ends_at, self.starts_again_at, self.asked_to_remove = clock, ends_at, starts_again_at, False

    def kubelet_listens(self, node: Any) -> Any:
        return not self.ends_at <= self.clock["now"] < self.starts_again_at

    def pod_log(self, namespace: Any, name: Any, container: Any) -> Any:
        if not self.kubelet_listens("n1"):
            raise ApiError("the node's kubelet refuses the connection", 500, "connection refused")
        lines = (f"kubepin-probe\t{second}\t1\t/dev/nvidia0=\n" for second in range(int(self.clock["now"]) + 1))
        return "".join(lines)

    def delete_pod(self, pod: Any, at_once: bool = False) -> None:
        self.asked_to_remove = True


REQUEST = ProbeRequest("n1", "kube-system", "busybox", 1, 1, "nvidia.com/gpu", ["/dev/nvidia[0-9]*"], 15, 30)


def probe_on(node: Any, monkeypatch: Any, clock: Any) -> Any:
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.update(now=clock["now"] + seconds))
    return pod_probe.Probe(node, "kube-system", "n1")


def probe_of(node: Any, monkeypatch: Any, clock: Any = None, **changes: Any) -> Any:
    return probe_on(node, monkeypatch, clock or {"now": 0.0}).run(dataclasses.replace(REQUEST, **changes))


def test_a_probe_is_started_anew_until_the_device_plugin_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RejectingNode(rejections=2)
    assert probe_of(node, monkeypatch, retry_rejected=True)["cpus_allowed_list"] == "1"
    assert node.pods == 3


def test_a_rejection_that_only_an_event_tells_of_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    node = LateStatus(rejections=2)
    assert probe_of(node, monkeypatch, clock, retry_rejected=True)["cpus_allowed_list"] == "1"
    assert (node.pods, clock["now"]) == (3, 1.0)


def test_a_probe_that_is_rejected_until_the_timeout_says_so_and_leaves_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RejectingNode(rejections=999)
    with pytest.raises(TuningError, match=r"rejects the probe pod .* its device plugin is not back"):
        probe_of(node, monkeypatch, retry_rejected=True)
    assert node.pods > 2
    assert node.live is None


def test_a_probe_is_rejected_at_once_if_nobody_asked_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RejectingNode(rejections=1)
    with pytest.raises(TuningError, match="rejects the probe pod"):
        probe_of(node, monkeypatch)
    assert node.pods == 1


def test_a_probe_ends_as_soon_as_the_kubelet_has_ended_and_waits_for_nobody_to_remove_the_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 0.0}
    node = EndingKubelet(clock, ends_at=5)
    with pytest.raises(TuningError, match="the kubelet of node n1 has ended"):
        probe_of(node, monkeypatch, clock)
    assert clock["now"] <= 7
    assert node.asked_to_remove


def test_a_moment_without_an_answer_is_no_ended_kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    node = EndingKubelet(clock, ends_at=5, starts_again_at=5.6)
    assert probe_of(node, monkeypatch, clock)["seconds_observed"] == 15


class SilentApi(EndingKubelet):
    """A stand-in for an API server that is away for some seconds, and then shows a kubelet that reported at its start."""

    def __init__(self, clock: Any, back_at: Any, **kubelet: Any) -> None:
        super().__init__(clock, **kubelet)
        self.back_at = back_at

    def node(self, name: Any) -> dict[str, Any]:
        if self.clock["now"] < self.back_at:
            raise ApiError("the API server cannot be reached: Connection refused", None, "Connection refused")
        heartbeat = {"type": "Ready", "status": "False", "lastHeartbeatTime": "2026-11-27T03:00:00Z"}
        return {"metadata": {"name": name}, "status": {"conditions": [heartbeat]}}


REPORT = 1795748400.0
"""The heartbeat of `SilentApi` in seconds since 1970."""


@pytest.mark.parametrize(
    ("since", "back_at", "ends_at", "message"),
    [
        (REPORT + 0.9, 20, 999, None),
        (REPORT + 0.9, 40, 999, "within 30 s: the API server cannot be reached"),
        (REPORT + 1, 0, 999, "within 30 s: the API has not heard of the node since its kubelet was started"),
        (REPORT + 1, 0, 5, "has ended"),
    ],
    ids=["a pause", "away", "no report", "ended"],
)
def test_a_probe_waits_for_the_report_of_the_kubelet_that_was_started(
    monkeypatch: pytest.MonkeyPatch, since: Any, back_at: int, ends_at: int, message: str | None
) -> None:
    clock = {"now": 0.0}
    node = SilentApi(clock, back_at, ends_at=ends_at)
    probe = probe_on(node, monkeypatch, clock)
    if message is None:
        probe.await_report(REQUEST, since)
        assert 20 <= clock["now"] < 21
    else:
        with pytest.raises(TuningError, match=message):
            probe.await_report(REQUEST, since)
    assert node.pods == 0


def test_a_node_that_another_run_and_a_program_work_on_is_told(
    server: StandIn, kubeconfig_file: str, answer: Any
) -> None:
    theirs = new_mark("present", "theirs", "there", "", 600, time.time())
    server.add_node(annotations={"kubepin.io/cordoned": theirs.dump(), "weave.works/kured-reboot-in-progress": "now"})
    server.add_node("gpu-02", annotations={"kubepin.io/cordoned": "present"})
    work = {"purpose": "rolled_back", "run": "mine"}
    questions = [{"node": name, "work": work} for name in ("gpu-01", "gpu-02")]
    found = answer("node_api_info", kubeconfig=kubeconfig_file, nodes=questions)["nodes"]
    taken, free = (found[name]["node"]["work"] for name in ("gpu-01", "gpu-02"))
    assert [problem["code"] for problem in taken["problems"]] == ["node_in_use", "node_in_maintenance"]
    assert (taken["resumable"], taken["mark"]["run"]) == (False, "theirs")
    assert (free["resumable"], free["problems"], free["notes"]) == (True, [], [])
    single = answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01", work={**work, "run": "theirs"})
    assert [problem["code"] for problem in single["node"]["work"]["problems"]] == ["node_in_maintenance"]
    assert "work" not in answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01")["node"]


def test_a_wait_outlasts_an_outage(server: StandIn, kubeconfig_file: str, answer: Any) -> None:
    node = server.add_node()
    node["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    server.faults.extend([reset, api_server.answer(503, b""), end])
    waited = answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01", wait_for={"ready": True, "timeout": 30})
    assert waited["node"]["ready"]
    assert waited["waited_seconds"] < 10


def test_the_rights_are_asked_for_through_an_outage(server: StandIn, kubeconfig_file: str, answer: Any) -> None:
    allowed = api_server.answer(201, b'{"status": {"allowed": true}}')
    server.faults.extend([end, api_server.answer(429, b"Too many requests", Retry_After="0"), *[allowed] * 100])
    found = answer("api_rights_info", kubeconfig=kubeconfig_file, purposes=["audit"])
    assert found["missing"] == []
