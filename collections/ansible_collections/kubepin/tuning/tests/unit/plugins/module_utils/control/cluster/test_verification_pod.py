# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import (
    KubeletWatch,
    Observation,
    ProbeRequest,
    Reading,
    as_rejected,
    cannot_start,
    describe_events,
    failure,
    is_unseen,
    observe,
    parse_log,
    pod_manifest,
    probe_name,
    progress,
    worth_another_try,
)

DENIED = "Operation not permitted"


def request(**changes: Any) -> Any:
    settings = {
        "node": "gpu-01",
        "namespace": "kube-system",
        "image": "busybox:1",
        "cpus": 2,
        "gpus": 1,
        "gpu_resource": "nvidia.com/gpu",
        "device_paths": ["/dev/nvidia[0-9]*"],
        "observe_seconds": 15,
        "timeout": 120,
    }
    return ProbeRequest(**{**settings, **changes})


SEEN = Observation(("8-9",), ("/dev/nvidia0",), None, None, 15)
NOTHING = Observation((), (), None, None, 0)


@pytest.mark.parametrize(
    ("node", "name"),
    [
        pytest.param("gpu-01", "kubepin-probe-gpu-01", id="short"),
        pytest.param("n" * 49, "kubepin-probe-" + "n" * 49, id="just fits"),
        pytest.param("n" * 50, "kubepin-probe-" + "n" * 40 + "-7dd60b1d", id="cut"),
        pytest.param("n" * 39 + ".x" + "y" * 60, "kubepin-probe-" + "n" * 39 + "-19a92af8", id="never ends in a dot"),
    ],
)
def test_name(node: Any, name: Any) -> None:
    assert probe_name(node) == name
    assert len(name) <= 63


def test_manifest() -> None:
    manifest = pod_manifest(request(image_pull_secrets=["pull"], runtime_class="nvidia"))
    container = manifest["spec"]["containers"][0]
    assert manifest["metadata"] == {
        "name": "kubepin-probe-gpu-01",
        "namespace": "kube-system",
        "labels": {"app.kubernetes.io/name": "kubepin-probe", "app.kubernetes.io/managed-by": "kubepin"},
    }
    assert container["resources"] == {
        "requests": {"cpu": "2", "memory": "64Mi", "nvidia.com/gpu": "1"},
        "limits": {"cpu": "2", "memory": "64Mi", "nvidia.com/gpu": "1"},
    }
    assert container["command"][:2] == ["/bin/sh", "-c"]
    assert container["command"][3:] == ["kubepin-probe", "/dev/nvidia[0-9]*"]
    spec = {key: value for key, value in manifest["spec"].items() if key != "containers"}
    assert spec == {
        "nodeName": "gpu-01",
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 735,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "pull"}],
    }


def test_manifest_without_gpus_looks_at_no_device() -> None:
    container = pod_manifest(request(gpus=0))["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "64Mi"}
    assert container["command"][3:] == ["kubepin-probe"]


def test_the_script_writes_what_the_parser_reads(tmp_path: Path) -> None:
    usable, broken = tmp_path / "nvidia0", tmp_path / "nvidia1"
    usable.touch()
    broken.mkdir()  # a directory never opens for writing, not even for root
    command = pod_manifest(request(device_paths=[f"{tmp_path}/nvidia[0-9]*", "/nowhere/*"]))["spec"]["containers"][0][
        "command"
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        text = line = process.stdout.readline()
        while line.startswith("kubepin-probe\t0\t"):
            line = process.stdout.readline()
            text += line
        process.terminate()
        text += process.stdout.read()
        assert process.wait() == 0
    with open("/proc/self/status", encoding="ascii") as status:
        allowed = next(line.split()[1] for line in status if line.startswith("Cpus_allowed_list:"))
    readings = parse_log(text)
    assert readings[0].second == 0 < readings[-1].second
    assert {(r.cpus, tuple(r.devices)) for r in readings} == {(allowed, (str(usable), str(broken)))}
    assert readings[0].devices[str(usable)] == ""
    assert "directory" in readings[0].devices[str(broken)]


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("kubepin-probe\t0\t0-3\n", [Reading(0, "0-3", {})], id="no device"),
        pytest.param(
            f"kubepin-probe\t0\t8-9\t/dev/nvidia0=\nkubepin-probe\t1\t8-9\t/dev/nvidia0=sh: line 9: can't create /dev/nvidia0: {DENIED} \n",
            [Reading(0, "8-9", {"/dev/nvidia0": ""}), Reading(1, "8-9", {"/dev/nvidia0": DENIED})],
            id="a device that goes",
        ),
        pytest.param("kubepin-probe\t0\t0-3\nkubepin-probe\t1\t0", [Reading(0, "0-3", {})], id="an unfinished line"),
        pytest.param("hello\nkubepin-probe\tx\t0\nkubepin-probe\t2\t\n", [Reading(2, "", {})], id="other lines"),
    ],
)
def test_parse_log(text: str, readings: list[Any]) -> None:
    assert parse_log(text) == readings


@pytest.mark.parametrize(
    ("readings", "observation"),
    [
        pytest.param([], NOTHING, id="nothing"),
        pytest.param([Reading(s, "8-9", {"/dev/nvidia0": ""}) for s in range(16)], SEEN, id="steady"),
        pytest.param(
            [Reading(0, "0-7", {}), Reading(1, "8-9", {}), Reading(2, "8-9", {}), Reading(3, "0-7", {})],
            Observation(("0-7", "8-9", "0-7"), (), None, None, 3),
            id="the set changes and comes back",
        ),
        pytest.param(
            [
                Reading(0, "1", {"/dev/nvidia0": "", "/dev/nvidia1": ""}),
                Reading(9, "1", {"/dev/nvidia0": DENIED, "/dev/nvidia1": "gone"}),
                Reading(10, "1", {"/dev/nvidia0": "other", "/dev/nvidia1": ""}),
            ],
            Observation(("1",), ("/dev/nvidia0", "/dev/nvidia1"), 9, f"/dev/nvidia0: {DENIED}; /dev/nvidia1: gone", 10),
            id="the first loss counts",
        ),
        pytest.param(
            [Reading(0, "1", {"/dev/nvidia0": ""}), Reading(4, "1", {})],
            Observation(("1",), ("/dev/nvidia0",), 4, "/dev/nvidia0: no such file any more", 4),
            id="the file vanishes",
        ),
    ],
)
def test_observe(readings: list[Any], observation: Any) -> None:
    assert observe(readings) == observation


def status(**fields: Any) -> dict[str, Any]:
    return {"status": {"phase": "Running", "qosClass": "Guaranteed", **fields}}


def container(state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "sidecar", "state": {}}, {"name": "probe", "state": state}]}


WANTS = "node gpu-01 rejects the probe pod with 2 whole CPUs and 1 nvidia.com/gpu:"


@pytest.mark.parametrize(
    ("pod", "observation", "changes", "text"),
    [
        pytest.param({"status": {}}, NOTHING, {}, None, id="just created"),
        pytest.param(
            status(phase="Pending", **container({"waiting": {"reason": "ContainerCreating"}})),
            NOTHING,
            {},
            None,
            id="starting",
        ),
        pytest.param(status(), SEEN, {}, None, id="all well"),
        pytest.param(status(), Observation(("1",), (), None, None, 15), {"gpus": 0}, None, id="no device asked"),
        pytest.param(
            status(
                phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to not enough cpus."
            ),
            NOTHING,
            {},
            f"{WANTS} UnexpectedAdmissionError: Allocate failed due to not enough cpus. "
            "The kubelet has no such CPUs or devices left, or its device plugin is not back.",
            id="UnexpectedAdmissionError",
        ),
        pytest.param(
            status(
                phase="Failed",
                reason="TopologyAffinityError",
                message="Resources cannot be allocated with Topology locality",
            ),
            NOTHING,
            {},
            f"{WANTS} TopologyAffinityError: Resources cannot be allocated with Topology locality. "
            "The topology manager's policy finds no NUMA node with all of it free.",
            id="TopologyAffinityError",
        ),
        pytest.param(
            status(phase="Failed", reason="SMTAlignmentError", message="SMT Alignment Error: requested 1 cpus"),
            NOTHING,
            {"cpus": 1, "gpus": 0},
            "node gpu-01 rejects the probe pod with 1 whole CPU: SMTAlignmentError: SMT Alignment Error: "
            "requested 1 cpus. The kubelet gives out whole cores only: "
            "set `cpus` to a multiple of the threads of a core.",
            id="SMTAlignmentError",
        ),
        pytest.param(
            status(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
            NOTHING,
            {},
            f"{WANTS} OutOfcpu: Node didn't have enough resource: cpu. "
            "The node has not that much free: pods that run there hold it.",
            id="OutOfcpu",
        ),
        pytest.param(
            status(phase="Failed", reason="NodeAffinity", message="Pod was rejected"),
            NOTHING,
            {},
            f"{WANTS} NodeAffinity: Pod was rejected. The kubelet did not take it.",
            id="any other rejection",
        ),
        pytest.param(
            status(phase="Pending", **container({"waiting": {"reason": "ErrImagePull", "message": "not found"}})),
            NOTHING,
            {},
            "node gpu-01 cannot get the probe's image busybox:1: ErrImagePull: not found. "
            "Name one that it has or can pull with `image` and `image_pull_secrets`.",
            id="ErrImagePull",
        ),
        *(
            pytest.param(
                status(phase="Pending", **container({"waiting": {"reason": reason}})),
                NOTHING,
                {},
                f"node gpu-01 cannot get the probe's image busybox:1: {reason}. "
                "Name one that it has or can pull with `image` and `image_pull_secrets`.",
                id=reason,
            )
            for reason in ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
        ),
        pytest.param(
            status(
                phase="Pending", **container({"waiting": {"reason": "CreateContainerError", "message": "no seccomp"}})
            ),
            NOTHING,
            {},
            "node gpu-01 cannot start the probe's container: CreateContainerError: no seccomp. "
            "Look at the container runtime's log on the node.",
            id="CreateContainerError",
        ),
        pytest.param(
            status(
                phase="Failed",
                **container({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no /bin/sh"}}),
            ),
            NOTHING,
            {},
            "the probe's container ended with exit code 128 (StartError: no /bin/sh). "
            "Check that image busybox:1 has /bin/sh, tr and sleep.",
            id="the container cannot run",
        ),
        pytest.param(
            status(phase="Failed", reason="DeadlineExceeded", **container({"terminated": {"exitCode": 137}})),
            SEEN,
            {},
            "the probe's container ended with exit code 137 (DeadlineExceeded). "
            "Check that image busybox:1 has /bin/sh, tr and sleep.",
            id="the kubelet ended it",
        ),
        pytest.param(
            status(qosClass="Burstable"),
            SEEN,
            {},
            "the probe pod is Burstable instead of Guaranteed: an admission webhook or LimitRange of namespace "
            "kube-system has changed it. Choose another `namespace`.",
            id="not Guaranteed",
        ),
        pytest.param(
            status(),
            Observation(("8-9",), (), None, None, 0),
            {"gpus": 2, "device_paths": ["/dev/nvidia0", "/dev/dxg"]},
            "the probe pod got 2 nvidia.com/gpu, but no device file /dev/nvidia0 or /dev/dxg is in it. "
            "Name the GPU runtime with `runtime_class`, or what the node has with `gpu_resource` and `device_paths`.",
            id="no device file",
        ),
        pytest.param(
            status(),
            Observation(("8-9",), ("/dev/nvidia0",), 0, f"/dev/nvidia0: {DENIED}", 0),
            {},
            f"the probe pod could not open its device from the start: /dev/nvidia0: {DENIED}. "
            "Run a GPU pod of your own on the node: the GPU driver and the container runtime need repair if it fails too.",
            id="never usable",
        ),
        pytest.param(
            status(),
            Observation(("8-9",), ("/dev/nvidia0",), 9, f"/dev/nvidia0: {DENIED}", 9),
            {},
            f"the probe pod lost its device after 9 s: /dev/nvidia0: {DENIED}. "
            "The container runtime took it away when the kubelet updated the container's CPU set.",
            id="lost",
        ),
    ],
)
def test_failure(pod: Any, observation: Any, changes: Any, text: Any) -> None:
    found = failure(pod, observation, request(**changes))
    assert (found and found.text) == text


@pytest.mark.parametrize(
    ("pod", "text"),
    [
        pytest.param(None, "no status yet", id="no pod"),
        pytest.param({"status": {"phase": "Pending"}}, "Pending", id="pending"),
        pytest.param(
            status(phase="Pending", **container({"waiting": {"reason": "ContainerCreating"}})),
            "Pending, ContainerCreating",
            id="waiting",
        ),
    ],
)
def test_progress(pod: Any, text: str) -> None:
    assert progress(pod) == text


def test_events_come_in_order() -> None:
    events: list[dict[str, Any]] = [
        {"type": "Warning", "reason": "Failed", "message": "b", "lastTimestamp": "2026-11-23T18:00:02Z"},
        {
            "type": "Normal",
            "reason": "Pulling",
            "message": "a",
            "lastTimestamp": None,
            "eventTime": "2026-11-23T18:00:01Z",
        },
    ]
    assert describe_events(events) == ["Normal Pulling: a", "Warning Failed: b"]


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        pytest.param("CreateContainerConfigError", 'secret "token" not found', True, id="a secret is missing"),
        pytest.param(
            "CreateContainerConfigError",
            "services have not yet been read at least once, cannot construct envvars",
            False,
            id="the kubelet waits for the API server",
        ),
        pytest.param("ContainerCreating", None, False, id="on its way"),
    ],
)
def test_which_containers_will_not_start_by_themselves(reason: str, message: str | None, expected: bool) -> None:
    assert cannot_start({"reason": reason, "message": message}) is expected


def test_a_pod_is_rejected_by_the_event_that_says_so() -> None:
    pod = {"metadata": {"name": "probe"}, "status": {"phase": "Pending", "qosClass": "Guaranteed"}}
    scheduled = {"reason": "Scheduled", "message": "bound"}
    assert as_rejected(pod, [scheduled]) == pod
    rejected = as_rejected(pod, [scheduled, {"reason": "OutOfcpu", "message": "no CPUs"}])
    assert rejected["status"] == {
        "phase": "Failed",
        "reason": "OutOfcpu",
        "message": "no CPUs",
        "qosClass": "Guaranteed",
    }


@pytest.mark.parametrize(
    ("status", "unseen"),
    [
        ({"phase": "Pending"}, True),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled"}]}, False),
        ({"phase": "Running"}, False),
    ],
)
def test_a_pod_is_unseen_until_the_kubelet_reports_it(status: dict[str, Any], unseen: bool) -> None:
    assert is_unseen({"status": status}) is unseen


@pytest.mark.parametrize(
    ("status", "changes", "again"),
    [
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, {}, True),
        ({"phase": "Failed", "reason": "OutOfnvidia.com/gpu"}, {}, True),
        ({"phase": "Failed", "reason": "OutOfcpu"}, {}, False),
        ({"phase": "Failed", "reason": "TopologyAffinityError"}, {}, False),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, {"gpus": 0}, False),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, {"retry_rejected": False}, False),
        ({"phase": "Running"}, {}, False),
    ],
)
def test_only_a_rejection_that_a_device_plugin_can_cure_is_worth_another_try(
    status: dict[str, Any], changes: dict[str, Any], again: bool
) -> None:
    assert worth_another_try({"status": status}, request(**{"retry_rejected": True, **changes})) is again


@pytest.mark.parametrize(
    ("answers", "ended"),
    [
        ([True, True, False, False], True),
        ([True, False], False),
        ([True, False, True, False], False),
        ([True, False, None, False], False),
        ([None, None, None], False),
        ([False] * 8, False),
        ([False] * 9, True),
        ([False, True, False, False], True),
    ],
    ids=[
        "listened and ended",
        "one refusal",
        "two refusals with an answer between",
        "nobody knows",
        "the API server is away",
        "starts slowly",
        "never listened",
        "started slowly and ended",
    ],
)
def test_an_ended_kubelet_is_told_from_one_that_starts_or_is_not_seen(answers: list[bool | None], ended: bool) -> None:
    watch = KubeletWatch()
    for second, listens in enumerate(answers):
        watch.note(listens, second)
    assert watch.has_ended(len(answers) - 1) is ended


def test_the_probe_pod_passes_the_baseline_pod_security_standard() -> None:
    """The controls of https://kubernetes.io/docs/concepts/security/pod-security-standards/, and no volume at all."""
    manifest = pod_manifest(request(image_pull_secrets=["pull"], runtime_class="nvidia"))
    spec, context = manifest["spec"], manifest["spec"]["containers"][0]["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"} & set(spec)
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert not {"privileged", "procMount", "seLinuxOptions", "seccompProfile", "windowsOptions"} & set(context)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "ports" not in spec["containers"][0]
    assert "annotations" not in manifest["metadata"]
