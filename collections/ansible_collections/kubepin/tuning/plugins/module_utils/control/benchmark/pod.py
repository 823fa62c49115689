# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds of the benchmark in one pod: its manifest, its log, and why it failed. Pure: plain data in, plain data out.

The program in the pod and its JSON lines are described in benchmark/README.md.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import (
    BUSY,
    SOLO,
    Phase,
    load_order,
    load_problem,
    measured_loads,
    shares_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.problems import (
    loads_invalid,
    option_invalid,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import offered_gpus
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import requested, untolerated
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import (
    PodEvent,
    cannot_start,
    is_ours,
    managed_pod,
    pod_name,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

CONTAINER = "benchmark"
JSON_START = '{"schema"'
START_ANNOTATION = "kubepin.io/start"
"""When the phases of a full node begin, as benchmark/pod/slots.py reads it from a file."""
# The kubelet ends a forgotten pod this long after the pod's own timeouts, so that it does not hold a GPU forever.
DEADLINE_MARGIN_SECONDS = 120

_MARK = "kubepin-benchmark"
_PROGRAM = "/opt/kubepin/pod"
_SCRATCH = "/tmp"
_START = "/opt/kubepin-start"
_GRACE_SECONDS = 5
_QUOTED_LINES = 5
_GROUP = re.compile(r"^[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*$")
_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_THREADS = ("auto", "cpus")

# pkg/kubelet/cm/admission/errors.go, topologymanager/scope.go, cpumanager/policy_static.go
_REJECTIONS = {
    "UnexpectedAdmissionError": "The kubelet has no such CPUs or devices left, or its device plugin is not back",
    "TopologyAffinityError": "The topology manager's policy finds no NUMA node with all of it free: ask for less with `cpu`",
    "SMTAlignmentError": "The kubelet gives out whole cores only: set `cpu` to a multiple of the threads of a core",
}
_NO_ROOM = "Pods that run there hold it: wait for them, or ask for less"
_BAD_IMAGE = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"})
_ARGUMENTS_REFUSED, _NOTHING_TIMED, _DEVICE_MISSING, _DEVICE_LOST, _BUS_ERROR = 2, 3, 5, 6, 135


@dataclass(frozen=True)
class PodRequest:
    """What one pod measures, and its resources: *cpu* and *memory* are quantities, limits equal to requests.

    *timeout* is for each of the *rounds*, in seconds.
    """

    node: str
    namespace: str
    run_id: str
    arm: str
    rounds: Sequence[int]
    threads: Sequence[str]
    arguments: Sequence[str]
    env: Mapping[str, t.Any]
    config_map: str
    image: str
    image_pull_policy: str
    image_pull_secrets: Sequence[str]
    runtime_class: str | None
    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, t.Any]]
    user: int
    cpu: str
    memory: str
    gpus: int
    gpu_resource: str
    shm_size: str | None
    schedule_timeout: int
    start_timeout: int
    timeout: int
    loads: Sequence[str] = (SOLO,)
    slot_seconds: float = 6.0
    tenants: int = 0
    tenant: int = 0
    device: str = "auto"

    @property
    def computes_on(self) -> str:
        """``cuda`` or ``cpu``; by default, what the pod gets. Never left to torch, which falls back to the CPU if a GPU is lost."""
        return ("cuda" if self.gpus else "cpu") if self.device == "auto" else self.device

    @property
    def shares_node(self) -> bool:
        """Whether this pod is one of several tenants, or has busy neighbours."""
        return shares_node(self.loads)


class Failure(t.NamedTuple):
    """Why a pod failed: a code for programs, and a sentence with the remedy for people."""

    code: str
    message: str


@dataclass(frozen=True)
class PodLog:
    """The contents of a log or a file: its JSON lines, and all others."""

    lines: tuple[str, ...]
    others: tuple[str, ...]


def benchmark_name(node: str, part: int | str | None = None) -> str:
    """The name of *node*'s benchmark pod, always the same, so that a pod left by an interrupted run is found.

    :param part: on a full node, the number of the tenant, or what else the pod is
    """
    return pod_name(_MARK, node if part is None else f"{node}-{part}")


def own_name(request: PodRequest) -> str:
    """The name of the request's pod."""
    return benchmark_name(request.node, request.tenant if request.shares_node else None)


def is_benchmark_of(pod: Mapping[str, t.Any], request: PodRequest) -> bool:
    """Whether a pod on the request's node is the benchmark's."""
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get("app.kubernetes.io/name")
    return is_ours(pod) and metadata["namespace"] == request.namespace and name == _MARK


def problems(request: PodRequest, looks_only: bool = False) -> list[Problem]:
    """Every problem of a request, checked without the cluster.

    :param looks_only: no pod will run: the request asks which of its rounds were measured
    """
    found = []
    for name, text in (("cpu", request.cpu), ("memory", request.memory), ("shm_size", request.shm_size)):
        if text is not None and not _is_positive(text):
            found.append(option_invalid(name, text, f"a quantity above 0, such as {_EXAMPLES[name]}"))
    if request.gpus < 0:
        found.append(option_invalid("gpus", request.gpus, "0 or more"))
    named = ", ".join(map(str, request.rounds))
    if not request.rounds or min(request.rounds) < 1 or len(set(request.rounds)) < len(request.rounds):
        found.append(option_invalid("rounds", named, "a list of numbers from 1, each once"))
    if request.shares_node and len(request.rounds) > 1 and not looks_only:
        found.append(
            option_invalid("rounds", named, "one, because the loads of a full node take turns from round to round")
        )
    if request.user < 1:
        found.append(option_invalid("user", request.user, "the number of a user that is not root, such as 1000"))
    if not request.run_id:
        found.append(option_invalid("run_id", "", "a text that names the run"))
    if not _GROUP.match(request.arm):
        found.append(option_invalid("arm", request.arm, "letters, digits, dots and underlines, joined by hyphens"))
    bad = [text for text in request.threads if text not in _THREADS and not re.match(r"^[1-9]\d*$", text)]
    if bad or not request.threads:
        found.append(option_invalid("threads", ", ".join(bad), "a list of auto, cpus, or numbers from 1"))
    if bad := [key for key in request.env if not _KEY.match(key)]:
        found.append(option_invalid("env", ", ".join(bad), "keys of letters, digits and underlines"))
    if trouble := load_problem("`loads`", request.loads):
        found.append(loads_invalid(trouble))
    if request.tenants < 0:
        found.append(option_invalid("tenants", request.tenants, "1 or more, or 0 for one on each GPU"))
    for name in ("schedule_timeout", "start_timeout", "timeout"):
        if getattr(request, name) < 1:
            found.append(option_invalid(name, getattr(request, name), "seconds, 1 or more"))
    return found


_EXAMPLES = {"cpu": "12 or 12001m", "memory": "30Gi", "shm_size": "8Gi"}


def _is_positive(text: str) -> bool:
    try:
        return parse_quantity(text) > 0
    except ValueError:
        return False


def pod_manifest(request: PodRequest) -> dict[str, t.Any]:
    """A Guaranteed pod that the restricted Pod Security Standard admits.

    Node affinity with the node's name, as in DaemonSet pods, makes the scheduler look for free GPUs on that node.
    """
    resources = {"cpu": request.cpu, "memory": request.memory}
    if request.gpus:
        resources[request.gpu_resource] = str(request.gpus)
    shared_memory = {"medium": "Memory", **({"sizeLimit": request.shm_size} if request.shm_size else {})}
    spec: dict[str, t.Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": request.start_timeout
        + request.timeout * len(request.rounds)
        + DEADLINE_MARGIN_SECONDS,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [request.node]}]}
                    ]
                }
            }
        },
        "tolerations": [dict(toleration) for toleration in request.tolerations],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": request.user,
            "runAsGroup": request.user,
            "fsGroup": request.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": request.image,
                "imagePullPolicy": request.image_pull_policy,
                "command": command(request),
                "workingDir": _SCRATCH,
                # a user that the image does not define has no home directory and no name
                "env": [
                    {"name": "PYTHONPATH", "value": _PROGRAM.rpartition("/")[0]},
                    {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
                    {"name": "HOME", "value": _SCRATCH},
                    {"name": "USER", "value": "kubepin"},
                ],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    {"name": "program", "mountPath": _PROGRAM, "readOnly": True},
                    {"name": "shm", "mountPath": "/dev/shm"},
                    {"name": "scratch", "mountPath": _SCRATCH},
                ],
            }
        ],
        "volumes": [
            {"name": "program", "configMap": {"name": request.config_map}},
            {"name": "shm", "emptyDir": shared_memory},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    if request.node_selector:
        spec["nodeSelector"] = dict(request.node_selector)
    if request.shares_node:
        field = {"fieldPath": f"metadata.annotations['{START_ANNOTATION}']"}
        items = [{"path": "start", "fieldRef": field}]
        spec["volumes"].append({"name": "start", "downwardAPI": {"items": items}})
        spec["containers"][0]["volumeMounts"].append({"name": "start", "mountPath": _START, "readOnly": True})
    return managed_pod(
        own_name(request), request.namespace, _MARK, spec, request.runtime_class, request.image_pull_secrets
    )


def busy_manifest(request: PodRequest, threads: int, cpu: str) -> dict[str, t.Any]:
    """A Burstable pod beside the tenants that keeps `threads` CPUs busy.

    :param cpu: its request, a quantity: what the tenants and all other pods leave
    """
    pod = pod_manifest(replace(request, gpus=0, runtime_class=None))
    pod["metadata"]["name"] = benchmark_name(request.node, BUSY)
    spec = pod["spec"]
    container = spec["containers"][0]
    container["command"] = ["python3", "-m", "pod.busy", "--threads", str(threads)]
    container["resources"] = {"requests": {"cpu": cpu, "memory": "64Mi"}}
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "start"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "start"]
    return pod


def loads_of(request: PodRequest, number: int) -> list[str]:
    """The loads that this tenant works under in round *number*, in the order of their phases."""
    loads = load_order(measured_loads(request.loads, max(1, request.tenants)), request.run_id, number)
    return [load for load in loads if load != SOLO or request.tenant == 0]


def tenants_of(node: Mapping[str, t.Any], request: PodRequest) -> int:
    """How many tenants fill the node: those asked for, else as many as its GPUs allow."""
    if request.tenants or not request.gpus:
        return request.tenants or 1
    allocatable = ((node.get("status") or {}).get("allocatable") or {}).get(request.gpu_resource, "0")
    return max(1, int(allocatable) // request.gpus)


def cpus_left(node: Mapping[str, t.Any], pods: Sequence[Mapping[str, t.Any]]) -> Fraction:
    """The CPUs of *node* that none of its *pods* requests."""
    allocatable = ((node.get("status") or {}).get("allocatable") or {}).get("cpu", "0")
    return parse_quantity(allocatable) - sum(requested("cpu", pods).values(), Fraction(0))


def no_room(node: Mapping[str, t.Any], others: Sequence[Mapping[str, t.Any]], request: PodRequest) -> Failure | None:
    """Why the tenants do not fit on the node beside the *others*; None if they do."""
    left = cpus_left(node, others)
    if parse_quantity(request.cpu) * request.tenants <= left:
        return None
    most = int((left - Fraction(request.tenants, 1000)) / request.tenants)
    return Failure(
        "unschedulable",
        f"node {request.node} has {counted(float(left), 'CPU')} free, not enough for {counted(request.tenants, 'benchmark pod')} "
        f"with cpu {request.cpu} each: set `cpu` to {most} or less, or free some.",
    )


def ready_phases(others: Sequence[str]) -> list[Phase]:
    """The phases that the program has waited for, in order, from the lines of its log that are not timings."""
    records = (json.loads(line) for line in others if line.startswith(JSON_START) and _is_json(line))
    return [Phase.of(record) for record in records if record.get("kind") == "ready"]


def command(request: PodRequest) -> list[str]:
    """The program's command line."""
    line = ["python3", "-m", "pod", "round", "--run-id", request.run_id, "--arm", request.arm]
    line += ["--round", ",".join(map(str, request.rounds)), "--threads", ",".join(request.threads)]
    line += ["--device", request.computes_on]
    if request.shares_node:
        loads = load_order(measured_loads(request.loads, max(1, request.tenants)), request.run_id, request.rounds[0])
        line += ["--tenant", str(request.tenant), "--tenants", str(max(1, request.tenants)), "--load", ",".join(loads)]
        line += ["--start-file", f"{_START}/start", "--slot-seconds", f"{request.slot_seconds:g}"]
    for key, value in request.env.items():
        line += ["--env", f"{key}={value}"]
    return [*line, *request.arguments]


def split_log(text: str, ended: bool) -> PodLog:
    """The JSON lines of a log, and all others; an unterminated last line counts only once the pod has *ended*.

    A JSON line that was truncated or interleaved with other output counts among the others, and so does one of kind
    "ready", which holds no timing.
    """
    lines: list[str] = []
    others: list[str] = []
    for line in text.splitlines(keepends=True):
        whole = line.endswith("\n")
        if whole and line.startswith(JSON_START) and _is_json(line) and json.loads(line).get("kind") != "ready":
            lines.append(line.rstrip("\n"))
        elif whole or ended:
            others.append(line.rstrip("\r\n"))
    return PodLog(tuple(lines), tuple(others))


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def merge_log(known: Sequence[str], read: Sequence[str]) -> tuple[str, ...]:
    """*known* lines and those that a new reading of the log adds; a rotated log starts later than *known*."""
    if list(read[: len(known)]) == list(known):
        return tuple(read)
    seen = set(known)
    return (*known, *(line for line in read if line not in seen))


def by_round(lines: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The JSON lines of each round, in order."""
    found: dict[int, list[str]] = {}
    for line in lines:
        found.setdefault(json.loads(line).get("round"), []).append(line)
    return {number: tuple(of_round) for number, of_round in found.items()}


def ended_arms(lines: Sequence[str], request: PodRequest, number: int, load: str | None = None) -> list[str]:
    """The arms of this run whose measurement finished in round *number*, in order. What warms the machine measures
    nothing.

    :param load: only under this load; None for any
    """
    return [
        record["arm"]
        for record in map(json.loads, lines)
        if record.get("kind") == "end"
        and not record.get("warm_up")
        and record.get("run_id") == request.run_id
        and record.get("round") == number
        and "arm" in record
        and load in (None, record.get("load", SOLO))
    ]


def is_complete(lines: Sequence[str], request: PodRequest, number: int) -> bool:
    """Whether the measurement of each requested thread setting finished in round *number*, under each load."""
    return all(
        _is_complete(set(ended_arms(lines, request, number, load)), request) for load in loads_of(request, number)
    )


def _is_complete(ended: set[str], request: PodRequest) -> bool:
    number = re.compile(re.escape(request.arm) + r"-\d+$")
    return all(
        any(map(number.match, ended)) if threads == "cpus" else f"{request.arm}-{threads}" in ended
        for threads in request.threads
    )


def recorded_tenants(lines: Sequence[str]) -> int:
    """How many tenants a round had, as its lines say."""
    return max((json.loads(line).get("tenants", 1) for line in lines), default=1)


def environment(lines: Sequence[str]) -> Mapping[str, t.Any]:
    """The environment that the first process recorded; empty if none was."""
    records = (json.loads(line) for line in lines)
    return next((record.get("env") or {} for record in records if record.get("kind") == "process"), {})


def stage(pod: Mapping[str, t.Any]) -> str:
    """The stage of a pod: ``scheduling``, ``starting``, ``running`` or ``ended``."""
    status = pod.get("status") or {}
    state = _container_state(status)
    if state.get("terminated") or status.get("phase") in ("Failed", "Succeeded"):
        return "ended"
    if state.get("running"):
        return "running"
    return "starting" if (pod.get("spec") or {}).get("nodeName") else "scheduling"


def failure(pod: Mapping[str, t.Any], request: PodRequest, others: Sequence[str]) -> Failure | None:
    """Why the pod has failed permanently; None if it has succeeded or still may.

    :param others: the lines of its log that are not JSON
    """
    status: Mapping[str, t.Any] = pod.get("status") or {}
    state = _container_state(status)
    reason, message = status.get("reason"), _sentence(status.get("message"))
    if reason == "DeadlineExceeded":
        deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
        return Failure("deadline", f"{_who(request)} was ended by the kubelet after {deadline} s: raise `timeout`.")
    if reason == "Evicted":
        return Failure("evicted", f"node {request.node} evicted the benchmark pod: {message}. Free what it lacks.")
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return deleted_failure(request)
    if terminated := state.get("terminated"):
        return _exit_failure(terminated, request, others)
    if status.get("phase") == "Failed":
        return _rejection(reason, message, request)
    waiting = state.get("waiting") or {}
    why = ": ".join(filter(None, (waiting.get("reason"), _sentence(waiting.get("message")))))
    if waiting.get("reason") in _BAD_IMAGE:
        return Failure(
            "image",
            f"node {request.node} cannot get the image {request.image}: {why}. "
            "Name one that it has or can pull with `image`, `image_pull_policy` and `image_pull_secrets`.",
        )
    if cannot_start(waiting):
        return Failure("start", f"node {request.node} cannot start the benchmark's container: {why}.")
    qos = status.get("qosClass")
    if qos and qos != "Guaranteed":
        return Failure(
            "refused",
            f"{_who(request)} is {qos} instead of Guaranteed: an admission webhook or LimitRange of namespace "
            f"{request.namespace} has changed it. Choose another `namespace`.",
        )
    return None


def _exit_failure(ended: Mapping[str, t.Any], request: PodRequest, others: Sequence[str]) -> Failure | None:
    code, reason = ended.get("exitCode"), ended.get("reason")
    if code == 0:
        return None
    output = quoted(others) or _sentence(ended.get("message")) or "it said nothing"
    if reason == "OOMKilled":
        return Failure(
            "out_of_memory",
            f"{_who(request)} was killed for memory (OOMKilled): its limit is {request.memory}, /dev/shm included. "
            "Raise `memory`, or let fewer loader workers run.",
        )
    if code == _ARGUMENTS_REFUSED:
        return Failure("arguments", f"the benchmark refuses its arguments: {output}")
    if code == _NOTHING_TIMED:
        return Failure("nothing_timed", f"the benchmark on node {request.node} could time nothing: {output}")
    if code == _DEVICE_MISSING:
        return Failure(
            "gpu_missing",
            f"{_who(request)} got {request.gpus} {request.gpu_resource}, but PyTorch finds no GPU: {output} "
            "Set an `image` whose PyTorch supports CUDA, or the `runtime_class` of the GPUs. To time the CPU, set `device` to cpu.",
        )
    if code == _DEVICE_LOST:
        return Failure(
            "gpu_lost",
            f"{_who(request)} lost its GPU while it measured: {output} diagnose-gpu-pods.yml finds what takes GPUs from "
            "running pods; Xid lines in the kernel's log name failures of the GPU itself.",
        )
    if code == _BUS_ERROR or "Bus error" in output or "bus error" in output:
        limit = request.shm_size or request.memory
        return Failure(
            "shared_memory", f"{_who(request)} ran out of /dev/shm ({limit}): raise `shm_size` and `memory`. {output}"
        )
    if reason in ("StartError", "ContainerCannotRun"):
        return Failure(
            "start",
            f"the image {request.image} cannot run the benchmark: {_sentence(ended.get('message')) or reason}. "
            "It needs python3 with PyTorch and torchvision on its PATH.",
        )
    if "No module named" in output:
        return Failure(
            "start", f"the image {request.image} lacks what the benchmark needs (PyTorch and torchvision): {output}"
        )
    signal = f" (signal {code - 128})" if isinstance(code, int) and 128 < code < 160 else ""
    return Failure("program", f"the benchmark on node {request.node} ended with exit code {code}{signal}: {output}")


def _rejection(reason: str | None, message: str, request: PodRequest) -> Failure:
    why = ": ".join(filter(None, (reason, message))) or "no reason given"
    if request.gpus and reason == f"OutOf{request.gpu_resource}":
        return Failure("no_free_gpu", f"node {request.node} has no free GPU for the benchmark pod: {why}.")
    meaning = _REJECTIONS.get(reason or "") or (_NO_ROOM if (reason or "").startswith("OutOf") else "")
    return Failure(
        "rejected",
        f"node {request.node} rejects the benchmark pod with {_wants(request)}: {why}."
        + (f" {meaning}." if meaning else ""),
    )


def deleted_failure(request: PodRequest) -> Failure:
    """The failure of a pod that something other than kubepin deleted."""
    return Failure(
        "deleted",
        f"{_who(request)} was deleted while it measured: by a user, a drain or an eviction. "
        "Run it again once the node is left alone.",
    )


def unscheduled_failure(
    pod: Mapping[str, t.Any], node: Mapping[str, t.Any], pods: Sequence[Mapping[str, t.Any]], request: PodRequest
) -> Failure:
    """Why the scheduler could not place the pod within ``schedule_timeout``.

    :param node: the node that the pod is bound to
    :param pods: the pods on that node
    """
    condition: Mapping[str, t.Any] = next(
        (c for c in (pod.get("status") or {}).get("conditions") or [] if c["type"] == "PodScheduled"), {}
    )
    message = _sentence(condition.get("message"))
    if not message:
        return Failure(
            "unschedulable",
            f"no scheduler has looked at {_who(request)} for {request.schedule_timeout} s: is kube-scheduler up?",
        )
    head = f"node {request.node}"
    quote = f" The scheduler: {message}."
    if (node.get("spec") or {}).get("unschedulable"):
        return Failure(
            "unschedulable",
            f"{head} is cordoned, so the benchmark pod cannot go there. Uncordon it, or set `tolerations`.{quote}",
        )
    if taints := untolerated(node, request.tolerations):
        return Failure(
            "unschedulable",
            f"{head} has taints that the benchmark pod does not tolerate: {', '.join(taints)}. Set `tolerations`.{quote}",
        )
    if request.gpus and f"Insufficient {request.gpu_resource}" in message:
        return no_free_gpu_failure(node, pods, request, quote)
    lacking = sorted(set(re.findall(r"Insufficient ([\w./-]+)", message)))
    if lacking:
        free = ", ".join(f"{name}: {_room(name, node, pods)}" for name in lacking)
        return Failure(
            "unschedulable",
            f"{head} has not enough {' and '.join(lacking)} for the benchmark pod with {_wants(request)} "
            f"({free}). Ask for less, or free it.{quote}",
        )
    return Failure(
        "unschedulable",
        f"the benchmark pod finds no place on {head} within {request.schedule_timeout} s. "
        f"Check `node_selector` and `tolerations`.{quote}",
    )


def no_free_gpu_failure(
    node: Mapping[str, t.Any], pods: Sequence[Mapping[str, t.Any]], request: PodRequest, quote: str = ""
) -> Failure:
    """The failure if all GPUs of a node are in use, naming the pods that hold them."""
    status = node.get("status") or {}
    allocatable = (status.get("allocatable") or {}).get(request.gpu_resource, "0")
    holders = requested(request.gpu_resource, pods)
    others = [name for name, count in offered_gpus(status).items() if count and name != request.gpu_resource]
    if allocatable == "0" and others:
        message = f"node {request.node} offers no {request.gpu_resource}, but {', '.join(others)}: name one with `gpu_resource`."
    elif allocatable == "0":
        message = (
            f"node {request.node} offers no {request.gpu_resource}: check its device plugin, "
            "or name what it offers with `gpu_resource`."
        )
    elif holders:
        named = ", ".join(f"{name} ({_number(count)})" for name, count in holders.items())
        message = (
            f"node {request.node} has no free GPU: of {allocatable} {request.gpu_resource}, these pods hold: {named}; "
            f"the benchmark pod asks for {request.gpus}. Wait for them, or stop one."
        )
    else:
        message = (
            f"node {request.node} offers {allocatable} {request.gpu_resource}, and the benchmark pod asks for "
            f"{request.gpus}: lower `gpus`."
        )
    return Failure("no_free_gpu", message + quote)


def with_pull_error(why: Failure, events: Sequence[PodEvent]) -> Failure:
    """*why*, with the container runtime's message if it is about an image; only the pod's events have that message.

    :param events: the pod's, oldest first
    """
    # the kubelet's words: "Failed" is the reason of other events too (pkg/kubelet/images/image_manager.go)
    pull_errors = [event for event in events if event.message.startswith("Failed to pull image")]
    if why.code != "image" or not pull_errors:
        return why
    return Failure(why.code, f"{why.message} The node: {pull_errors[-1].message}")


def timeout_failure(
    reached: str,
    pod: Mapping[str, t.Any],
    request: PodRequest,
    number: int,
    events: Sequence[PodEvent],
    others: Sequence[str],
) -> Failure:
    """The failure of a pod that exceeded the time for its stage, or for a round, without failing itself.

    :param number: the round in progress
    :param events: the pod's, oldest first
    """
    if reached == "starting":
        waiting = _container_state(pod.get("status") or {}).get("waiting") or {}
        state = ": ".join(filter(None, (waiting.get("reason"), _sentence(waiting.get("message"))))) or "not started"
        warnings = [event.text for event in events if event.is_warning]
        event = f" Last event: {warnings[-1]}." if warnings else ""
        return Failure(
            "timeout",
            f"{_who(request)} has not started within {request.start_timeout} s: {state}.{event} A large image takes "
            "long to pull: raise `start_timeout`.",
        )
    last = f" It last said: {others[-1].lstrip('# ')}" if others else ""
    return Failure(
        "timeout",
        f"{_who(request)} has not finished round {number} within {request.timeout} s: raise `timeout`, or measure less.{last}",
    )


def incomplete_failure(request: PodRequest, number: int, others: Sequence[str]) -> Failure:
    """The failure if the program ended without an error, but did not finish every requested measurement.

    :param number: the first round that lacks one
    """
    output = quoted(others) or "nothing else"
    return Failure(
        "incomplete",
        f"the benchmark on node {request.node} ended without an error, but the log lacks the end of arm {request.arm} "
        f"with threads {','.join(request.threads)} in round {number}. It said: {output}",
    )


def readiness(node: Mapping[str, t.Any]) -> str | None:
    """Why a node is not Ready; None if it is."""
    conditions = (node.get("status") or {}).get("conditions") or []
    ready: Mapping[str, t.Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return None
    return ": ".join(filter(None, (ready.get("reason"), _sentence(ready.get("message"))))) or "no Ready condition"


def quoted(others: Sequence[str]) -> str:
    """The last lines of the program's output for people, as one line."""
    texts = [line.lstrip("# ").rstrip() for line in others if not line.startswith(JSON_START)]
    return " / ".join([line for line in texts if line][-_QUOTED_LINES:])


def _container_state(status: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    statuses: list[Mapping[str, t.Any]] = status.get("containerStatuses") or []
    return next((s.get("state") or {} for s in statuses if s["name"] == CONTAINER), {})


def _room(resource: str, node: Mapping[str, t.Any], pods: Sequence[Mapping[str, t.Any]]) -> str:
    allocatable = ((node.get("status") or {}).get("allocatable") or {}).get(resource, "0")
    taken = sum(requested(resource, pods).values(), Fraction(0))
    amount = f"{float(taken / 1024**2):.0f}Mi" if resource == "memory" else _number(taken)
    return f"{allocatable} allocatable, {amount} of it requested by pods there"


def _number(amount: Fraction) -> str:
    return str(amount.numerator) if amount.denominator == 1 else f"{float(amount):g}"


def _wants(request: PodRequest) -> str:
    gpus = f" and {request.gpus} {request.gpu_resource}" if request.gpus else ""
    return f"cpu {request.cpu}, memory {request.memory}{gpus}"


def _who(request: PodRequest) -> str:
    return f"the benchmark pod {request.namespace}/{own_name(request)}"


def _sentence(text: str | None) -> str:
    return (text or "").strip().rstrip(".")
