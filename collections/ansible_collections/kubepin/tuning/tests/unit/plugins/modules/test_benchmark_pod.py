# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's own work on a simulated cluster: what is kept, and that no pod stays behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.pod import (
    Failure,
    PodLog,
    PodRequest,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import api as cluster_api
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.modules import benchmark_pod
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem, refused

OURS = {"app.kubernetes.io/managed-by": "kubepin"}


def line(kind: Any, arm: str = "static-auto", number: int = 1) -> Any:
    return json.dumps({"schema": 1, "kind": kind, "run_id": "lab", "arm": arm, "round": number})


END = line("end")


def request(**changes: Any) -> Any:
    settings = dict.fromkeys(PodRequest.__dataclass_fields__)
    settings.update(
        {
            "node": "gpu-01",
            "namespace": "kubepin-benchmark",
            "run_id": "lab",
            "arm": "static",
            "rounds": [1],
            "threads": ["auto"],
            "arguments": [],
            "env": {},
            "tolerations": [],
            "cpu": "12",
            "memory": "30Gi",
            "gpus": 1,
            "gpu_resource": "nvidia.com/gpu",
            "user": 1000,
            "loads": ["solo"],
            "slot_seconds": 6.0,
            "tenants": 0,
            "tenant": 0,
            "schedule_timeout": 60,
            "start_timeout": 900,
            "timeout": 3600,
        }
    )
    return PodRequest(**{**settings, **changes})


def running(**state: Any) -> dict[str, Any]:
    return {"phase": "Running", "qosClass": "Guaranteed", "containerStatuses": [{"name": "benchmark", "state": state}]}


STARTED = running(running={"startedAt": "now"})
DONE = running(terminated={"exitCode": 0})


class Cluster:
    """Answers as an API server: the pod's statuses and logs come one a look, the last one again and again.

    A callable among them is called first: it raises what stands for the API server's answer, or acts behind our back.
    """

    def __init__(self, statuses: Any, logs: Any = ("",), there: Any = None, ready: str = "True") -> None:
        self.there = there
        self.created = 0
        self._statuses, self._logs, self._ready = list(statuses), list(logs), ready

    def node(self, name: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": self._ready}]}}

    def pods_on(self, node: Any) -> list[Any]:
        return []

    def create_pod(self, manifest: Any) -> Any:
        self.created += 1
        metadata = {**manifest["metadata"], "uid": f"uid-{self.created}"}
        self.there = {"metadata": metadata, "spec": {"nodeName": "gpu-01"}, "status": {}}
        return self.there

    def pod(self, namespace: Any, name: Any) -> Any:
        if self.there and self.created and self._statuses:
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            if callable(status):
                status = status(self)
            if self.there:
                self.there["status"] = status
        return self.there

    def delete_pod(self, pod: Any, at_once: bool = False) -> None:
        self.there = None

    def pod_log(self, namespace: Any, name: Any, container: Any) -> Any:
        return self._logs.pop(0) if len(self._logs) > 1 else self._logs[0]

    def pod_events(self, namespace: Any, uid: Any) -> list[Any]:
        return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time goes on by sleeping only."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> Any:
            return self.now

        def sleep(self, seconds: Any) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(benchmark_pod, "time", clock)
    monkeypatch.setattr(cluster_api, "time", clock)
    return clock


@pytest.fixture
def measure(tmp_path: Path) -> Any:
    """Measures into the test's folder."""

    def run(cluster: Any, asked: Any = None, messages: Any = None) -> Any:
        return benchmark_pod.measure(cluster, asked or request(), str(tmp_path), messages or benchmark_pod.Messages())

    return run


@pytest.fixture
def lines_of(tmp_path: Path) -> Any:
    """The lines in the file of a round."""
    return benchmark_pod.PodFiles(str(tmp_path), request()).read


@pytest.mark.usefixtures("clock")
def test_a_round_is_measured_and_its_pod_removed(measure: Any, lines_of: Any) -> None:
    cluster = Cluster([STARTED, STARTED, DONE], [f"# hello\n{line('block')}\n", f"# hello\n{line('block')}\n{END}\n"])
    measured = measure(cluster)
    assert (measured.why, measured.details) == (None, {})
    assert list(measured.seconds) == [1]
    assert measured.total is not None
    assert lines_of(1) == (line("block"), END)
    assert cluster.there is None


@pytest.mark.usefixtures("clock")
def test_what_a_killed_pod_had_measured_is_kept(measure: Any, lines_of: Any, tmp_path: Path) -> None:
    killed = running(terminated={"exitCode": 137, "reason": "OOMKilled"})
    cluster = Cluster([STARTED, killed], [f"{line('block')}\n# more"])
    _unused, _unused, why, details = measure(cluster)
    assert why.code == "out_of_memory"
    assert lines_of(1) == (line("block"),)
    assert (tmp_path / "static-round-1.log").read_text() == "# more\n"
    assert details["log"] == ["# more"]
    assert cluster.there is None


@pytest.mark.usefixtures("clock")
def test_timings_of_an_incomplete_round_stay_until_new_ones_come(measure: Any, lines_of: Any, tmp_path: Path) -> None:
    benchmark_pod.PodFiles(str(tmp_path), request()).add(PodLog((line("block"),), ()))
    measure(Cluster([running(waiting={"reason": "ErrImageNeverPull"})]))
    assert lines_of(1) == (line("block"),)
    measure(Cluster([DONE], [f"{END}\n"]))
    assert lines_of(1) == (END,)


def pod_there(labels: Any) -> dict[str, Any]:
    metadata = {"name": "kubepin-benchmark-gpu-01", "namespace": "kubepin-benchmark", "uid": "old", "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": {}}


@pytest.mark.usefixtures("clock")
def test_a_pod_that_an_earlier_run_left_is_replaced(measure: Any) -> None:
    cluster = Cluster([DONE], [f"{END}\n"], there=pod_there(OURS))
    assert measure(cluster).why is None
    assert cluster.created == 1


@pytest.mark.usefixtures("clock")
def test_a_pod_of_somebody_else_is_left_alone(measure: Any) -> None:
    cluster = Cluster([DONE], there=pod_there({"app": "trainer"}))
    _unused, _unused, why, _unused = measure(cluster)
    assert why.code == "refused"
    assert "is not kubepin's: it lacks the label app.kubernetes.io/managed-by=kubepin" in why.message
    assert cluster.created == 0
    assert cluster.there["metadata"]["uid"] == "old"


@pytest.mark.usefixtures("clock")
def test_an_api_server_or_webhook_that_refuses_the_pod(measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([DONE])

    def refuse(manifest: Any) -> None:
        raise ApiError(a_problem("long"), 403, "exceeded quota: gpus")

    monkeypatch.setattr(cluster, "create_pod", refuse)
    _unused, _unused, why, _unused = measure(cluster)
    assert why == Failure(
        "refused",
        "the API server refuses the benchmark pod kubepin-benchmark/kubepin-benchmark-gpu-01: exceeded quota: gpus. "
        "Allow it there, or choose another `namespace`.",
    )


@pytest.mark.usefixtures("clock")
def test_a_pod_that_somebody_deletes(measure: Any, lines_of: Any) -> None:
    def delete(cluster: Any) -> None:
        cluster.there = None

    _unused, _unused, why, _unused = measure(Cluster([STARTED, delete], [f"{line('block')}\n"]))
    assert why.code == "deleted"
    assert lines_of(1) == (line("block"),)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        pytest.param({"phase": "Pending"}, "timeout", "has not started within 900 s", id="starting"),
        pytest.param(STARTED, "timeout", "has not finished round 1 within 3600 s", id="running"),
    ],
)
def test_nothing_hangs(measure: Any, status: Any, code: str, said: str) -> None:
    cluster = Cluster([status])
    _unused, _unused, why, _unused = measure(cluster)
    assert why.code == code
    assert said in why.message
    assert cluster.there is None


def test_a_pod_that_no_scheduler_places(measure: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([{"phase": "Pending"}])
    create = cluster.create_pod

    def unplaced(manifest: Any) -> Any:
        pod = create(manifest)
        pod["spec"] = {}
        return pod

    monkeypatch.setattr(cluster, "create_pod", unplaced)
    began = clock.now
    _unused, _unused, why, _unused = measure(cluster)
    assert why.code == "unschedulable"
    assert clock.now - began < 70


@pytest.mark.usefixtures("clock")
def test_a_node_that_is_lost(measure: Any) -> None:
    _unused, _unused, why, _unused = measure(Cluster([STARTED], ready="Unknown"))
    assert why.code == "node_lost"


def test_an_api_server_that_is_away_is_waited_for_but_not_for_ever(measure: Any, clock: Any) -> None:
    def away(cluster: Any) -> None:
        raise ApiError(a_problem("the API server cannot be reached"), None, "refused", outage=True)

    cluster = Cluster([STARTED, away, away, DONE], [f"{END}\n"])
    assert measure(cluster).why is None
    began = clock.now
    _unused, _unused, why, details = measure(Cluster([STARTED, away]))
    assert why.code == "api"
    assert 60 <= clock.now - began < 65
    assert "cannot be reached" in details["left_behind"]


@pytest.mark.usefixtures("clock")
def test_an_interrupted_run_removes_its_pod(measure: Any) -> None:
    def interrupt(cluster: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return STARTED

    before = signal.getsignal(signal.SIGTERM)
    cluster = Cluster([STARTED, interrupt, STARTED], [f"{line('block')}\n"])
    _unused, _unused, why, _unused = measure(cluster)
    assert why.code == "interrupted"
    assert "SIGTERM" in why.message
    assert cluster.there is None
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("clock")
def test_a_program_that_ends_too_early(measure: Any) -> None:
    _unused, _unused, why, _unused = measure(Cluster([DONE], [f"{line('block')}\n# bye\n"]))
    assert why.code == "incomplete"
    assert why.message.endswith("It said: bye.")


class FullCluster:
    """A node with two GPUs and 32 CPUs, whose pods work off the phases on their command line as they are announced."""

    def __init__(self, fails: Any = None, cpu: str = "32", others: Any = ()) -> None:
        self.pods: dict[str, Any] = {}
        self.seen: list[Any] = []
        self.starts: dict[str, Any] = {}
        self.requests: dict[str, Any] = {}
        self._fails, self._cpu, self._others = fails, cpu, list(others)

    def node(self, name: Any) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True"}]
        amounts = {"cpu": self._cpu, "nvidia.com/gpu": "2"}
        return {
            "metadata": {"name": name},
            "status": {"conditions": conditions, "allocatable": amounts, "capacity": amounts},
        }

    def pods_on(self, node: Any) -> list[Any]:
        return [*self._others, *self.pods.values()]

    def create_pod(self, manifest: Any) -> Any:
        name = manifest["metadata"]["name"]
        metadata = {**manifest["metadata"], "uid": f"uid-{name}", "annotations": {}}
        self.pods[name] = {"metadata": metadata, "spec": {**manifest["spec"], "nodeName": "gpu-01"}, "status": {}}
        self.seen.append(name)
        self.requests[name] = manifest["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        return self.pods[name]

    def annotate_pod(self, namespace: Any, name: Any, annotations: Any) -> None:
        self.pods[name]["metadata"]["annotations"].update(annotations)
        self.starts.setdefault(annotations["kubepin.io/start"], set()).add(name)

    def _work(self, name: Any) -> Any:
        """The lines of a pod, and whether it has done everything."""
        pod = self.pods[name]
        words = pod["spec"]["containers"][0]["command"]
        if "--tenant" not in words:
            return [], False
        tenant, loads = (words[words.index(option) + 1] for option in ("--tenant", "--load"))
        announced = pod["metadata"]["annotations"].get("kubepin.io/start", "")
        lines = []
        for load in loads.split(","):
            base = {"schema": 1, "run_id": "lab", "arm": "static-auto", "round": 1, "tenant": int(tenant), "load": load}
            lines.append({**base, "kind": "ready"})
            if f"static-auto 1 {load} " not in announced:
                return lines, False
            if load != "solo" or tenant == "0":
                busy = "kubepin-benchmark-gpu-01-busy" in self.pods
                self.starts.setdefault(load, busy)
                lines.append({**base, "kind": "end", "tenants": 2 if load != "solo" else 1})
        return lines, True

    def pod(self, namespace: Any, name: Any) -> Any:
        pod = self.pods.get(name)
        if pod and "--tenant" in pod["spec"]["containers"][0]["command"]:
            pod["status"] = DONE if self._work(name)[1] else STARTED
            if self._fails and name.endswith(self._fails):
                pod["status"] = running(terminated={"exitCode": 3})
        elif pod:
            pod["status"] = {
                "phase": "Running",
                "containerStatuses": [{"name": "benchmark", "state": {"running": {"startedAt": "now"}}}],
            }
        return pod

    def delete_pod(self, pod: Any, at_once: bool = False) -> None:
        self.pods.pop(pod["metadata"]["name"], None)

    def pod_log(self, namespace: Any, name: Any, container: Any) -> Any:
        return "".join(json.dumps(line) + "\n" for line in self._work(name)[0])

    def pod_events(self, namespace: Any, uid: Any) -> list[Any]:
        return []


FULL = {"loads": ["solo", "full", "busy"]}


@pytest.fixture
def epoch(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(clock), "time", lambda self: self.now + 1e9, raising=False)


@pytest.mark.usefixtures("epoch")
def test_all_pods_of_a_full_node_begin_each_load_together(measure: Any, tmp_path: Path) -> None:
    cluster = FullCluster()
    measured = measure(cluster, request(**FULL))
    assert (measured.why, measured.details) == (None, {})
    assert list(measured.seconds) == [1]
    assert measured.seconds[1] <= measured.total
    tenants = {"kubepin-benchmark-gpu-01-0", "kubepin-benchmark-gpu-01-1"}
    assert set(cluster.seen) == tenants | {"kubepin-benchmark-gpu-01-busy"}
    assert cluster.pods == {}
    announced = [text for text in cluster.starts if "static-auto" in text]
    assert [text.count("\n") for text in announced] == [1, 2, 3]
    assert all(cluster.starts[text] == tenants for text in announced)
    assert (cluster.starts["solo"], cluster.starts["full"], cluster.starts["busy"]) == (False, False, True)
    kept = benchmark_pod.KeptRound.read(request(**FULL), str(tmp_path), 1)
    assert [sorted(json.loads(text)["load"] for text in lines) for lines in kept.tenants] == [
        ["busy", "full", "solo"],
        ["busy", "full"],
    ]
    assert kept.is_complete


@pytest.mark.usefixtures("epoch")
@pytest.mark.parametrize(("cpus", "left"), [("32", "8000m"), ("24", "0m")])
def test_busy_neighbours_ask_for_no_more_than_the_tenants_leave(measure: Any, cpus: str, left: str) -> None:
    cluster = FullCluster(cpu=cpus)
    assert measure(cluster, request(**FULL)).why is None
    assert cluster.requests["kubepin-benchmark-gpu-01-busy"] == left


@pytest.mark.usefixtures("epoch")
def test_a_round_of_a_full_node_without_one_of_its_tenants_is_not_complete(measure: Any, tmp_path: Path) -> None:
    measure(FullCluster(), request(**FULL))
    (tmp_path / "static-round-1-tenant-1.jsonl").unlink()
    assert not benchmark_pod.KeptRound.read(request(**FULL), str(tmp_path), 1).is_complete


@pytest.mark.usefixtures("epoch")
def test_a_tenant_that_fails_ends_the_round_of_all(measure: Any) -> None:
    cluster = FullCluster(fails="-1")
    why = measure(cluster, request(**FULL)).why
    assert why.code == "nothing_timed"
    assert cluster.pods == {}


@pytest.mark.usefixtures("epoch")
def test_tenants_that_do_not_fit_are_told_how_many_cpus_each_can_have(measure: Any) -> None:
    other = {
        "metadata": {"name": "db", "namespace": "shop", "uid": "1", "labels": {}},
        "spec": {"containers": [{"resources": {"requests": {"cpu": "3"}}}]},
        "status": {"phase": "Running"},
    }
    cluster = FullCluster(cpu="24", others=[other])
    why = measure(cluster, request(**FULL)).why
    assert why.code == "unschedulable"
    assert "has 21 CPUs free, not enough for 2 benchmark pods with cpu 12 each: set `cpu` to 10 or less" in why.message
    assert cluster.seen == []


@pytest.mark.usefixtures("epoch")
@pytest.mark.parametrize("changes", [FULL, {}])
def test_pods_that_an_interrupted_run_left_on_a_full_node_are_removed_first(measure: Any, changes: Any) -> None:
    cluster = FullCluster()
    labels = {**OURS, "app.kubernetes.io/name": "kubepin-benchmark"}
    metadata: dict[str, Any] = {
        "name": "kubepin-benchmark-gpu-01-7",
        "namespace": "kubepin-benchmark",
        "uid": "old",
        "labels": labels,
    }
    stranger = {**metadata, "name": "trainer", "labels": {"app.kubernetes.io/name": "kubepin-benchmark"}}
    for one in (metadata, stranger):
        cluster.pods[one["name"]] = {"metadata": one, "spec": {"containers": [{}]}, "status": {}}
    measure(cluster, request(**changes, start_timeout=1))
    assert list(cluster.pods) == ["trainer"]


def test_every_returned_field_is_documented() -> None:
    kept = [benchmark_pod.KeptRound(1, "f", ((END,),), True)]
    facts = benchmark_pod.facts(request(), kept, benchmark_pod.Measured(1.0, {1: 1.0}, Failure("api", "no"), {}))
    documented = yaml.safe_load(benchmark_pod.RETURN)["benchmark"]["contains"]
    assert set(documented) == set(facts)
    assert set(documented["rounds"]["contains"]) == set(facts["rounds"][0])
    assert (facts["complete"], facts["rounds"][0]["lines"], facts["failure_code"]) == (True, 1, "api")


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "static-round-1.jsonl").mkdir()
    files = benchmark_pod.PodFiles(str(tmp_path), request())
    with refused("timings_unreadable"):
        files.read(1)
    with refused("timings_not_writable"):
        files.add(PodLog((line("block"),), ()))
    with refused("folder_missing"):
        benchmark_pod.PodFiles(str(tmp_path / "none"), request()).check_folder()


def block(number: Any) -> str:
    return f"{line('block', number=number)}\n"


def whole(*numbers: Any) -> Any:
    """The log of these rounds from their beginning to their end."""
    return "".join(f"{block(number)}{line('end', number=number)}\n" for number in numbers)


@pytest.mark.usefixtures("clock")
def test_each_round_of_a_pod_has_its_file_and_is_told_as_soon_as_it_is_finished(
    measure: Any, lines_of: Any, tmp_path: Path
) -> None:
    progress_file = tmp_path / "progress_file.json"
    seen = []

    def look(cluster: Any) -> Any:
        seen.append(
            [one["round"] for one in json.loads(progress_file.read_text())["rounds"]] if progress_file.exists() else []
        )
        return STARTED

    logs = [block(1), whole(1), whole(1) + block(2), whole(1, 2, 3)]
    cluster = Cluster([STARTED, look, look, look, DONE], logs)
    measured = measure(cluster, request(rounds=[1, 2, 3]), benchmark_pod.Messages(progress_file=str(progress_file)))
    assert measured.why is None
    assert seen == [[], [1], [1]]
    assert cluster.created == 1
    assert list(measured.seconds) == [1, 2, 3]
    assert sum(measured.seconds.values()) == pytest.approx(measured.total, abs=1.1)
    assert ["".join(f"{text}\n" for text in lines_of(number)) for number in (1, 2, 3)] == [whole(1), whole(2), whole(3)]


@pytest.mark.usefixtures("clock")
def test_a_pod_that_dies_loses_no_finished_round(measure: Any, tmp_path: Path) -> None:
    killed = running(terminated={"exitCode": 137, "reason": "OOMKilled"})
    asked = request(rounds=[1, 2, 3])
    measured = measure(Cluster([STARTED, killed], [whole(1), whole(1, 2) + block(3)]), asked)
    assert measured.why.code == "out_of_memory"
    assert list(measured.seconds) == [1, 2]
    kept = [benchmark_pod.KeptRound.read(asked, str(tmp_path), number) for number in (1, 2, 3)]
    assert [one.is_complete for one in kept] == [True, True, False]


def test_each_round_has_its_own_time(measure: Any, clock: Any) -> None:
    hours = [STARTED] * 3000

    class Slow(Cluster):
        def pod_log(self, namespace: Any, name: Any, container: Any) -> Any:
            return whole(1) if clock.now > 4000 else block(1)

    began = clock.now
    why = measure(Slow(hours), request(rounds=[1, 2])).why
    assert why.code == "timeout"
    assert "has not finished round 2 within 3600 s" in why.message
    assert clock.now - began > 6000


@pytest.mark.usefixtures("clock")
def test_a_stop_ends_the_pod_after_the_round_in_progress(measure: Any, lines_of: Any, tmp_path: Path) -> None:
    stop = tmp_path / "stop"

    def ask(cluster: Any) -> Any:
        stop.touch()
        return STARTED

    cluster = Cluster([STARTED, ask, STARTED, STARTED], [whole(1), whole(1) + block(2), whole(1, 2) + block(3)])
    measured = measure(cluster, request(rounds=[1, 2, 3]), benchmark_pod.Messages(stop_file=str(stop)))
    assert (measured.why, list(measured.seconds)) == (None, [1, 2])
    assert lines_of(2) == (line("block", number=2), line("end", number=2))
    assert cluster.there is None
