# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain evicts, what it says while it waits, and how it ends; an HTTP server stands in for the API server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import api as cluster_api
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import KubernetesApi
from ansible_collections.kubepin.tuning.plugins.modules import node_drain
from ansible_collections.kubepin.tuning.plugins.modules.node_drain import Drain, Drained, ProgressFile
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import (
    StandIn,
    answer,
    end,
    reset,
    status_object,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.clock import Clock
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused

Data = dict[str, Any]
NODE, PODS = "/api/v1/nodes/gpu-01", "/api/v1/namespaces/ml/pods"
BUDGET = answer(429, status_object(429, "would violate the pod's disruption budget", "DisruptionBudget"))
TERMINATING = answer(403, status_object(403, "namespace ml is being terminated", "NamespaceTerminating"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain looks again after a hundredth of a second instead of a second."""
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(seconds / 100))


@pytest.fixture
def drain(api: KubernetesApi) -> Callable[..., Drained]:
    this = Drain(api, "gpu-01", {"delete_emptydir_data": False, "force": False})

    def run(timeout: float = 20, tell: Any = lambda remaining: None, stop: Any = lambda: False) -> Drained:
        return this.run(timeout, tell, stop)

    return run


def refuse(times: int, fault: Any = BUDGET) -> Callable[[Data], Any]:
    """Answers the first evictions with a fault."""
    left = [fault] * times
    return lambda pod: left.pop() if left else None


def test_it_tells_what_it_waits_for_until_nothing_is_left(server: StandIn, drain: Callable[..., Drained]) -> None:
    server.add_pod("trainer-0", "a")
    server.on_eviction = refuse(2)
    progress: list[list[str]] = []
    drained = drain(tell=lambda remaining: progress.append(list(remaining)))
    assert [pod["name"] for pod in drained.evicted] == ["trainer-0"]
    refused = ["ml/trainer-0: its disruption budget allows no eviction"]
    assert progress == [refused, refused, ["ml/trainer-0 was just evicted"]]


def test_a_pod_that_comes_back_is_evicted_once_and_named(server: StandIn, drain: Callable[..., Drained]) -> None:
    """As an agent of a Deployment that tolerates everything, which returns to the cordoned node at once."""
    tolerations = [{"operator": "Exists"}]
    server.add_pod("agent-1", "first", tolerations=tolerations)
    server.on_eviction = lambda pod: server.add_pod("agent-2", "second", tolerations=tolerations)
    drained = drain()
    assert server.evictions == ["first"]
    (arrived,) = drained.arrived
    assert (arrived["name"], arrived["owner"]) == ("agent-2", "ReplicaSet/agent")
    assert "tolerates node.kubernetes.io/unschedulable. That does not matter" in str(arrived["text"])


def test_a_pod_that_comes_back_under_its_old_name_is_another_one(
    server: StandIn, drain: Callable[..., Drained]
) -> None:
    """As a pod of a StatefulSet does."""
    server.add_pod("trainer-0", "first")
    server.on_eviction = lambda pod: server.add_pod("trainer-0", "second")
    drained = drain()
    assert server.evictions == ["first"]
    assert [pod["name"] for pod in drained.arrived] == ["trainer-0"]


def test_a_late_pod_with_a_gpu_matters(server: StandIn, drain: Callable[..., Drained]) -> None:
    server.add_pod("trainer-0", "first")
    container = {"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "4"}}}
    server.on_eviction = lambda pod: server.add_pod("late-1", "late", containers=[container])
    (arrived,) = drain().arrived
    assert "was bound to it without the scheduler, or before the cordon" in str(arrived["text"])
    assert "holds nvidia.com/gpu, and may lose it when the kubelet restarts" in str(arrived["text"])


def test_a_pod_that_is_terminating_at_the_start_is_waited_for_and_not_evicted(
    server: StandIn, drain: Callable[..., Drained]
) -> None:
    server.add_pod("old-1", "old", metadata={"deletionTimestamp": "2026-11-27T00:00:00Z"})
    progress: list[list[str]] = []

    def tell(remaining: list[str]) -> None:
        progress.append(list(remaining))
        server.objects.pop(f"{PODS}/old-1")

    assert drain(tell=tell) == Drained([], [])
    assert progress == [["ml/old-1 is still terminating"]]
    assert server.evictions == []


@pytest.mark.parametrize("fault", [reset, end, answer(503, b""), answer(500, status_object(500, "leader changed"))])
def test_an_outage_does_not_end_a_drain(server: StandIn, drain: Callable[..., Drained], fault: Any) -> None:
    server.add_pod("trainer-0", "a")
    server.on_eviction = refuse(1)
    progress: list[list[str]] = []

    def tell(remaining: list[str]) -> None:
        progress.append(list(remaining))
        if len(progress) == 1:
            server.faults.extend([fault] * 3)

    assert [pod["name"] for pod in drain(tell=tell).evicted] == ["trainer-0"]
    away = [line for lines in progress for line in lines if line.startswith("the API server does not answer")]
    assert len(away) == 3


def test_a_server_that_refuses_connections_does_not_end_a_drain(server: StandIn, drain: Callable[..., Drained]) -> None:
    server.add_pod("trainer-0", "a")

    def away(pod: Data) -> Any:
        server.stop()
        threading.Timer(0.2, server.start).start()
        return BUDGET if len(server.evictions) == 1 else None

    server.on_eviction = away
    assert [pod["name"] for pod in drain().evicted] == ["trainer-0"]


def test_an_outage_without_end_ends_a_drain(
    server: StandIn, drain: Callable[..., Drained], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in (cluster_api, node_drain):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 0.2)
    server.add_pod("trainer-0", "a")

    def refuse(pod: dict[str, Any]) -> Any:
        server.faults.extend([answer(503, b"")] * 5000)
        return BUDGET

    server.on_eviction = refuse
    with pytest.raises(TuningError, match="answers 503") as caught:
        drain(timeout=3)
    assert caught.value.details["remaining"][0].startswith("ml/trainer-0")


def test_an_eviction_from_a_namespace_that_is_being_deleted_is_tried_again(
    server: StandIn, drain: Callable[..., Drained]
) -> None:
    server.add_pod("trainer-0", "a")
    server.on_eviction = refuse(2, TERMINATING)
    progress: list[list[str]] = []
    drained = drain(tell=lambda remaining: progress.append(list(remaining)))
    assert [pod["name"] for pod in drained.evicted] == ["trainer-0"]
    assert progress[0] == ["ml/trainer-0: its namespace is being deleted, which will delete the pod"]


def test_pods_that_do_not_go_away_are_named_when_the_time_is_over(
    server: StandIn, drain: Callable[..., Drained], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in (cluster_api, node_drain):
        monkeypatch.setattr(module, "time", clock)
    server.add_pod("trainer-0", "a")
    server.on_eviction = lambda pod: BUDGET
    with refused("drain_timed_out") as caught:
        drain(timeout=0.1)
    assert caught.value.details["remaining"] == ["ml/trainer-0: its disruption budget allows no eviction"]


def test_a_stop_begins_no_eviction_and_names_the_pods_that_are_still_there(
    server: StandIn, drain: Callable[..., Drained]
) -> None:
    server.add_pod("trainer-0", "a")
    with pytest.raises(TuningError, match="stopped as asked: ml/trainer-0 is not evicted yet"):
        drain(stop=lambda: True)
    assert server.evictions == []


def test_a_stop_is_heeded_during_an_outage(server: StandIn, drain: Callable[..., Drained]) -> None:
    server.add_pod("trainer-0", "a")

    def refuse(pod: dict[str, Any]) -> Any:
        server.faults.extend([end] * 100)
        return BUDGET

    server.on_eviction = refuse
    with pytest.raises(TuningError, match="stopped as asked: ml/trainer-0: its disruption budget"):
        drain(stop=lambda: bool(server.faults))
    assert len(server.faults) > 90


def test_a_stop_of_a_node_that_is_empty_already_is_none(server: StandIn, drain: Callable[..., Drained]) -> None:
    assert drain(stop=lambda: True) == Drained([], [])


def test_the_progress_file_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "drain-gpu-01.json"
    progress = ProgressFile(str(path))
    progress.tell(["one"])
    progress.tell(["two"])
    assert json.loads(path.read_text()) == {"remaining": ["two"]}
    progress.remove()
    assert list(tmp_path.iterdir()) == []
    ProgressFile(None).tell(["nobody listens"])


def test_the_module_cordons_marks_and_drains_in_one_task(
    server: StandIn, kubeconfig_file: str, answer: Callable[..., Data]
) -> None:
    server.add_node()
    server.add_pod("trainer-0", "a")
    ask = {"node": "gpu-01", "kubeconfig": kubeconfig_file, "cordon_as": "present", "run": "run-1"}
    would = answer("node_drain", **ask, _ansible_check_mode=True)
    assert (would["changed"], [pod["name"] for pod in would["evicted"]]) == (True, ["trainer-0"])
    assert server.objects[NODE]["spec"] == {}
    assert server.evictions == []
    done = answer("node_drain", **ask)
    assert (done["changed"], [pod["name"] for pod in done["evicted"]], done["arrived"]) == (True, ["trainer-0"], [])
    node = server.objects[NODE]
    assert node["spec"] == {"unschedulable": True}
    mark = json.loads(node["metadata"]["annotations"]["kubepin.io/cordoned"])
    assert (mark["purpose"], mark["run"]) == ("present", "run-1")
    assert not answer("node_drain", **ask)["changed"]
    assert answer("node_drain", **ask, state="uncordon")["changed"]
    assert server.objects[NODE]["spec"] == {}
    assert server.objects[NODE]["metadata"]["annotations"] == {}
    assert not answer("node_drain", **ask, state="uncordon")["changed"]


def test_a_node_of_another_run_is_neither_drained_nor_uncordoned(
    server: StandIn, kubeconfig_file: str, answer: Callable[..., Data]
) -> None:
    server.add_node()
    server.add_pod("trainer-0", "a")
    ask = {"node": "gpu-01", "kubeconfig": kubeconfig_file, "cordon_as": "present"}
    answer("node_drain", **ask, run="theirs", state="cordon")
    failed = answer("node_drain", **ask, run="mine")
    assert failed["failed"]
    assert [problem["code"] for problem in failed["problems"]] == ["node_in_use"]
    assert "run theirs on " in failed["msg"]
    assert server.evictions == []
    assert not answer("node_drain", **ask, run="mine", state="uncordon")["changed"]
    assert server.objects[NODE]["spec"] == {"unschedulable": True}
    assert answer("node_drain", **ask, run="mine", take_over=True)["changed"]
    assert server.evictions == ["a"]
    assert answer("node_drain", **ask, run="mine", state="uncordon")["changed"]


def test_a_cordon_needs_a_purpose(kubeconfig_file: str, answer: Callable[..., Data]) -> None:
    failed = answer("node_drain", node="gpu-01", kubeconfig=kubeconfig_file, state="cordon")
    assert "state is cordon but all of the following are missing: cordon_as" in failed["msg"]
    assert "cordon" in node_drain.ARGUMENT_SPEC["state"]["choices"]
