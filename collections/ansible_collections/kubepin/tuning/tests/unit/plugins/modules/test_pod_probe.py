# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import ProbeRequest
from ansible_collections.kubepin.tuning.plugins.modules import pod_probe
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem, refused

NO_API: Any = None


def test_every_fact_of_the_probe_is_documented() -> None:
    facts = pod_probe.Probe(NO_API, "kube-system", "n1")._facts(
        {"metadata": {"uid": "u"}}, ProbeRequest("n1", "kube-system", "busybox", 1, 1, "gpu", [], 15, 120)
    )
    assert set(yaml.safe_load(pod_probe.RETURN)["probe"]["contains"]) == set(facts)


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
            raise ApiError(a_problem("the node's kubelet refuses the connection"), 500, "connection refused")
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
    request = dataclasses.replace(REQUEST, **changes)
    return probe_on(node, monkeypatch, clock or {"now": 0.0}).run(request, request.timeout)


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
    with refused("probe_rejected"):
        probe_of(node, monkeypatch, retry_rejected=True)
    assert node.pods > 2
    assert node.live is None


def test_a_probe_is_rejected_at_once_if_nobody_asked_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RejectingNode(rejections=1)
    with refused("probe_rejected"):
        probe_of(node, monkeypatch)
    assert node.pods == 1


def test_a_probe_ends_as_soon_as_the_kubelet_has_ended_and_waits_for_nobody_to_remove_the_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 0.0}
    node = EndingKubelet(clock, ends_at=5)
    with refused("kubelet_ended"):
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
            raise ApiError(
                a_problem("the API server cannot be reached: Connection refused"), None, "Connection refused"
            )
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
        probe.await_report(REQUEST, since, REQUEST.timeout)
        assert 20 <= clock["now"] < 21
    else:
        with pytest.raises(TuningError, match=message):
            probe.await_report(REQUEST, since, REQUEST.timeout)
    assert node.pods == 0


class SetBack(SilentApi):
    """A stand-in for the API of a node whose clock is set back by an hour after 10 s."""

    def node(self, name: Any) -> dict[str, Any]:
        node = super().node(name)
        if self.clock["now"] >= 10:
            node["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-27T02:00:10Z"
        return node


def test_a_probe_does_not_wait_for_a_clock_that_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    probe_on(SetBack(clock, 0, ends_at=999), monkeypatch, clock).await_report(REQUEST, REPORT + 5, REQUEST.timeout)
    assert 10 <= clock["now"] < 12
