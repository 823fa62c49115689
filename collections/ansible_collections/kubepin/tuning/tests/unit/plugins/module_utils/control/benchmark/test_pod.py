# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.pod import (
    Failure,
    PodLog,
    PodRequest,
    busy_manifest,
    by_round,
    command,
    deleted_failure,
    ended_arms,
    environment,
    failure,
    incomplete_failure,
    is_complete,
    merge_log,
    no_free_gpu_failure,
    pod_manifest,
    problems,
    readiness,
    ready_phases,
    recorded_tenants,
    split_log,
    stage,
    tenants_of,
    timeout_failure,
    unscheduled_failure,
    with_pull_error,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import PodEvent

GPU = "nvidia.com/gpu"
POD = "the benchmark pod kubepin-benchmark/kubepin-benchmark-gpu-01"


def request(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "node": "gpu-01",
        "namespace": "kubepin-benchmark",
        "run_id": "lab",
        "arm": "static",
        "rounds": [2],
        "threads": ["auto", "cpus"],
        "arguments": [],
        "env": {},
        "config_map": "program",
        "image": "pytorch:2",
        "image_pull_policy": "IfNotPresent",
        "image_pull_secrets": [],
        "runtime_class": None,
        "node_selector": {},
        "tolerations": [],
        "user": 1000,
        "cpu": "12",
        "memory": "30Gi",
        "gpus": 1,
        "gpu_resource": GPU,
        "shm_size": None,
        "schedule_timeout": 60,
        "start_timeout": 900,
        "timeout": 3600,
    }
    return PodRequest(**{**settings, **changes})


def test_the_manifest_is_guaranteed_and_passes_the_restricted_pod_security_standard() -> None:
    spec = pod_manifest(request())["spec"]
    (container,) = spec["containers"]
    asked = {"cpu": "12", "memory": "30Gi", GPU: "1"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} == {"configMap", "emptyDir"}


@pytest.mark.parametrize(
    ("changes", "device"),
    [({}, "cuda"), ({"gpus": 0}, "cpu"), ({"device": "cpu"}, "cpu"), ({"gpus": 0, "device": "cuda"}, "cuda")],
)
def test_the_device_is_never_left_to_torch(changes: dict[str, Any], device: str) -> None:
    line = " ".join(pod_manifest(request(**changes))["spec"]["containers"][0]["command"])
    assert f"--device {device}" in line


FULL = {"loads": ["solo", "full", "busy"], "tenants": 2, "tenant": 1}


def test_a_tenant_of_a_full_node_reads_from_a_file_when_its_phases_begin() -> None:
    pod = pod_manifest(request(**FULL))
    assert pod["metadata"]["name"] == "kubepin-benchmark-gpu-01-1"
    (container,) = pod["spec"]["containers"]
    words = container["command"]
    place = words.index("--tenant")
    assert words[place : place + 4] == ["--tenant", "1", "--tenants", "2"]
    assert sorted(words[words.index("--load") + 1].split(",")) == ["busy", "full", "solo"]
    folder, _slash, name = words[words.index("--start-file") + 1].rpartition("/")
    (volume,) = (volume for volume in pod["spec"]["volumes"] if "downwardAPI" in volume)
    assert {"name": volume["name"], "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    (item,) = volume["downwardAPI"]["items"]
    assert item == {"path": name, "fieldRef": {"fieldPath": "metadata.annotations['kubepin.io/start']"}}


def test_alone_a_pod_has_neither_place_nor_start_file() -> None:
    assert "--tenant" not in command(request())
    assert pod_manifest(request())["metadata"]["name"] == "kubepin-benchmark-gpu-01"


def test_one_tenant_is_not_measured_twice() -> None:
    words = command(request(loads=["solo", "full", "busy"], tenants=1))
    assert sorted(words[words.index("--load") + 1].split(",")) == ["busy", "solo"]


def test_busy_neighbours_are_burstable_and_hold_no_gpu() -> None:
    pod = busy_manifest(request(**FULL, runtime_class="nvidia"), 20, "7500m")
    assert pod["metadata"]["name"] == "kubepin-benchmark-gpu-01-busy"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "pod.busy", "--threads", "20"]
    assert container["resources"] == {"requests": {"cpu": "7500m", "memory": "64Mi"}}
    assert "runtimeClassName" not in pod["spec"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 8), ({"gpus": 2}, 4), ({"tenants": 3}, 3), ({"gpus": 0}, 1), ({"gpus": 0, "tenants": 5}, 5)],
)
def test_a_node_has_a_tenant_on_each_gpu(changes: dict[str, Any], expected: int) -> None:
    node = {"status": {"allocatable": {GPU: "8"}}}
    assert tenants_of(node, request(**changes)) == expected


def test_waiting_for_a_phase_is_no_timing() -> None:
    ready = json.dumps({"schema": 1, "kind": "ready", "arm": "static-12", "round": 2, "load": "full"})
    found = split_log(f"# hello\n{ready}\n{ready}", ended=False)
    assert found == PodLog((), ("# hello", ready))
    assert ready_phases(found.others) == [("static-12", 2, "full")]


def test_a_round_of_a_full_node_is_complete_with_every_load() -> None:
    def end(load: Any, tenant: Any) -> Any:
        return json.dumps(
            {
                "schema": 1,
                "kind": "end",
                "run_id": "lab",
                "arm": "static-12",
                "round": 2,
                "load": load,
                "tenant": tenant,
                "tenants": 2,
            }
        )

    first = request(**{**FULL, "tenant": 0}, threads=["12"])
    second = request(**FULL, threads=["12"])
    both = [end("full", 1), end("busy", 1)]
    assert is_complete(both, second, 2)
    assert not is_complete(both, first, 2)
    assert is_complete([*both, end("solo", 0)], first, 2)
    assert not is_complete(both[:1], second, 2)
    assert recorded_tenants(both) == 2
    assert recorded_tenants(()) == 1


def test_the_manifest_leaves_the_choice_of_devices_to_the_scheduler_on_one_node() -> None:
    spec = pod_manifest(request())["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-01"]}]}]
    assert "nodeName" not in spec
    assert spec["tolerations"] == []


def test_a_forgotten_pod_ends() -> None:
    spec = pod_manifest(request(start_timeout=100, timeout=200))["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 100 + 200 + 120
    several = pod_manifest(request(start_timeout=100, timeout=200, rounds=[1, 2, 3]))["spec"]
    assert several["activeDeadlineSeconds"] == 100 + 3 * 200 + 120


def test_the_manifest_holds_what_a_site_needs() -> None:
    spec = pod_manifest(
        request(
            gpus=0,
            shm_size="8Gi",
            runtime_class="nvidia",
            node_selector={"zone": "a"},
            tolerations=[{"operator": "Exists"}],
            image_pull_secrets=["pull"],
            image_pull_policy="Always",
        )
    )["spec"]
    assert GPU not in spec["containers"][0]["resources"]["limits"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["containers"][0]["imagePullPolicy"] == "Always"


def test_the_command_line() -> None:
    line = command(request(env={"policy": "static", "pod_cpu": 12}, arguments=["--matrix", "resnets"]))
    assert " ".join(line) == (
        "python3 -m pod round --run-id lab --arm static --round 2 --threads auto,cpus --device cuda "
        "--env policy=static --env pod_cpu=12 --matrix resnets"
    )
    assert "--round 3,4,5 --threads" in " ".join(command(request(rounds=[3, 4, 5])))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"cpu": "many"}, "cpu_invalid", id="cpu"),
        pytest.param({"cpu": "0"}, "cpu_invalid", id="no cpu"),
        pytest.param({"memory": "30 GB"}, "memory_invalid", id="memory"),
        pytest.param({"shm_size": "-1Gi"}, "shm_size_invalid", id="shm"),
        pytest.param({"gpus": -1}, "gpus_invalid", id="gpus"),
        pytest.param({"rounds": [0]}, "rounds_invalid", id="round"),
        pytest.param({"rounds": []}, "rounds_invalid", id="no rounds"),
        pytest.param({"rounds": [3, 3]}, "rounds_invalid", id="a round twice"),
        pytest.param({"rounds": [1, 2], "loads": ["solo", "full"]}, "rounds_invalid", id="full node"),
        pytest.param({"user": 0}, "user_invalid", id="root"),
        pytest.param({"run_id": ""}, "run_id_invalid", id="run"),
        pytest.param({"arm": "a b"}, "arm_invalid", id="arm"),
        pytest.param({"threads": []}, "threads_invalid", id="no threads"),
        pytest.param({"threads": ["auto", "0"]}, "threads_invalid", id="threads"),
        pytest.param({"env": {"a b": 1}}, "env_invalid", id="env"),
        pytest.param({"timeout": 0}, "timeout_invalid", id="timeout"),
        pytest.param({"loads": []}, "loads_invalid", id="loads"),
        pytest.param({"tenants": -1}, "tenants_invalid", id="tenants"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], code: str) -> None:
    assert [problem.code for problem in problems(request(**changes))] == [code]


def test_a_look_at_what_a_full_node_measured_takes_all_rounds() -> None:
    assert problems(request(rounds=[1, 2], loads=["solo", "full"]), looks_only=True) == []


def test_all_problems_come_at_once_and_none_without_cause() -> None:
    assert len(problems(request(cpu="x", memory="y", gpus=-1))) == 3
    assert problems(request(cpu="12001m", shm_size="8Gi", threads=["auto", "6"])) == []


def line(kind: Any, arm: str = "static-auto", round: int = 2, run_id: str = "lab", **more: Any) -> Any:
    return json.dumps({"schema": 1, "kind": kind, "run_id": run_id, "arm": arm, "round": round, **more})


def test_a_log_is_sorted_into_timings_and_everything_else() -> None:
    good = line("block")
    text = f"# warming up\n{good}\nTraceback: no\n{good[:20]}# between\n{line('end')}\n{good[:30]}"
    assert split_log(text, ended=False) == PodLog(
        (good, line("end")), ("# warming up", "Traceback: no", f"{good[:20]}# between")
    )


def test_the_last_words_of_a_pod_that_has_ended_count_but_a_cut_timing_does_not() -> None:
    assert split_log("# Killed", ended=True).others == ("# Killed",)
    assert split_log("# Killed", ended=False).others == ()
    assert split_log('{"schema": 1}', ended=True) == PodLog((), ('{"schema": 1}',))


@pytest.mark.parametrize(
    ("known", "read", "result"),
    [
        pytest.param((), ("a",), ("a",), id="first reading"),
        pytest.param(("a",), ("a", "b"), ("a", "b"), id="the log grows"),
        pytest.param(("a", "b"), ("b", "c"), ("a", "b", "c"), id="the log was rotated"),
        pytest.param(("a", "b"), ("a",), ("a", "b"), id="nothing is lost"),
    ],
)
def test_readings_add_up(known: Any, read: Any, result: Any) -> None:
    assert merge_log(known, read) == result


@pytest.mark.parametrize(
    ("lines", "threads", "complete"),
    [
        pytest.param([], ["auto"], False, id="nothing"),
        pytest.param([line("block")], ["auto"], False, id="not ended"),
        pytest.param([line("end")], ["auto"], True, id="ended"),
        pytest.param([line("end")], ["auto", "cpus"], False, id="one of two"),
        pytest.param([line("end"), line("end", "static-12")], ["auto", "cpus"], True, id="both"),
        pytest.param([line("end", "static-12")], ["6"], False, id="another number"),
        pytest.param([line("end", round=1)], ["auto"], False, id="another round"),
        pytest.param([line("end", run_id="old")], ["auto"], False, id="another run"),
        pytest.param([line("end", "none-auto")], ["auto"], False, id="another arm"),
        pytest.param([line("end", process=1, warm_up=True)], ["auto"], False, id="what warms the machine"),
    ],
)
def test_a_round_is_complete_once_every_thread_setting_has_ended(
    lines: list[Any], threads: list[str], complete: bool
) -> None:
    assert is_complete(lines, request(threads=threads), 2) is complete


def test_the_lines_of_a_log_are_sorted_by_round() -> None:
    first, second = line("end", round=1), line("block")
    assert by_round([first, second, first]) == {1: (first, first), 2: (second,)}


def test_what_a_file_tells() -> None:
    lines = [line("process", env={"cpus_allowed_list": "8-9"}), line("end"), line("end", "static-2")]
    assert ended_arms(lines, request(), 2) == ["static-auto", "static-2"]
    assert environment(lines) == {"cpus_allowed_list": "8-9"}
    assert environment([]) == {}


def status(**fields: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"nodeName": "gpu-01"}, "status": {"phase": "Pending", **fields}}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "sidecar", "state": {}}, {"name": "benchmark", "state": state}]}


def exited(code: Any, reason: str = "Error", **more: Any) -> Any:
    return status(phase="Failed", **container(terminated={"exitCode": code, "reason": reason, **more}))


@pytest.mark.parametrize(
    ("pod", "reached"),
    [
        pytest.param({"status": {"phase": "Pending"}}, "scheduling", id="no node yet"),
        pytest.param(status(), "starting", id="no container yet"),
        pytest.param(status(**container(waiting={"reason": "ContainerCreating"})), "starting", id="creating"),
        pytest.param(status(phase="Running", **container(running={})), "starting", id="empty state"),
        pytest.param(status(phase="Running", **container(running={"startedAt": "x"})), "running", id="running"),
        pytest.param(
            status(phase="Running", **container(terminated={"exitCode": 0})), "ended", id="beside a sidecar that runs"
        ),
        pytest.param(status(phase="Failed", reason="OutOfcpu"), "ended", id="rejected"),
    ],
)
def test_stage(pod: Any, reached: str) -> None:
    assert stage(pod) == reached


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"status": {}}, id="just created"),
        pytest.param(
            status(**container(waiting={"reason": "ErrImagePull", "message": "timeout"})), id="the pull is tried again"
        ),
        pytest.param(status(qosClass="Guaranteed", **container(running={"startedAt": "x"})), id="running"),
        pytest.param(exited(0, "Completed"), id="done"),
    ],
)
def test_no_failure(pod: Any) -> None:
    assert failure(pod, request(), ()) is None


@pytest.mark.parametrize(
    ("pod", "code", "said"),
    [
        *(
            pytest.param(
                status(**container(waiting={"reason": reason, "message": "why."})),
                "image",
                f"node gpu-01 cannot get the image pytorch:2: {reason}: why. Name one that it has",
                id=reason,
            )
            for reason in ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
        ),
        pytest.param(
            status(**container(waiting={"reason": "CreateContainerConfigError", "message": "image will run as root"})),
            "start",
            "node gpu-01 cannot start the benchmark's container: CreateContainerConfigError: image will run as root.",
            id="CreateContainerConfigError",
        ),
        pytest.param(
            status(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to x."),
            "rejected",
            "node gpu-01 rejects the benchmark pod with cpu 12, memory 30Gi and 1 nvidia.com/gpu: "
            "UnexpectedAdmissionError: Allocate failed due to x. The kubelet has no such CPUs or devices left",
            id="UnexpectedAdmissionError",
        ),
        pytest.param(
            status(phase="Failed", reason="SMTAlignmentError", message="requested 3 cpus"),
            "rejected",
            "node gpu-01 rejects the benchmark pod with cpu 12, memory 30Gi and 1 nvidia.com/gpu: "
            "SMTAlignmentError: requested 3 cpus. The kubelet gives out whole cores only: set `cpu` to a multiple",
            id="SMTAlignmentError",
        ),
        pytest.param(
            status(phase="Failed", reason="TopologyAffinityError", message="no locality"),
            "rejected",
            "node gpu-01 rejects the benchmark pod with cpu 12, memory 30Gi and 1 nvidia.com/gpu: "
            "TopologyAffinityError: no locality. The topology manager's policy finds no NUMA node",
            id="TopologyAffinityError",
        ),
        pytest.param(
            status(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
            "rejected",
            "node gpu-01 rejects the benchmark pod with cpu 12, memory 30Gi and 1 nvidia.com/gpu: "
            "OutOfcpu: Node didn't have enough resource: cpu. Pods that run there hold it",
            id="OutOfcpu",
        ),
        pytest.param(
            status(phase="Failed", reason="OutOfnvidia.com/gpu", message="not enough"),
            "no_free_gpu",
            "node gpu-01 has no free GPU for the benchmark pod: OutOfnvidia.com/gpu: not enough.",
            id="OutOf GPU",
        ),
        pytest.param(
            status(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "evicted",
            "node gpu-01 evicted the benchmark pod: The node was low on resource: memory.",
            id="Evicted",
        ),
        pytest.param(
            {**status(phase="Failed", reason="DeadlineExceeded"), "spec": {"activeDeadlineSeconds": 4620}},
            "deadline",
            f"{POD} was ended by the kubelet after 4620 s: raise `timeout`.",
            id="DeadlineExceeded",
        ),
        pytest.param(
            {**status(**container(terminated={"exitCode": 143})), "metadata": {"deletionTimestamp": "now"}},
            "deleted",
            f"{POD} was deleted while it measured",
            id="deleted",
        ),
        pytest.param(
            status(phase="Running", qosClass="Burstable", **container(running={"startedAt": "x"})),
            "refused",
            f"{POD} is Burstable instead of Guaranteed: an admission webhook or LimitRange",
            id="changed by a webhook",
        ),
        pytest.param(
            exited(137, "OOMKilled"),
            "out_of_memory",
            f"{POD} was killed for memory (OOMKilled): its limit is 30Gi, /dev/shm included. Raise `memory`",
            id="OOMKilled",
        ),
        pytest.param(
            exited(2), "arguments", "the benchmark refuses its arguments: models: no resnet19 / see --help", id="exit 2"
        ),
        pytest.param(
            exited(3),
            "nothing_timed",
            "the benchmark on node gpu-01 could time nothing: models: no resnet19 / see --help",
            id="exit 3",
        ),
        pytest.param(
            exited(5),
            "gpu_missing",
            f"{POD} got 1 {GPU}, but PyTorch finds no GPU: models: no resnet19 / see --help",
            id="exit 5",
        ),
        pytest.param(
            exited(6),
            "gpu_lost",
            f"{POD} lost its GPU while it measured: models: no resnet19 / see --help",
            id="exit 6",
        ),
        pytest.param(
            exited(135),
            "shared_memory",
            f"{POD} ran out of /dev/shm (30Gi): raise `shm_size` and `memory`.",
            id="bus error",
        ),
        pytest.param(
            exited(128, "StartError", message='exec: "python3": not found'),
            "start",
            'the image pytorch:2 cannot run the benchmark: exec: "python3": not found. It needs python3',
            id="no python",
        ),
        pytest.param(
            exited(139),
            "program",
            "the benchmark on node gpu-01 ended with exit code 139 (signal 11): models: no resnet19 / see --help",
            id="crash",
        ),
    ],
)
def test_failure(pod: Any, code: Any, said: Any) -> None:
    found = failure(pod, request(), ("# models: no resnet19", "", "# see --help"))
    assert found
    assert found.code == code
    assert found.message.startswith(said)


def test_an_image_without_torch() -> None:
    found = failure(exited(1), request(), ("ModuleNotFoundError: No module named 'torch'",))
    assert found == Failure(
        "start",
        "the image pytorch:2 lacks what the benchmark needs (PyTorch and torchvision): "
        "ModuleNotFoundError: No module named 'torch'",
    )


def test_the_reason_of_a_failed_pull_is_in_the_events() -> None:
    events = [
        PodEvent("Warning", "Failed", "Error: ErrImagePull"),
        PodEvent("Warning", "Failed", 'Failed to pull image "x": no such host'),
    ]
    assert with_pull_error(Failure("image", "No."), events).message == (
        'No. The node: Failed to pull image "x": no such host'
    )
    assert with_pull_error(Failure("start", "No."), events).message == "No."


def waiting_pod(message: Any) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}}


def node(spec: Any = None, gpus: str = "4") -> dict[str, Any]:
    return {"spec": spec or {}, "status": {"allocatable": {"cpu": "254", GPU: gpus}}}


def running_pod(name: Any, phase: str = "Running", **requests: Any) -> dict[str, Any]:
    resources = {"requests": {GPU if key == "gpu" else key: value for key, value in requests.items()}}
    return {
        "metadata": {"namespace": "ml", "name": name},
        "spec": {"containers": [{"resources": resources}, {}]},
        "status": {"phase": phase},
    }


HOLDERS = [
    running_pod("trainer-0", gpu="3", cpu="36"),
    running_pod("notebook", gpu="1", cpu="500m"),
    running_pod("done", phase="Succeeded", gpu="4"),
    running_pod("web", cpu="2"),
]


@pytest.mark.parametrize(
    ("message", "where", "code", "said"),
    [
        pytest.param(
            f"0/9 nodes are available: 1 Insufficient {GPU}.",
            node(),
            "no_free_gpu",
            f"node gpu-01 has no free GPU: of 4 {GPU}, these pods hold: ml/trainer-0 (3), ml/notebook (1); the benchmark pod "
            f"asks for 1. Wait for them, or stop one. The scheduler: 0/9 nodes are available: 1 Insufficient {GPU}.",
            id="no free GPU",
        ),
        pytest.param(
            "0/9 nodes are available: 1 Insufficient cpu, 8 node(s) didn't match.",
            node(),
            "unschedulable",
            "node gpu-01 has not enough cpu for the benchmark pod with cpu 12, memory 30Gi and 1 nvidia.com/gpu "
            "(cpu: 254 allocatable, 38.5 of it requested by pods there). Ask for less, or free it. The scheduler: ",
            id="not enough CPU",
        ),
        pytest.param(
            "0/9 nodes are available: 1 node(s) were unschedulable.",
            node({"unschedulable": True}),
            "unschedulable",
            "node gpu-01 is cordoned, so the benchmark pod cannot go there. Uncordon it, or set `tolerations`. The scheduler: ",
            id="cordoned",
        ),
        pytest.param(
            "0/9 nodes are available: 1 node(s) had taints.",
            node({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}),
            "unschedulable",
            "node gpu-01 has taints that the benchmark pod does not tolerate: gpu=yes:NoSchedule. Set `tolerations`.",
            id="tainted",
        ),
        pytest.param(
            "0/9 nodes are available: 9 node(s) didn't match Pod's node affinity/selector.",
            node(),
            "unschedulable",
            "the benchmark pod finds no place on node gpu-01 within 60 s. Check `node_selector`",
            id="anything else",
        ),
        pytest.param(
            None,
            node(),
            "unschedulable",
            f"no scheduler has looked at {POD} for 60 s: is kube-scheduler up?",
            id="no scheduler",
        ),
    ],
)
def test_not_scheduled(message: str | None, where: Any, code: str, said: str) -> None:
    found = unscheduled_failure(waiting_pod(message), where, HOLDERS, request())
    assert found
    assert found.code == code
    assert found.message.startswith(said)


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, Any], tolerated: bool) -> None:
    where = node({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]})
    found = unscheduled_failure(waiting_pod("1 Insufficient x"), where, [], request(tolerations=[toleration]))
    assert ("taints" not in found.message) is tolerated


def test_a_node_with_too_few_gpus_or_none() -> None:
    assert (
        "offers 4 nvidia.com/gpu, and the benchmark pod asks for 8"
        in no_free_gpu_failure(node(), [], request(gpus=8)).message
    )
    assert (
        "offers no nvidia.com/gpu: check its device plugin"
        in no_free_gpu_failure(node(gpus="0"), [], request()).message
    )
    of_mig = {"status": {"allocatable": {"nvidia.com/mig-1g.5gb": "7", "nvidia.com/hostdev": "8"}}}
    assert (
        "offers no nvidia.com/gpu, but nvidia.com/mig-1g.5gb: name one"
        in no_free_gpu_failure(of_mig, [], request()).message
    )


def test_timeouts_say_how_far_the_pod_came() -> None:
    creating = status(**container(waiting={"reason": "ContainerCreating"}))
    events = [PodEvent("Warning", "FailedMount", "configmap not found"), PodEvent("Normal", "Pulling", "pulls")]
    found = timeout_failure("starting", creating, request(), 2, events, ())
    assert found.message.startswith(
        f"{POD} has not started within 900 s: ContainerCreating. Last event: Warning FailedMount: configmap not found."
    )
    found = timeout_failure("running", creating, request(), 2, [], ("# resnet18", "# resnet50"))
    assert found.message.startswith(f"{POD} has not finished round 2 within 3600 s: raise `timeout`")
    assert found.message.endswith("It last said: resnet50")


def test_words_for_what_the_pod_does_not_tell() -> None:
    assert deleted_failure(request()).message.startswith(f"{POD} was deleted while it measured")
    assert (
        "lacks the end of arm static with threads auto,cpus in round 2" in incomplete_failure(request(), 2, ()).message
    )


def test_what_a_full_node_waited_for_is_no_message() -> None:
    ready = line("ready", "static-auto")
    message = incomplete_failure(request(), 1, (ready, "# static-auto round 1: skipped: not warm", ready)).message
    assert message.endswith("It said: static-auto round 1: skipped: not warm")


def test_readiness() -> None:
    def conditions(state: Any) -> dict[str, Any]:
        ready = {"type": "Ready", "status": state, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting."}
        return {"status": {"conditions": [{"type": "DiskPressure", "status": "False"}, ready]}}

    assert readiness(conditions("True")) is None
    assert readiness(conditions("Unknown")) == "NodeStatusUnknown: Kubelet stopped posting"
    assert readiness({"status": {}}) == "no Ready condition"
