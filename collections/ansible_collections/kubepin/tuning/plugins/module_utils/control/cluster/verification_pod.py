# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe pod: its manifest, the meaning of its log, and its failures. Pure: plain data in, plain data out."""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

CONTAINER = "probe"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "kubepin"
_NAME_LABEL = "app.kubernetes.io/name"
# The kubelet ends a forgotten probe this many seconds after its task, so that it does not hold CPUs forever.
DEADLINE_MARGIN_SECONDS = 600

# How long a port must refuse connections before its kubelet counts as stopped: if it was open, if it never was.
_REFUSED_SECONDS, _SILENT_SECONDS = 1, 8

_MAX_NAME = 63
_MARK = "kubepin-probe"

# One line a second, fields separated by tabs: mark, second, Cpus_allowed_list, then PATH=ERROR for each device file
# (no ERROR: it opens). The shell is PID 1: it ignores SIGTERM without a trap, and only `wait` runs the trap at once.
_SCRIPT = r"""
trap 'exit 0' TERM
read -r start _ </proc/uptime
while :; do
  read -r now _ </proc/uptime
  while read -r key value; do
    [ "$key" = Cpus_allowed_list: ] && cpus=$value
  done </proc/self/status
  line=$(printf '%s\t%s\t%s' kubepin-probe $((${now%%.*} - ${start%%.*})) "$cpus")
  for pattern in "$@"; do
    for path in $pattern; do
      [ -e "$path" ] || continue
      error=$( (exec 3<>"$path") 2>&1 | tr '\n\t' '  ')
      line=$(printf '%s\t%s=%s' "$line" "$path" "$error")
    done
  done
  printf '%s\n' "$line"
  sleep 1 & wait
done
"""

# pkg/kubelet/cm/admission/errors.go, topologymanager/scope.go, cpumanager/policy_static.go
_REJECTIONS = {
    "UnexpectedAdmissionError": "The kubelet has no such CPUs or devices left, or its device plugin is not back",
    "TopologyAffinityError": "The topology manager's policy finds no NUMA node with all of it free",
    "SMTAlignmentError": "The kubelet gives out whole cores only: set `cpus` to a multiple of the threads of a core",
}
_NO_ROOM = "The node has not that much free: pods that run there hold it"
_IMAGE_ERRORS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_START_ERRORS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, until the API server has answered a kubelet that has just started
_NOT_YET_READ = "have not yet been read at least once"


@dataclass(frozen=True)
class ProbeRequest:
    """What a probe requests: *cpus* whole CPUs and *gpus* devices of *gpu_resource*, whose files are *device_paths*."""

    node: str
    namespace: str
    image: str
    cpus: int
    gpus: int
    gpu_resource: str
    device_paths: Sequence[str]
    observe_seconds: int
    timeout: int
    runtime_class: str | None = None
    image_pull_secrets: Sequence[str] = ()
    retry_rejected: bool = False


class Reading(t.NamedTuple):
    """One line of the log. *devices* maps each device file to the error of opening it, empty if it opens."""

    second: int
    cpus: str
    devices: Mapping[str, str]


@dataclass(frozen=True)
class Observation:
    """The readings taken together; seconds count from the container's first line."""

    cpus_allowed_history: tuple[str, ...]
    device_paths_seen: tuple[str, ...]
    device_lost_at: int | None
    device_error: str | None
    seconds_observed: int


@dataclass
class KubeletWatch:
    """Detects a stopped kubelet by polling whether it accepts connections. Seconds may come from any clock.

    A kubelet opens its port soon after it starts, and keeps it open as long as it runs.
    """

    has_listened: bool = False
    refused_since: float | None = None

    def note(self, listens: bool | None, now: float) -> None:
        """Record one poll; *listens* is None if unknown."""
        self.has_listened = self.has_listened or listens is True
        self.refused_since = None if listens is not False else now if self.refused_since is None else self.refused_since

    def has_ended(self, now: float) -> bool:
        patience = _REFUSED_SECONDS if self.has_listened else _SILENT_SECONDS
        return self.refused_since is not None and now - self.refused_since >= patience


def probe_name(node: str) -> str:
    """The name of *node*'s probe."""
    return pod_name(_MARK, node)


def pod_name(prefix: str, node: str) -> str:
    """A valid name for *node*'s pod of a kind; long node names are truncated, and a hash keeps them unique."""
    name = f"{prefix}-{node}"
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9].rstrip('-.')}-{digest}"


def pod_manifest(request: ProbeRequest) -> dict[str, t.Any]:
    """A Guaranteed pod with whole CPUs that bypasses the scheduler, so that it also runs on a cordoned node.

    It runs as root without capabilities, because root owns the device files and can open them whatever their mode is.
    """
    resources = {"cpu": str(request.cpus), "memory": "64Mi"}
    if request.gpus:
        resources[request.gpu_resource] = str(request.gpus)
    spec: dict[str, t.Any] = {
        "nodeName": request.node,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": request.timeout + request.observe_seconds + DEADLINE_MARGIN_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": CONTAINER,
                "image": request.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", _SCRIPT, _MARK, *(request.device_paths if request.gpus else ())],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": {
                    "runAsUser": 0,
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    return managed_pod(
        probe_name(request.node), request.namespace, _MARK, spec, request.runtime_class, request.image_pull_secrets
    )


def managed_pod(
    name: str,
    namespace: str,
    mark: str,
    spec: Mapping[str, t.Any],
    runtime_class: str | None,
    image_pull_secrets: Sequence[str],
) -> dict[str, t.Any]:
    """A pod of *spec* with the labels that `is_ours` checks; *mark* is its purpose."""
    whole = dict(spec)
    if runtime_class:
        whole["runtimeClassName"] = runtime_class
    if image_pull_secrets:
        whole["imagePullSecrets"] = [{"name": secret} for secret in image_pull_secrets]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {_NAME_LABEL: mark, MANAGED_BY_LABEL: MANAGED_BY},
        },
        "spec": whole,
    }


def is_ours(pod: Mapping[str, t.Any]) -> bool:
    """Whether kubepin created it, according to its label."""
    return bool((pod["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY)


def is_probe(pod: Mapping[str, t.Any]) -> bool:
    """Whether it is kubepin's probe pod; one that a killed run left behind is safe to replace."""
    return is_ours(pod) and pod["metadata"]["labels"].get(_NAME_LABEL) == _MARK


def cannot_start(waiting: Mapping[str, t.Any]) -> bool:
    """Whether a waiting container cannot start by itself; a kubelet that only waits for the API server retries."""
    return waiting.get("reason") in _START_ERRORS and _NOT_YET_READ not in (waiting.get("message") or "")


def is_unseen(pod: Mapping[str, t.Any]) -> bool:
    """Whether the kubelet has not reported anything about the pod yet."""
    status = pod.get("status") or {}
    return status.get("phase") == "Pending" and not status.get("conditions")


def as_rejected(pod: Mapping[str, t.Any], events: Iterable[Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The pod with a rejected status if its events report a rejection, otherwise unchanged.

    A kubelet writes the event at once, but the status only with its next sync, up to 10 s later
    (kubernetes/kubernetes pkg/kubelet/kubelet.go rejectPod, pkg/kubelet/status/status_manager.go).
    """
    for event in events:
        reason = str(event.get("reason"))
        if reason in _REJECTIONS or reason.startswith("OutOf"):
            rejected = {"phase": "Failed", "reason": reason, "message": event.get("message")}
            return {**pod, "status": {**pod["status"], **rejected}}
    return dict(pod)


def worth_another_try(pod: Mapping[str, t.Any], request: ProbeRequest) -> bool:
    """Whether the request allows retries, and the node rejected the pod only until its device plugin is back."""
    status = pod.get("status") or {}
    reasons = ("UnexpectedAdmissionError", f"OutOf{request.gpu_resource}")
    asked = request.retry_rejected and request.gpus > 0
    return asked and status.get("phase") == "Failed" and status.get("reason") in reasons


def not_ours(pod: Mapping[str, t.Any]) -> Problem:
    """Why an existing pod of this name is not replaced, with the remedy."""
    metadata = pod["metadata"]
    return problems.pod_of_others(f"{metadata['namespace']}/{metadata['name']}", f"{MANAGED_BY_LABEL}={MANAGED_BY}")


def parse_log(text: str) -> list[Reading]:
    """The readings of a log, without an unfinished last line and lines of other origin.

    Of the shell's message for a device that does not open, only the last part is kept: "Operation not permitted".
    """
    readings = []
    for line in text.splitlines(keepends=True):
        mark, *fields = line.rstrip("\n").split("\t")
        if not line.endswith("\n") or mark != _MARK or len(fields) < 2 or not fields[0].isdigit():
            continue
        second, cpus, *devices = fields
        pairs = (device.partition("=") for device in devices)
        readings.append(
            Reading(int(second), cpus, {path: error.strip().rpartition(": ")[2] for path, _unused, error in pairs})
        )
    return readings


def observe(readings: Sequence[Reading]) -> Observation:
    """The CPU sets in order, and the first second in which a device file did not open or had disappeared."""
    history: list[str] = []
    seen: dict[str, None] = {}
    lost_at, error = None, None
    for reading in readings:
        if not history or history[-1] != reading.cpus:
            history.append(reading.cpus)
        seen.update(dict.fromkeys(reading.devices))
        failed = [f"{path}: {why}" for path, why in reading.devices.items() if why]
        failed += [f"{path}: no such file any more" for path in seen if path not in reading.devices]
        if failed and lost_at is None:
            lost_at, error = reading.second, "; ".join(failed)
    seconds = readings[-1].second - readings[0].second if readings else 0
    return Observation(tuple(history), tuple(seen), lost_at, error, seconds)


def failure(pod: Mapping[str, t.Any], observation: Observation, request: ProbeRequest) -> Problem | None:
    """Why the probe has failed permanently, with the remedy; None while it may still succeed."""
    return _pod_failure(pod, request) or _observation_failure(observation, request)


def progress(pod: Mapping[str, t.Any] | None) -> str:
    """The pod's state, for the message of a timeout."""
    status: Mapping[str, t.Any] = (pod or {}).get("status") or {}
    waiting = _container_state(status).get("waiting") or {}
    phase = status.get("phase") or "no status yet"
    return ", ".join(filter(None, (phase, waiting.get("reason"), waiting.get("message"))))


@dataclass(frozen=True)
class PodEvent:
    """An event of a pod; `type` is Normal or Warning."""

    type: str
    reason: str
    message: str

    @property
    def is_warning(self) -> bool:
        return self.type == "Warning"

    @property
    def text(self) -> str:
        return f"{self.type} {self.reason}: {self.message}"


def ordered_events(events: Iterable[Mapping[str, t.Any]]) -> list[PodEvent]:
    """The events that the API returned, oldest first."""
    ordered = sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [PodEvent(*(str(event.get(name)) for name in ("type", "reason", "message"))) for event in ordered]


def describe_events(events: Iterable[Mapping[str, t.Any]]) -> list[str]:
    """The pod's events as lines, oldest first."""
    return [event.text for event in ordered_events(events)]


def _pod_failure(pod: Mapping[str, t.Any], request: ProbeRequest) -> Problem | None:
    status = pod.get("status") or {}
    state = _container_state(status)
    terminated, waiting = state.get("terminated"), state.get("waiting") or {}
    reason, message = status.get("reason"), _sentence(status.get("message"))
    if status.get("phase") == "Failed" and reason and not terminated:
        meaning = _REJECTIONS.get(reason) or (_NO_ROOM if reason.startswith("OutOf") else "The kubelet did not take it")
        return problems.probe_rejected(request.node, _wants(request), f"{reason}: {message}", f"{meaning}.")
    if terminated:
        why = ": ".join(filter(None, (terminated.get("reason"), _sentence(terminated.get("message")) or message)))
        return problems.probe_container_ended(request.image, terminated.get("exitCode"), why or str(reason))
    why = ": ".join(filter(None, (waiting.get("reason"), _sentence(waiting.get("message")))))
    if waiting.get("reason") in _IMAGE_ERRORS:
        return problems.probe_image_missing(request.node, request.image, why)
    if cannot_start(waiting):
        return problems.probe_not_started(request.node, why)
    qos = status.get("qosClass")
    if qos and qos != "Guaranteed":
        return problems.probe_not_guaranteed(qos, request.namespace)
    return None


def _observation_failure(observation: Observation, request: ProbeRequest) -> Problem | None:
    if not request.gpus or not observation.cpus_allowed_history:
        return None
    if not observation.device_paths_seen:
        paths = " or ".join(request.device_paths)
        return problems.probe_without_device(f"{request.gpus} {request.gpu_resource}", paths)
    if observation.device_lost_at is None:
        return None
    if observation.device_lost_at == 0:
        return problems.probe_device_closed(str(observation.device_error))
    return problems.probe_lost_device(observation.device_lost_at, str(observation.device_error))


def _container_state(status: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    statuses: list[Mapping[str, t.Any]] = status.get("containerStatuses") or []
    return next((s.get("state") or {} for s in statuses if s["name"] == CONTAINER), {})


def _wants(request: ProbeRequest) -> str:
    cpus = counted(request.cpus, "whole CPU")
    return f"{cpus} and {request.gpus} {request.gpu_resource}" if request.gpus else cpus


def _sentence(text: str | None) -> str:
    return (text or "").strip().rstrip(".")
