#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pod_probe
short_description: Check from inside a pod which CPUs a node gives it, and that it keeps its GPU
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Starts a Guaranteed pod with whole CPUs on one node and reads every second which CPUs it may run on and whether its
    device files open.
  - The pod bypasses the scheduler and tolerates every taint, so that it also runs on a cordoned node.
  - With O(state=present) the pod keeps running, so that its CPUs can be compared with the kubelet's state.
    Remove it with O(state=absent). The kubelet ends a forgotten pod after some minutes.
  - Fails if the node rejects the pod, its image cannot be pulled, or its device is missing or lost, and removes the
    pod.
  - Asks the API server every second whether the kubelet accepts connections, and fails as soon as the kubelet has
    stopped. This needs permission to C(get) C(nodes/proxy); without it, a stopped kubelet is only noticed after
    O(timeout).
  - Runs on the control node.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
    details: With O(state=present) nothing is started, and RV(probe) is not returned.
  diff_mode:
    support: none
options:
  state:
    description:
      - V(present) starts a new probe, which replaces an older one, and observes it.
      - V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  wait:
    description:
      - With O(state=absent), wait until the pod is gone. Otherwise the kubelet removes it a second or two later.
    type: bool
    default: true
  node:
    description: The node's name in Kubernetes.
    type: str
    required: true
  namespace:
    description: Namespace of the pod. It must allow pods that run as root.
    type: str
    default: kube-system
  image:
    description:
      - Image of the pod, with C(/bin/sh), C(tr) and C(sleep), such as busybox.
      - Required with O(state=present).
    type: str
  image_pull_secrets:
    description: Names of the pull secrets for O(image), in O(namespace).
    type: list
    elements: str
    default: []
  runtime_class:
    description: RuntimeClass of the pod, such as V(nvidia) where the GPU runtime is not the default.
    type: str
  cpus:
    description: How many whole CPUs the pod requests.
    type: int
    default: 1
  gpus:
    description: How many of O(gpu_resource) the pod requests. With V(0), devices are not checked.
    type: int
    default: 1
  gpu_resource:
    description: Name of the extended resource that counts GPUs.
    type: str
    default: nvidia.com/gpu
  device_paths:
    description: Shell patterns of the device files that must stay usable.
    type: list
    elements: str
    default: ["/dev/nvidia[0-9]*"]
  observe_seconds:
    description:
      - How long to watch the running pod, in seconds.
      - Should exceed the kubelet's C(cpuManagerReconcilePeriod), 10 seconds by default. If an update of the container
        removes access to a device, it does so within that period.
    type: int
    default: 15
  reported_since:
    description:
      - Start the pod only when the kubelet has reported to the API server since this time, in seconds since 1970 by
        the node's clock.
      - An API server that does not answer before that is retried for up to O(timeout).
    type: float
  retry_rejected:
    description:
      - Start the pod again, until O(timeout), if the node rejects it because it has no such devices. A device plugin
        needs some seconds to register with a restarted kubelet.
    type: bool
    default: false
  timeout:
    description: How long starting and watching together may take, and how long removing may take, in seconds.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Check which CPUs a pod gets, and that it keeps its GPU
  kubepin.tuning.pod_probe:
    node: gpu-01
    image: registry.example.com/busybox:1.37
  delegate_to: localhost
  register: probed

- name: Show the CPUs
  ansible.builtin.debug:
    msg: "CPUs {{ probed.probe.cpus_allowed_list }}, device after {{ probed.probe.seconds_observed }} s still there"

- name: Remove the probe
  kubepin.tuning.pod_probe:
    node: gpu-01
    state: absent
  delegate_to: localhost

- name: Probe two whole cores of a node without GPUs
  kubepin.tuning.pod_probe:
    node: cpu-01
    image: registry.example.com/busybox:1.37
    cpus: 4
    gpus: 0
  delegate_to: localhost
"""

RETURN = r"""
probe:
  description: What was observed. Also returned on failure after the pod was created.
  returned: with O(state=present), except in check mode
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    namespace:
      description: The pod's namespace.
      type: str
      sample: kube-system
    name:
      description: The pod's name.
      type: str
      sample: kubepin-probe-gpu-01
    uid:
      description: The pod's UID, the key of its entry in the kubelet's C(cpu_manager_state).
      type: str
      sample: 0f0d5a0e-7d4b-4d0c-9d36-55a5a8f0e1f2
    container:
      description: The container's name, the second key in that file.
      type: str
      sample: probe
    node:
      description: The node.
      type: str
      sample: gpu-01
    image:
      description: The requested image.
      type: str
      sample: registry.example.com/busybox:1.37
    qos_class:
      description: The pod's QoS class.
      type: str
      sample: Guaranteed
    cpus_allowed_list:
      description: The CPUs that it may run on, as last observed. None if nothing was observed.
      type: str
      sample: 8-13,136-141
    cpus_allowed_history:
      description: All values of RV(probe.cpus_allowed_list) in order, without consecutive duplicates.
      type: list
      elements: str
      sample: ["8-13,136-141"]
    device_paths_seen:
      description: The device files of O(device_paths) in the pod.
      type: list
      elements: str
      sample: ["/dev/nvidia0"]
    device_lost_at:
      description: The first second in which a device file did not open. None if all always opened.
      type: int
    device_error:
      description: The error of that device file. None if all always opened.
      type: str
      sample: "/dev/nvidia0: Operation not permitted"
    seconds_observed:
      description: Seconds between the first line and the last.
      type: int
      sample: 15
log:
  description: The last lines that the pod wrote.
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
  description: Why the pod of a failed probe still exists.
  returned: failure to remove it
  type: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    ApiError,
    KubernetesApi,
    connect,
    remove_pod,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import node_facts, unmet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import (
    CONTAINER,
    KubeletWatch,
    ProbeRequest,
    as_rejected,
    describe_events,
    failure,
    is_ours,
    is_unseen,
    not_ours,
    observe,
    parse_log,
    pod_manifest,
    probe_name,
    progress,
    worth_another_try,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "wait": {"type": "bool", "default": True},
    "node": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "kube-system"},
    "image": {"type": "str"},
    "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "runtime_class": {"type": "str"},
    "cpus": {"type": "int", "default": 1},
    "gpus": {"type": "int", "default": 1},
    "gpu_resource": {"type": "str", "default": "nvidia.com/gpu"},
    "device_paths": {"type": "list", "elements": "str", "default": ["/dev/nvidia[0-9]*"]},
    "observe_seconds": {"type": "int", "default": 15},
    "reported_since": {"type": "float"},
    "retry_rejected": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}
OPTIONS: dict[str, t.Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_if": [("state", "present", ["image"])],
}

_LOG_LINES = 20
_CLEANUP_SECONDS = 15
_RETRY_SECONDS = 0.5
_POLL_SECONDS = 0.5


class KubeletEndedError(TuningError):
    """The kubelet has stopped: nothing removes the pod before the kubelet is back."""


class Probe:
    """The probe pod of one node, from creation to removal."""

    def __init__(self, api: KubernetesApi, namespace: str, node: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = probe_name(node)
        self._log = ""

    def find(self) -> dict[str, t.Any] | None:
        """:raises TuningError: if the pod of that name is not a probe"""
        pod = self._api.pod(self._namespace, self._name)
        if pod and not is_ours(pod):
            raise TuningError(not_ours(pod))
        return pod

    def ask_to_remove(self, pod: dict[str, t.Any]) -> None:
        """Request the deletion without waiting for the kubelet."""
        self._api.delete_pod(pod)

    def remove(self, pod: dict[str, t.Any], timeout: int) -> None:
        """:raises TuningError: if it still exists after *timeout* seconds"""
        remove_pod(self._api, pod, timeout, "probe pod")

    def run(self, request: ProbeRequest, deadline: float) -> dict[str, t.Any]:
        """Create the pod, watch it, and leave it running.

        :raises TuningError: if it fails; the pod is removed then, and its log and events are in the details
        """
        pod = self._create(request)
        try:
            while True:
                with self._api.until(deadline):
                    pod = self._watch(pod, request, deadline)
                if not worth_another_try(pod, request):
                    return self._facts(pod, request)
                remove_pod(self._api, pod, _CLEANUP_SECONDS, "probe pod", at_once=True)
                time.sleep(_RETRY_SECONDS)
                pod = self._create(request)
        except TuningError as error:
            error.facts.update(
                probe=self._facts(pod, request), log=self._log.splitlines()[-_LOG_LINES:], events=self._events(pod)
            )
            error.facts.update(self._clean_up(pod, wait=not isinstance(error, KubeletEndedError)))
            raise

    def await_report(self, request: ProbeRequest, since: float, deadline: float) -> None:
        """Wait until the kubelet has reported to the API server since then.

        :raises TuningError: if it has not within the timeout, or the kubelet has stopped
        """
        kubelet = KubeletWatch()
        first: float | None = None
        while True:
            self._see_kubelet(kubelet, request.node)
            try:
                with self._api.until(deadline):
                    node = self._api.node(request.node)
                facts = node_facts(node, None, None, request.gpu_resource)
                first = facts["reported_at"] if first is None else first
                missing = unmet(facts, {"reported_since": since, "first_report": first})
            except ApiError as error:
                missing = [str(error)]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TuningError(problems.probe_not_begun(request.node, request.timeout, missing[0]))
            time.sleep(_POLL_SECONDS)

    def _see_kubelet(self, kubelet: KubeletWatch, node: str) -> None:
        """:raises KubeletEndedError: if it has stopped"""
        kubelet.note(self._api.kubelet_listens(node), time.monotonic())
        if kubelet.has_ended(time.monotonic()):
            raise KubeletEndedError(problems.kubelet_ended(node))

    def _create(self, request: ProbeRequest) -> dict[str, t.Any]:
        try:
            return self._api.create_pod(pod_manifest(request))
        except ApiError as error:
            if error.outage or error.status in (None, 401):
                raise
            raise TuningError(problems.probe_refused(f"{self._namespace}/{self._name}", error.answer)) from error

    def _watch(self, created: dict[str, t.Any], request: ProbeRequest, deadline: float) -> dict[str, t.Any]:
        """The pod after it was observed for long enough, or as the node rejected it if that may be retried."""
        last_error = None
        pod: dict[str, t.Any] | None = created
        kubelet = KubeletWatch()
        while True:
            self._see_kubelet(kubelet, request.node)
            try:
                pod = self._api.pod(self._namespace, self._name)
                if pod is None or pod["metadata"]["uid"] != created["metadata"]["uid"]:
                    raise TuningError(problems.probe_deleted(f"{self._namespace}/{self._name}"))
                if is_unseen(pod):
                    pod = as_rejected(pod, self._api.pod_events(self._namespace, pod["metadata"]["uid"]))
                if (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed"):
                    self._log = self._api.pod_log(self._namespace, self._name, CONTAINER)
                last_error = None
            except ApiError as error:
                last_error = str(error)
            observation = observe(parse_log(self._log))
            if pod and time.monotonic() < deadline and worth_another_try(pod, request):
                return pod
            if pod and (problem := failure(pod, observation, request)):
                raise TuningError(problem)
            if pod and observation.seconds_observed >= request.observe_seconds:
                return pod
            if time.monotonic() > deadline:
                raise TuningError(
                    problems.probe_timed_out(
                        f"{self._namespace}/{self._name}",
                        observation.seconds_observed,
                        request.observe_seconds,
                        request.timeout,
                        last_error or progress(pod),
                    )
                )
            time.sleep(_POLL_SECONDS)

    def _facts(self, pod: dict[str, t.Any], request: ProbeRequest) -> dict[str, t.Any]:
        observation = observe(parse_log(self._log))
        history = list(observation.cpus_allowed_history)
        return {
            "schema": 1,
            "namespace": self._namespace,
            "name": self._name,
            "uid": pod["metadata"]["uid"],
            "container": CONTAINER,
            "node": request.node,
            "image": request.image,
            "qos_class": (pod.get("status") or {}).get("qosClass"),
            "cpus_allowed_list": history[-1] if history else None,
            "cpus_allowed_history": history,
            "device_paths_seen": list(observation.device_paths_seen),
            "device_lost_at": observation.device_lost_at,
            "device_error": observation.device_error,
            "seconds_observed": observation.seconds_observed,
        }

    def _events(self, pod: dict[str, t.Any]) -> list[str]:
        try:
            return describe_events(self._api.pod_events(self._namespace, pod["metadata"]["uid"]))
        except ApiError as error:
            return [str(error)]

    def _clean_up(self, pod: dict[str, t.Any], wait: bool) -> dict[str, str]:
        try:
            if wait:
                self.remove(pod, _CLEANUP_SECONDS)
            else:
                self.ask_to_remove(pod)
        except TuningError as error:
            return {"left_behind": str(error)}
        return {}


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    params = module.params
    request = ProbeRequest(**{name: params[name] for name in ProbeRequest.__dataclass_fields__})
    sound = request.cpus >= 1 and request.gpus >= 0 and request.observe_seconds < request.timeout
    if params["state"] == "present" and not sound:
        fail(module, problems.probe_options_invalid())
    result: dict[str, t.Any] = {"changed": True}
    deadline = time.monotonic() + request.timeout
    try:
        api = connect(module)
        probe = Probe(api, request.namespace, request.node)
        if params["state"] == "present":
            if params["reported_since"] is not None and not module.check_mode:
                probe.await_report(request, params["reported_since"], deadline)
            api.node(request.node)
        leftover = probe.find()
        if params["state"] == "absent":
            result["changed"] = leftover is not None
        if leftover and not module.check_mode:
            if params["wait"] or params["state"] == "present":
                probe.remove(leftover, max(1, round(deadline - time.monotonic())))
            else:
                probe.ask_to_remove(leftover)
        if params["state"] == "present" and not module.check_mode:
            result["probe"] = probe.run(request, deadline)
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
