#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_pod
short_description: Measure rounds of the benchmark in one pod on one node
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Starts a Guaranteed pod on one node, measures rounds in it one after the other, saves their timings on the control
    node as they arrive, and deletes the pod, even after a failure or an interruption.
  - Each round is a file of its own, and in each the program starts fresh processes.
  - The pod goes through the scheduler, so it never takes a GPU from another pod.
  - With other loads than V(solo) in O(loads), there is a pod on each GPU of the node. They wait for each other, and time
    the same cells at the same time. If one fails, the round fails and all are deleted. They measure one round.
  - Replaces a pod that an earlier run left behind, if it has kubepin's label.
  - Skips rounds whose file is complete, so that an interrupted measurement can be resumed.
  - Fails with the reason and the remedy if the pod cannot be scheduled, its image cannot be pulled, the node rejects
    it, it is killed, or it exceeds a timeout. The timings up to then stay in the files. After a round that fails, no
    further round is measured.
  - Runs on the control node.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
    details: Nothing is started, and the API is not queried. RV(benchmark) describes the contents of the files.
  diff_mode:
    support: none
options:
  node:
    description: The node's name in Kubernetes.
    type: str
    required: true
  folder:
    description:
      - Where the timings go on the control node, as JSON lines in a file for each round, C(<arm>-round-<n>.jsonl). It
        must exist.
      - All other lines of the pod's log go to a file next to that of the pod's first round, whose name ends in C(.log).
      - Timings of an earlier, incomplete round are kept until the new pod writes its first.
      - Further pods of a full node have files of their own, whose names end in C(-tenant-1.jsonl) and so on.
    type: path
    required: true
  run_id:
    description: The run that the timings belong to.
    type: str
    required: true
  arm:
    description: What is measured, such as V(static). The program appends the thread setting.
    type: str
    required: true
  rounds:
    description: The numbers of the rounds, from 1.
    type: list
    elements: int
    required: true
  threads:
    description:
      - Thread settings of PyTorch, each measured in a process of its own in each round.
      - V(auto) leaves the number of threads to PyTorch, V(cpus) uses the number of CPUs that the pod may use, and a
        number is used as it is.
    type: list
    elements: str
    default: [auto, cpus]
  device:
    description:
      - What PyTorch computes on. V(auto) means V(cuda) if the pod gets O(gpus), otherwise V(cpu).
      - With V(cuda), the measurement fails if the pod has no GPU or loses it. It never continues on the CPU.
    type: str
    choices: [auto, cuda, cpu]
    default: auto
  arguments:
    description: Other arguments for the program in the pod.
    type: list
    elements: str
    default: []
  loads:
    description:
      - What else runs on the node. V(solo) is nothing, V(full) a pod on each GPU, V(busy) as V(full) with a Burstable pod
        that requests the CPUs that are left and keeps more than those busy.
      - With one pod, V(full) is the same as V(solo) and is not measured again.
    type: list
    elements: str
    choices: [solo, full, busy]
    default: [solo]
  tenants:
    description: How many pods run under V(full) and V(busy). V(0) means as many as the node's GPUs allow, or one without GPUs.
    type: int
    default: 0
  slot_seconds:
    description: Seconds of each cell under other loads than V(solo), in which it is built, warmed up and timed.
    type: float
    default: 6
  env:
    description: What the program records in addition to its own environment, such as the node's policy.
    type: dict
    default: {}
  namespace:
    description: Namespace of the pod and of O(config_map). It must exist.
    type: str
    default: kubepin-benchmark
  config_map:
    description: The ConfigMap with the program's files.
    type: str
    default: kubepin-benchmark
  image:
    description: Image of the pod, with C(python3), PyTorch and torchvision.
    type: str
    required: true
  image_pull_policy:
    description: When the image is pulled.
    type: str
    choices: [IfNotPresent, Always, Never]
    default: IfNotPresent
  image_pull_secrets:
    description: Names of the pull secrets for O(image), in O(namespace).
    type: list
    elements: str
    default: []
  runtime_class:
    description: RuntimeClass of the pod, such as V(nvidia) where the GPU runtime is not the default.
    type: str
  node_selector:
    description: Labels that the node must have.
    type: dict
    default: {}
  tolerations:
    description: Tolerations of the pod, as Kubernetes writes them.
    type: list
    elements: dict
    default: []
  user:
    description: ID of the user and of the group that the program runs as. Not root.
    type: int
    default: 1000
  cpu:
    description:
      - How much CPU the pod gets, as request and limit.
      - With the C(static) policy a whole number gets exclusive CPUs, and V(12001m) runs on the shared pool.
    type: str
    required: true
  memory:
    description: How much memory the pod gets, as request and limit, C(/dev/shm) included.
    type: str
    required: true
  gpus:
    description: How many of O(gpu_resource) the pod requests.
    type: int
    default: 1
  gpu_resource:
    description: Name of the extended resource that counts GPUs.
    type: str
    default: nvidia.com/gpu
  shm_size:
    description: Limit of C(/dev/shm). Without it, O(memory) is the only limit.
    type: str
  schedule_timeout:
    description: How long scheduling the pod may take, in seconds.
    type: int
    default: 60
  start_timeout:
    description: How long the node may take to pull the image and to start the container, in seconds.
    type: int
    default: 900
  timeout:
    description: How long the measurement of each round may take, in seconds.
    type: int
    default: 3600
  stop_file:
    description: Once this file exists, the pod ends after the round in progress. The other rounds remain incomplete.
    type: path
  progress_file:
    description:
      - A file for C(rounds), a list of the rounds that the pod has finished so far, each as in RV(benchmark.rounds) with its
        C(arm). The module replaces it after each round, and leaves it to whoever reads it.
    type: path
"""

EXAMPLES = r"""
- name: Measure five rounds with 12 CPUs and a GPU
  kubepin.tuning.benchmark_pod:
    node: gpu-01
    folder: runs/lab/gpu-01
    run_id: lab-gpu-01
    arm: static
    rounds: [1, 2, 3, 4, 5]
    image: registry.example.com/pytorch:2.5
    cpu: "12"
    memory: 30Gi
    env:
      policy: static
  delegate_to: localhost
  register: measured

- name: Check whether a round has yet to be measured
  kubepin.tuning.benchmark_pod:
    node: gpu-01
    folder: runs/lab/gpu-01
    run_id: lab-gpu-01
    arm: static
    rounds: [6]
    image: registry.example.com/pytorch:2.5
    cpu: "12"
    memory: 30Gi
  delegate_to: localhost
  check_mode: true
  register: planned   # planned.changed is true if it would be measured

- name: Measure on the shared pool of a node with the static policy
  kubepin.tuning.benchmark_pod:
    node: gpu-01
    folder: runs/lab/gpu-01
    run_id: lab-gpu-01
    arm: fractional
    rounds: [1]
    threads: [auto]
    arguments: [--matrix, resnets]
    image: registry.example.com/pytorch:2.5
    runtime_class: nvidia
    cpu: 12001m
    memory: 30Gi
  delegate_to: localhost
"""

RETURN = r"""
benchmark:
  description: What was measured. Also returned on failure.
  returned: always
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 2
    arm:
      description: The requested arm.
      type: str
      sample: static
    run_id:
      description: The run.
      type: str
      sample: lab-gpu-01
    rounds:
      description: What each of O(rounds) has measured.
      type: list
      elements: dict
      contains:
        round:
          description: The number of the round.
          type: int
          sample: 1
        file:
          description: The timings.
          type: str
          sample: /srv/kubepin/runs/lab/gpu-01/static-round-1.jsonl
        arms:
          description: The arms whose measurement finished, with their thread setting.
          type: list
          elements: str
          sample: [static-auto, static-12]
        tenants:
          description: How many pods ran at the same time, as the timings say.
          type: int
          sample: 1
        lines:
          description: The number of JSON lines in C(file) and the files of further pods.
          type: int
          sample: 32
        complete:
          description: Whether the measurement of each of O(threads) finished, in each pod and under each load.
          type: bool
        seconds:
          description: >-
            Seconds from the creation of the pod, or the end of the round before, to the end of the round. None if this
            call did not finish the round.
          type: float
          sample: 31.5
    complete:
      description: Whether all rounds are complete.
      type: bool
    node:
      description: The node.
      type: str
      sample: gpu-01
    cpus:
      description: The CPUs that the program was allowed to run on, as it recorded them. None if it recorded nothing.
      type: str
      sample: 8-13,136-141
    started:
      description: When the program started, UTC. None if it recorded nothing.
      type: str
      sample: "2026-11-23T17:20:04Z"
    seconds:
      description: Seconds from the creation of the pod to its end. None if nothing was started.
      type: float
      sample: 92.4
    failure:
      description: Why it failed, with the remedy. None if it did not.
      type: str
    failure_code:
      description:
        - RV(benchmark.failure) as a code, one of C(no_free_gpu), C(gpu_missing), C(gpu_lost), C(unschedulable), C(image),
          C(rejected), C(refused), C(start), C(out_of_memory), C(shared_memory), C(evicted), C(deadline), C(deleted),
          C(node_lost), C(arguments), C(nothing_timed), C(program), C(incomplete), C(timeout), C(interrupted), C(api),
          C(request).
          None if it did not fail.
      type: str
      sample: no_free_gpu
log:
  description: The last lines of the pod's log other than its timings.
  returned: failure after the pod was created
  type: list
  elements: str
events:
  description: The pod's events.
  returned: failure after the pod was created
  type: list
  elements: str
  sample: ["Warning Failed: Failed to pull image"]
left_behind:
  description: Why the pod still exists.
  returned: failure to remove it
  type: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import dataclasses
import json
import os
import signal
import time
import typing as t
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import (
    BUSY,
    LOADS,
    SOLO,
    Barrier,
    busy_threads,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark import problems as benchmark_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.pod import (
    CONTAINER,
    START_ANNOTATION,
    Failure,
    PodLog,
    PodRequest,
    benchmark_name,
    busy_manifest,
    by_round,
    cpus_left,
    deleted_failure,
    ended_arms,
    environment,
    failure,
    incomplete_failure,
    is_benchmark_of,
    is_complete,
    merge_log,
    no_free_gpu_failure,
    no_room,
    own_name,
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
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    ApiError,
    KubernetesApi,
    Patience,
    connect,
    remove_pod,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import (
    PodEvent,
    describe_events,
    is_ours,
    not_ours,
    ordered_events,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "node": {"type": "str", "required": True},
    "folder": {"type": "path", "required": True},
    "run_id": {"type": "str", "required": True},
    "arm": {"type": "str", "required": True},
    "rounds": {"type": "list", "elements": "int", "required": True},
    "threads": {"type": "list", "elements": "str", "default": ["auto", "cpus"]},
    "device": {"type": "str", "choices": ["auto", "cuda", "cpu"], "default": "auto"},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "loads": {"type": "list", "elements": "str", "choices": list(LOADS), "default": [SOLO]},
    "tenants": {"type": "int", "default": 0},
    "slot_seconds": {"type": "float", "default": 6.0},
    "env": {"type": "dict", "default": {}},
    "namespace": {"type": "str", "default": "kubepin-benchmark"},
    "config_map": {"type": "str", "default": "kubepin-benchmark"},
    "image": {"type": "str", "required": True},
    "image_pull_policy": {"type": "str", "choices": ["IfNotPresent", "Always", "Never"], "default": "IfNotPresent"},
    "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "runtime_class": {"type": "str"},
    "node_selector": {"type": "dict", "default": {}},
    "tolerations": {"type": "list", "elements": "dict", "default": []},
    "user": {"type": "int", "default": 1000},
    "cpu": {"type": "str", "required": True},
    "memory": {"type": "str", "required": True},
    "gpus": {"type": "int", "default": 1},
    "gpu_resource": {"type": "str", "default": "nvidia.com/gpu"},
    "shm_size": {"type": "str"},
    "schedule_timeout": {"type": "int", "default": 60},
    "start_timeout": {"type": "int", "default": 900},
    "timeout": {"type": "int", "default": 3600},
    "stop_file": {"type": "path"},
    "progress_file": {"type": "path"},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}

_POLL_SECONDS = 1.0
# The whole log is read each time: rarely enough that reading takes at most a twentieth of the time.
_READ_SHARE = 20
_NODE_SECONDS = 10
# Longer than a restart takes: only after this does a node count as lost.
_NODE_PATIENCE_SECONDS = 60
_REMOVAL_SECONDS = 60
_LOG_LINES = 20
# The kubelet passes an annotation on to a file of the pod within seconds, as it synchronizes a pod that has changed.
_START_DELAY_SECONDS = 10
_BUSY_SETTLE_SECONDS = 2


class PodFailed(TuningError):
    """A pod that failed; *code* identifies the failure for programs."""

    def __init__(self, why: Failure) -> None:
        super().__init__(benchmark_problems.pod_refused(why.code, why.message))
        self.code = why.code


class RequestRefused(TuningError):
    """Options with which no pod is started."""

    code = "request"


class PodFiles:
    """The timings of a pod's rounds on the control node, a file each, and its log next to that of the first."""

    def __init__(self, folder: str, request: PodRequest) -> None:
        self._folder, self._request = Path(folder), request
        self.recorded = PodLog((), ())

    def path(self, number: int) -> Path:
        """The file of a round."""
        tenant = f"-tenant-{self._request.tenant}" if self._request.tenant else ""
        return self._folder / f"{self._request.arm}-round-{number}{tenant}.jsonl"

    def read(self, number: int) -> tuple[str, ...]:
        """The JSON lines in the file of a round.

        :raises TuningError: if the file cannot be read
        """
        path = self.path(number)
        try:
            return split_log(path.read_text(encoding="utf-8"), ended=False).lines
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise TuningError(benchmark_problems.timings_unreadable(str(path), str(error))) from error

    def check_folder(self) -> None:
        """:raises TuningError: if the folder does not exist"""
        if not self._folder.is_dir():
            raise TuningError(benchmark_problems.folder_missing(str(self._folder)))

    def add(self, read: PodLog) -> None:
        """Save what a new reading of the log adds; each file is replaced atomically.

        :raises TuningError: if it cannot be written
        """
        known = self.recorded
        self.recorded = PodLog(merge_log(known.lines, read.lines), merge_log(known.others, read.others))
        try:
            if self.recorded.lines != known.lines:
                before = by_round(known.lines)
                for number, lines in by_round(self.recorded.lines).items():
                    if number in self._request.rounds and lines != before.get(number):
                        _replace(self.path(number), lines)
            if self.recorded.others != known.others:
                _replace(self.path(self._request.rounds[0]).with_suffix(".log"), self.recorded.others)
        except OSError as error:
            raise TuningError(
                benchmark_problems.timings_not_writable(str(error.filename), str(error.strerror))
            ) from error

    def finished(self) -> list[int]:
        """The rounds that the pod has finished, in order."""
        lines = by_round(self.recorded.lines)
        return [n for n in self._request.rounds if is_complete(lines.get(n, ()), self._request, n)]


def _replace(path: Path, lines: t.Iterable[str]) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(new, path)


def _remove_leftovers(api: KubernetesApi, request: PodRequest, names: t.Iterable[str]) -> None:
    """Delete the pods of the node's benchmark, and wait until they are gone.

    :param names: of pods that may not be bound to the node yet
    :raises TuningError: if one still exists after the timeout
    """
    pods = {pod["metadata"]["name"]: pod for pod in api.pods_on(request.node) if is_benchmark_of(pod, request)}
    for name in names:
        if (pod := api.pod(request.namespace, name)) is not None and is_ours(pod):
            pods[name] = pod
    for pod in pods.values():
        remove_pod(api, pod, _REMOVAL_SECONDS, "benchmark pod")


class Messages:
    """The files through which whoever runs the playbook asks to stop, and sees which rounds are finished."""

    def __init__(self, stop_file: str | None = None, progress_file: str | None = None) -> None:
        self._stop_file = Path(stop_file) if stop_file else None
        self._progress_file = Path(progress_file) if progress_file else None

    def asks_to_stop(self) -> bool:
        """Whether no further round should begin."""
        return self._stop_file is not None and self._stop_file.is_file()

    def tell(self, request: PodRequest, files: PodFiles, seconds: Mapping[int, float]) -> None:
        """Replace the progress file atomically. Progress that cannot be shown does not end the measurement.

        :param seconds: round -> how long it took
        """
        if self._progress_file:
            rounds = [
                {"arm": request.arm, "round": number, "file": str(files.path(number)), "seconds": seconds[number]}
                for number in seconds
            ]
            with suppress(OSError):
                _replace(self._progress_file, [json.dumps({"rounds": rounds})])


class BenchmarkPod:
    """A pod and its rounds, from its creation to its removal."""

    def __init__(self, api: KubernetesApi, request: PodRequest, files: PodFiles, messages: Messages) -> None:
        self._api = api
        self._request = request
        self._files = files
        self._messages = messages
        self._namespace, self._name = request.namespace, own_name(request)
        self._uid: str | None = None
        self.created: float | None = None
        self.seconds: dict[int, float] = {}
        self._reached = "scheduling"
        self._since = self._ready = self._looked_at_node = self._read_at = self._reading_took = 0.0
        self._patience = Patience()

    def run(self) -> None:
        """Create the pod and watch it to its end; call `remove` afterwards in any case.

        :raises TuningError: if it fails
        """
        self._api.node(self._request.node)
        _remove_leftovers(self._api, self._request, ())
        self.begin()
        last: int | None = None
        while not self.look():
            if last is None and self._messages.asks_to_stop():
                last = len(self.seconds) + 1
            if last is not None and len(self.seconds) >= last:
                return
            time.sleep(_POLL_SECONDS)

    def begin(self) -> None:
        """Create the pod, in place of one that an earlier run left behind.

        :raises TuningError: if it is refused
        """
        leftover = self._api.pod(self._namespace, self._name)
        if leftover and not is_ours(leftover):
            raise PodFailed(Failure("refused", not_ours(leftover).text))
        self.remove()
        self.created = time.monotonic()
        pod = self._create()
        self._uid = pod["metadata"]["uid"]
        self._since = self._ready = time.monotonic()

    def remove(self) -> None:
        """Delete the pod if it exists and is kubepin's, and wait until it is gone.

        :raises TuningError: if it still exists after the timeout
        """
        pod = self._api.pod(self._namespace, self._name)
        if pod is not None and is_ours(pod):
            remove_pod(self._api, pod, _REMOVAL_SECONDS, "benchmark pod")

    def events(self) -> list[str]:
        """The pod's events as lines, oldest first; empty if no pod was created."""
        if self._uid is None:
            return []
        try:
            return describe_events(self._api.pod_events(self._namespace, self._uid))
        except ApiError as error:
            return [str(error)]

    def log(self) -> list[str]:
        """The last lines of its log other than timings."""
        return list(self._files.recorded.others[-_LOG_LINES:])

    def _create(self) -> dict[str, t.Any]:
        try:
            return self._api.create_pod(pod_manifest(self._request))
        except ApiError as error:
            if error.outage or error.status in (None, 401):
                raise
            raise PodFailed(
                Failure(
                    "refused",
                    f"the API server refuses the benchmark pod {self._namespace}/{self._name}: {error.answer}. "
                    "Allow it there, or choose another `namespace`.",
                )
            ) from error

    def look(self) -> bool:
        """Look at the pod once and save what it has measured; returns whether it has ended.

        :raises TuningError: if it failed
        """
        try:
            return self._look()
        except ApiError as error:
            # a log passes through the kubelet, so its failure is not borne by the request itself
            try:
                time.sleep(self._patience.bear(error))
            except ApiError as over:
                raise PodFailed(Failure("api", f"while the benchmark pod was there, {over}")) from error
            return False

    def _look(self) -> bool:
        pod = self._read_pod()
        now = time.monotonic()
        if stage(pod) != self._reached:
            self._reached, self._since = stage(pod), now
        if now - self._looked_at_node > _NODE_SECONDS:
            self._looked_at_node = now
            reason = readiness(self._api.node(self._request.node))
            self._ready = now if reason is None else self._ready
            if now - self._ready > _NODE_PATIENCE_SECONDS:
                raise PodFailed(self._node_lost(reason))
        ended = self._reached == "ended"
        if ended or (self._reached == "running" and now - self._read_at > _READ_SHARE * self._reading_took):
            self._read_at = now
            self._read_log(pod)
            self._note_finished(now)
            self._reading_took = time.monotonic() - self._read_at
        if why := self._failure(pod, self._reached, now - self._since):
            raise PodFailed(why)
        self._patience.answered()
        return ended

    def _read_pod(self) -> dict[str, t.Any]:
        pod = self._api.pod(self._namespace, self._name)
        if pod is None or pod["metadata"]["uid"] != self._uid:
            raise PodFailed(deleted_failure(self._request))
        return pod

    def _read_log(self, pod: dict[str, t.Any]) -> None:
        ended = stage(pod) == "ended"
        try:
            text = self._api.pod_log(self._namespace, self._name, CONTAINER)
        except ApiError as error:
            # a rejected or evicted pod no longer has a log
            if ended and error.status is not None and failure(pod, self._request, ()):
                return
            raise
        self._files.add(split_log(text, ended))

    def _note_finished(self, now: float) -> None:
        """Tell which rounds are finished, and let the time for the next one begin."""
        new = [number for number in self._files.finished() if number not in self.seconds]
        for number in new:
            self.seconds[number] = round(now - (self.created or now) - sum(self.seconds.values()), 1)
        if new:
            self._since = now
            self._messages.tell(self._request, self._files, self.seconds)

    def _failure(self, pod: dict[str, t.Any], reached: str, seconds: float) -> Failure | None:
        """Why the pod has failed, or has exceeded the time for its stage."""
        request, recorded = self._request, self._files.recorded
        next_round = next((number for number in request.rounds if number not in self.seconds), None)
        why = failure(pod, request, recorded.others)
        if why is not None and why.code == "no_free_gpu":
            message = f" The kubelet: {pod['status'].get('message')}"
            return no_free_gpu_failure(self._api.node(request.node), self._others_on_node(), request, message)
        if why is not None:
            return with_pull_error(why, self._events_if_readable())
        if reached == "ended" and next_round is not None:
            return incomplete_failure(request, next_round, recorded.others)
        if reached == "scheduling" and seconds > request.schedule_timeout:
            return unscheduled_failure(pod, self._api.node(request.node), self._others_on_node(), request)
        limits = {"starting": request.start_timeout, "running": request.timeout}
        if reached in limits and seconds > limits[reached]:
            number = next_round or request.rounds[-1]
            return timeout_failure(reached, pod, request, number, self._events_if_readable(), recorded.others)
        return None

    def _events_if_readable(self) -> list[PodEvent]:
        with suppress(ApiError):
            return ordered_events(self._api.pod_events(self._namespace, self._uid)) if self._uid else []
        return []

    def _others_on_node(self) -> list[dict[str, t.Any]]:
        return [pod for pod in self._api.pods_on(self._request.node) if pod["metadata"]["uid"] != self._uid]

    def _node_lost(self, reason: str | None) -> Failure:
        return Failure(
            "node_lost",
            f"node {self._request.node} has not been Ready for {_NODE_PATIENCE_SECONDS} s while the benchmark pod is there "
            f"({reason}). Repair the node first.",
        )


class FullNode:
    """The pods of one round on a full node: a tenant on each GPU, and busy neighbours."""

    def __init__(self, api: KubernetesApi, request: PodRequest, folder: str) -> None:
        self._api, self._request, self._folder = api, request, folder
        self._tenants: list[BenchmarkPod] = []
        self._files: list[PodFiles] = []
        self._busy: dict[str, t.Any] | None = None
        self.created: float | None = None

    @property
    def seconds(self) -> dict[int, float]:
        """The seconds of the round, once each tenant has finished it."""
        finished = [tenant.seconds for tenant in self._tenants]
        return {
            n: max(one[n] for one in finished)
            for n in self._request.rounds
            if finished and all(n in one for one in finished)
        }

    def run(self) -> None:
        """Create the pods, let each phase begin once all wait for it, and watch them to their end; call `remove`
        afterwards in any case.

        :raises TuningError: if one fails
        """
        node = self._api.node(self._request.node)
        _remove_leftovers(self._api, self._request, ())
        self._request = dataclasses.replace(self._request, tenants=tenants_of(node, self._request))
        if why := no_room(node, self._api.pods_on(self._request.node), self._request):
            raise PodFailed(why)
        self.created = time.monotonic()
        for number in range(self._request.tenants):
            tenant = dataclasses.replace(self._request, tenant=number)
            self._files.append(PodFiles(self._folder, tenant))
            self._tenants.append(BenchmarkPod(self._api, tenant, self._files[-1], Messages()))
            self._tenants[-1].begin()
        barrier = Barrier(len(self._tenants))
        seen = [0] * len(self._tenants)
        running = set(range(len(self._tenants)))
        while running:
            for number in sorted(running):
                if self._tenants[number].look():
                    running.discard(number)
                    barrier.ended(number)
                    continue
                phases = ready_phases(self._files[number].recorded.others)
                for phase in phases[seen[number] :]:
                    barrier.ready(number, phase)
                seen[number] = len(phases)
            if (due := barrier.due()) is not None:
                self._quiet()
                if due.load == BUSY:
                    self._disturb()
                text = barrier.announce(due, time.time() + _START_DELAY_SECONDS)
                for number in running:
                    name = benchmark_name(self._request.node, number)
                    self._api.annotate_pod(self._request.namespace, name, {START_ANNOTATION: text})
            time.sleep(_POLL_SECONDS)

    def remove(self) -> None:
        """Delete all pods of the node's benchmark, and wait until they are gone.

        :raises TuningError: if one still exists after the timeout
        """
        parts = [own_name(dataclasses.replace(self._request, tenant=number)) for number in range(len(self._tenants))]
        _remove_leftovers(self._api, self._request, (*parts, benchmark_name(self._request.node, BUSY)))

    def events(self) -> list[str]:
        """The events of all tenants as lines."""
        return [event for tenant in self._tenants for event in tenant.events()]

    def log(self) -> list[str]:
        """The last lines of each tenant's log."""
        return [line for file in self._files for line in file.recorded.others[-_LOG_LINES:]]

    def _disturb(self) -> None:
        """Start the busy neighbours, and wait until they run.

        :raises PodFailed: if they do not
        """
        request = self._request
        node, pods = self._api.node(request.node), self._api.pods_on(request.node)
        capacity = int(parse_quantity(((node.get("status") or {}).get("capacity") or {}).get("cpu", "1")))
        taken = int(parse_quantity(request.cpu)) * request.tenants
        left = max(0, int(cpus_left(node, pods) * 1000))
        manifest = busy_manifest(request, busy_threads(capacity, taken), f"{left}m")
        self._busy = self._api.create_pod(manifest)
        deadline = time.monotonic() + request.schedule_timeout + request.start_timeout
        name = manifest["metadata"]["name"]
        while (reached := stage(self._api.pod(request.namespace, name) or {})) != "running":
            if reached == "ended" or time.monotonic() > deadline:
                message = (
                    f"the busy neighbours of the benchmark, pod {request.namespace}/{name}, do not run: {reached}."
                )
                raise PodFailed(Failure("start", f"{message} Look at the pod's events."))
            time.sleep(_POLL_SECONDS)
        time.sleep(_BUSY_SETTLE_SECONDS)

    def _quiet(self) -> None:
        """End the busy neighbours."""
        if self._busy is not None:
            remove_pod(self._api, self._busy, _REMOVAL_SECONDS, "benchmark pod", at_once=True)
            self._busy = None


class Measured(t.NamedTuple):
    """What became of a pod: the seconds that it took and those of each round that it finished, why it failed, and
    further return values of the module."""

    total: float | None
    seconds: Mapping[int, float]
    why: Failure | None
    details: dict[str, t.Any]


def measure(api: KubernetesApi, request: PodRequest, folder: str, messages: Messages) -> Measured:
    """Run the rounds and delete their pods, also if a signal ends them early."""
    this = (
        FullNode(api, request, folder)
        if request.shares_node
        else BenchmarkPod(api, request, PodFiles(folder, request), messages)
    )
    why: Failure | None = None
    details: dict[str, t.Any] = {}
    with _signals(_interrupt):
        try:
            this.run()
        except TuningError as error:
            why = Failure(getattr(error, "code", "api"), str(error))
    total = None if this.created is None else round(time.monotonic() - this.created, 1)
    with _signals(signal.SIG_IGN):
        if why and total is not None:
            details = {"log": this.log(), "events": this.events()}
        try:
            if total is not None:
                this.remove()
        except TuningError as error:
            details["left_behind"] = str(error)
            why = why or Failure("api", str(error))
    return Measured(total, this.seconds, why, details)


@contextmanager
def _signals(handler: t.Any) -> t.Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _interrupt(number: int, _frame: t.Any) -> None:
    raise PodFailed(Failure("interrupted", f"interrupted by {signal.Signals(number).name}; the pod was removed."))


@dataclasses.dataclass(frozen=True)
class KeptRound:
    """What the files hold of a round: the lines of each tenant."""

    number: int
    file: str
    tenants: tuple[tuple[str, ...], ...]
    is_complete: bool

    @classmethod
    def read(cls, request: PodRequest, folder: str, number: int) -> KeptRound:
        """:raises TuningError: if a file cannot be read"""
        own = PodFiles(folder, dataclasses.replace(request, tenant=0))
        first = own.read(number)
        count = (request.tenants or recorded_tenants(first)) if request.shares_node else 1
        requests = [dataclasses.replace(request, tenants=count, tenant=tenant) for tenant in range(count)]
        tenants = (first, *(PodFiles(folder, one).read(number) for one in requests[1:]))
        complete = all(is_complete(lines, one, number) for lines, one in zip(tenants, requests, strict=True))
        return cls(number, str(own.path(number)), tenants, complete)

    def facts(self, request: PodRequest, seconds: float | None) -> dict[str, t.Any]:
        """An item of RV(benchmark.rounds)."""
        return {
            "round": self.number,
            "file": self.file,
            "arms": list(dict.fromkeys(ended_arms(self.tenants[0], request, self.number))),
            "tenants": len(self.tenants),
            "lines": sum(map(len, self.tenants)),
            "complete": self.is_complete,
            "seconds": seconds,
        }


def facts(request: PodRequest, kept: t.Sequence[KeptRound], measured: Measured) -> dict[str, t.Any]:
    """RV(benchmark)."""
    seen = next((found for one in kept if (found := environment(one.tenants[0]))), {})
    return {
        "schema": 2,
        "arm": request.arm,
        "run_id": request.run_id,
        "rounds": [one.facts(request, measured.seconds.get(one.number)) for one in kept],
        "complete": bool(kept) and all(one.is_complete for one in kept),
        "node": request.node,
        "cpus": seen.get("cpus_allowed_list"),
        "started": seen.get("started"),
        "seconds": measured.total,
        "failure": measured.why.message if measured.why else None,
        "failure_code": measured.why.code if measured.why else None,
    }


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    names = [name for name in PodRequest.__dataclass_fields__ if name in module.params]
    request = PodRequest(**{name: module.params[name] for name in names})
    folder = module.params["folder"]
    kept: list[KeptRound] = []
    measured = Measured(None, {}, None, {})
    changed = False
    try:
        if found := problems(request, looks_only=module.check_mode):
            raise RequestRefused(*found)
        kept = [KeptRound.read(request, folder, number) for number in request.rounds]
        lacking = [one.number for one in kept if not one.is_complete]
        changed = bool(lacking)
        if changed and not module.check_mode:
            PodFiles(folder, request).check_folder()
            messages = Messages(module.params["stop_file"], module.params["progress_file"])
            measured = measure(connect(module), dataclasses.replace(request, rounds=lacking), folder, messages)
            kept = [KeptRound.read(request, folder, number) for number in request.rounds]
    except TuningError as error:
        measured = Measured(None, {}, Failure(getattr(error, "code", "api"), str(error)), error.details)
    result = {"changed": changed, "benchmark": facts(request, kept, measured), **measured.details}
    if measured.why:
        failed = benchmark_problems.pod_refused(measured.why.code, measured.why.message)
        module.fail_json(msg=measured.why.message, **{"problems": to_dicts([failed]), **result})
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
