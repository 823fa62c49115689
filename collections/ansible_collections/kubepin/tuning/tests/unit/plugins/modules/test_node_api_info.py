# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import new_mark
from ansible_collections.kubepin.tuning.plugins.modules import node_api_info
from ansible_collections.kubepin.tuning.tests.unit.samples import api_server
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, end, reset
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem


class TwoNodes:
    """A stand-in for the API of two nodes, of which the pods of one cannot be read; it notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def nodes(self) -> list[Any]:
        self.asked.append("nodes")
        status = {"allocatable": {"cpu": "4", "amd.com/gpu": "2"}}
        return [{"metadata": {"name": name}, "status": status} for name in ("gpu-01", "gpu-02", "mute")]

    def without_node(self, name: Any, known: Any) -> Any:
        return TuningError(a_problem(f'node "{name}" is not among {", ".join(known)}'))

    def pods_on(self, name: Any) -> Any:
        if name == "mute":
            raise TuningError(a_problem("no pods of mute"))
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
    api: Any = Partitioned()
    node = node_api_info.read_many(api, [question])["gpu-01"]["node"]
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
    assert found["gone"]["msg"] == 'node "gone" is not among gpu-01, gpu-02, mute.'
    assert [problem["finding"] for problem in found["mute"]["problems"]] == ["no pods of mute"]
    assert [found[name]["node"]["allocatable"]["gpu"] for name in ("gpu-01", "gpu-02")] == [2, 0]
    assert found["gpu-01"]["node"]["drain"]["problems"] == []
    managers = [found[name]["node"]["drain"]["cpu_managers"] for name in ("gpu-01", "gpu-02")]
    assert [[manager["subject"] for manager in of_node] for of_node in managers] == [[], ["Koordinator"]]
    assert found["gpu-01"]["node"]["configz"] is None
    assert api.asked == ["nodes", "budgets", "daemon sets"]


def test_the_containers_of_a_node_are_read_with_the_rule_for_exclusive_cpus() -> None:
    class Running(TwoNodes):
        def pods_on(self, name: str) -> list[Any]:
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
    api: Any = Running()
    (container,) = node_api_info.read_many(api, [question])["gpu-01"]["node"]["containers"]
    assert (container["name"], container["id"], container["gpus"]) == ("main", "abc", ["nvidia.com/gpu"])
    assert (container["exclusive"], container["reasons"]) == (False, ["other_container"])


def test_without_a_drain_only_the_nodes_are_listed() -> None:
    api: Any = TwoNodes()
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


class StartedNode(TwoNodes):
    """A stand-in for the API of a cluster whose node comes back after a start of its kubelet, an answer after another."""

    def __init__(self, *answers: tuple[str, int, int]) -> None:
        super().__init__()
        self.answers = list(answers)

    def nodes(self) -> list[dict[str, Any]]:
        return [self.node("gpu-01")]

    def until(self, deadline: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def node(self, name: str) -> dict[str, Any]:
        ready, since, gpus = self.answers.pop(0)
        moment = "2026-11-27T03:{:02}:{:02}Z"
        condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": moment.format(*divmod(600, 60))}
        condition["lastTransitionTime"] = moment.format(*divmod(600 - since, 60))
        amounts = {"cpu": "4", "nvidia.com/gpu": str(gpus)}
        status = {"allocatable": amounts, "capacity": amounts, "conditions": [condition]}
        return {"metadata": {"name": name}, "status": status}


@pytest.mark.parametrize(
    ("answers", "gpus", "ready", "offered"),
    [
        pytest.param([("False", 5, 0), ("False", 15, 0), ("True", 0, 0)], 0, True, 0, id="not Ready at first"),
        pytest.param([("True", 5, 0), ("True", 15, 0), ("True", 25, 2)], 1, True, 2, id="the device plugin comes back"),
        pytest.param([("False", 5, 0)] * 9, 0, False, 0, id="the time is over"),
        pytest.param([("False", 500, 0)], 0, False, 0, id="not Ready for long"),
        pytest.param([("Unknown", 5, 0)], 0, False, 0, id="it does not report"),
    ],
)
def test_a_node_whose_kubelet_was_just_started_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[str, int, int]], gpus: int, ready: bool, offered: int
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.update(now=clock["now"] + seconds))
    question = {"node": "gpu-01", "gpu_resource": "auto", "configz": False, "drain": None, "work": None}
    api: Any = StartedNode(*answers)
    node = node_api_info.read_many(api, [{**question, "containers": False, "settle": 8, "gpus": gpus}])["gpu-01"][
        "node"
    ]
    assert (node["ready"], node["allocatable"]["gpu"]) == (ready, offered)
    assert not api.answers


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
            raise ApiError(a_problem("nodes/proxy is forbidden"), 403, "")
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
        "nodes/proxy is forbidden.",
        "the kubelet was not asked, because the node is not Ready",
    ]
    assert sorted(api.asked) == ["configz of gpu-01", "configz of gpu-02", "nodes"]


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


def test_a_wait_does_not_wait_for_a_clock_that_was_set_back(
    server: StandIn, kubeconfig_file: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-27T03:00:00Z"}
    server.add_node()["status"] = {"conditions": [ready]}
    monkeypatch.setattr(time, "sleep", lambda seconds: ready.update(lastHeartbeatTime="2026-11-27T02:00:00Z"))
    wait_for = {"ready": True, "reported_since": 1795748460.0, "timeout": 5}
    waited = answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01", wait_for=wait_for)
    assert waited["node"]["ready"]


def test_a_wait_for_a_version_lasts_until_the_new_kubelet_has_reported(
    server: StandIn, kubeconfig_file: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"kubeletVersion": "v1.21.14"}
    server.add_node()["status"] = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": info}
    wait_for = {"kubelet_version": "v1.22.17", "timeout": 0}
    late = answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01", wait_for=wait_for)
    assert late["unmet"] == ["the kubelet's version is v1.21.14, wanted v1.22.17"]
    monkeypatch.setattr(time, "sleep", lambda seconds: info.update(kubeletVersion="v1.22.17"))
    waited = answer("node_api_info", kubeconfig=kubeconfig_file, node="gpu-01", wait_for={**wait_for, "timeout": 5})
    assert waited["node"]["kubelet_version"] == "v1.22.17"
