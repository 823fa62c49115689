# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers of a GPU pod get exclusive CPUs under the static policy, and every reason why others do not.

Pure: plain pod specifications in, plain data out. The rules are those of Kubernetes pkg/apis/core/v1/helper/qos/qos.go
and pkg/kubelet/cm/cpumanager/policy_static.go.
"""

from __future__ import annotations

import typing as t
from fractions import Fraction
from functools import lru_cache

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import is_gpu
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Object

REASONS: t.Dict[str, str] = {
    "no_cpu_limit": "it has no CPU limit",
    "no_memory_limit": "it has no memory limit",
    "cpu_request_differs": "its CPU request is not its CPU limit",
    "memory_request_differs": "its memory request is not its memory limit",
    "fractional_cpu": "its CPU request is not a whole number",
    "other_container": "another container of the pod has unequal or missing limits, so the whole pod is not Guaranteed",
    "pod_level_resources": "the pod has resources of its own (spec.resources), for which kubelets pin nothing unless their "
    "feature gate PodLevelResourceManagers is on",
    "smt_alignment": "its CPUs are not a multiple of the node's threads per core, which full-pcpus-only refuses",
    "too_many_cpus": "the pod asks for more CPUs than the node can ever give",
    "policy_not_static": "the node's CPU manager policy is not static",
}
"""Code -> its meaning. The codes are documented: programs rely on them."""

_UNGUARANTEED = ("no_cpu_limit", "no_memory_limit", "cpu_request_differs", "memory_request_differs")


class Container(t.NamedTuple):
    """A container as the kubelet counts it; *cpus* is its request, or its limit without a request."""

    name: str
    kind: str
    cpus: Fraction
    gpus: t.Tuple[str, ...]
    spec: Object


class Verdict(t.NamedTuple):
    """The verdict on one container: without reasons it gets exclusive CPUs."""

    container: Container
    reasons: t.Tuple[str, ...]

    @property
    def exclusive(self) -> bool:
        return not self.reasons


def containers_of(spec: Object, prefixes: t.Sequence[str]) -> t.List[Container]:
    """All containers of a pod, init containers first. An init container that restarts always is a sidecar (KEP-753).

    :param prefixes: prefixes of GPU resource names, such as ``nvidia.com/``, as `is_gpu` takes them
    :raises ValueError: for an invalid quantity
    """
    found = []
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or []:
            kind = "container" if field == "containers" else "init"
            if kind == "init" and container.get("restartPolicy") == "Always":
                kind = "sidecar"
            limit, request = resource(container, "limits", "cpu"), resource(container, "requests", "cpu")
            cpus = limit if request is None else request
            found.append(Container(container["name"], kind, cpus or Fraction(0), _gpus(container, prefixes), container))
    return found


def asks_for_gpu(spec: Object, prefixes: t.Sequence[str]) -> bool:
    """Whether any container requests a GPU, or a device through a claim (DRA)."""
    return any(
        _gpus(container, prefixes) for field in ("containers", "initContainers") for container in spec.get(field) or []
    )


def assess(spec: Object, containers: t.Sequence[Container], node: Node) -> t.List[Verdict]:
    """What the kubelet of *node* does with each container, assuming that unknown facts do not prevent pinning; only the
    feature gate for pods with resources of their own, which is off by default, is off if unknown."""
    pod_level = _pod_level(spec)
    whole_pod = []
    if pod_level and not node.pod_level:
        whole_pod.append("pod_level_resources")
    if node.cpus is not None and pod_cpus(containers) > node.cpus:
        whole_pod.append("too_many_cpus")
    if node.policy not in (None, "static"):
        whole_pod.append("policy_not_static")
    guaranteed = qos(spec, containers) == "Guaranteed"
    verdicts = []
    for container in containers:
        # A kubelet that pins in spite of pod-level resources requires equal container resources too
        # (IsContainerEquivalentQOSGuaranteed).
        found = [*(_guarantee_reasons(pod_level) if pod_level else []), *_guarantee_reasons(container.spec)]
        if not guaranteed and not found:
            found.append("other_container")
        if container.cpus.denominator != 1:
            found.append("fractional_cpu")
        elif node.full_pcpus_only and node.threads_per_core and container.cpus % node.threads_per_core:
            found.append("smt_alignment")
        verdicts.append(Verdict(container, tuple(dict.fromkeys([*found, *whole_pod]))))
    return verdicts


def qos(spec: Object, containers: t.Sequence[Container]) -> str:
    """The QoS class that Kubernetes assigns to the pod; pod-level resources, if any, decide alone."""
    counted = [_pod_level(spec)] if _pod_level(spec) else [container.spec for container in containers]
    if not any(_guarantee_reasons(item) for item in counted):
        return "Guaranteed"
    asked = [resource(item, field, name) for item in counted for field in _FIELDS for name in _COMPUTE]
    return "Burstable" if any(asked) else "BestEffort"


def pod_cpus(containers: t.Sequence[Container]) -> Fraction:
    """The most that the pod needs at a time: containers and sidecars, or an init container with the sidecars."""
    sidecars = sum((c.cpus for c in containers if c.kind == "sidecar"), Fraction(0))
    running = sum((c.cpus for c in containers if c.kind == "container"), Fraction(0))
    return sidecars + max([running, *(c.cpus for c in containers if c.kind == "init")])


def threads_follow_the_host(verdict: Verdict) -> bool:
    """Whether its CPU limit is a quota and no variable limits the number of threads of its programs.

    Variables from other objects (``envFrom``) cannot be read, and count as set.
    """
    spec = verdict.container.spec
    quota = not verdict.exclusive and resource(spec, "limits", "cpu")
    names = {variable.get("name") for variable in spec.get("env") or []}
    return bool(quota) and "OMP_NUM_THREADS" not in names and not spec.get("envFrom")


def resource(container: Object, field: str, name: str) -> t.Optional[Fraction]:
    """The number in ``resources``; None if it is missing.

    :raises ValueError: for an invalid quantity
    """
    text = ((container.get("resources") or {}).get(field) or {}).get(name)
    return None if text is None else _number(str(text))


_FIELDS = ("limits", "requests")
_COMPUTE = ("cpu", "memory")
_number = lru_cache(maxsize=4096)(parse_quantity)


def _guarantee_reasons(container: Object) -> t.List[str]:
    """Why the container's pod is not Guaranteed. A limit of 0 counts as none; a missing request equals its limit."""
    reasons = []
    for name in _COMPUTE:
        limit, request = resource(container, "limits", name), resource(container, "requests", name)
        if not limit:
            reasons.append(f"no_{name}_limit")
        elif request is not None and request != limit:
            reasons.append(f"{name}_request_differs")
    return reasons


def _pod_level(spec: Object) -> Object:
    """The pod's own resources in the form of a container; empty without CPU and memory (KEP-2837)."""
    own = {"resources": spec.get("resources") or {}}
    return own if any(resource(own, field, name) for field in _FIELDS for name in _COMPUTE) else {}


def _gpus(container: Object, prefixes: t.Sequence[str]) -> t.Tuple[str, ...]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    devices = sorted(name for name, number in asked.items() if is_gpu(name, prefixes) and str(number or 0) != "0")
    return (*devices, *(f"claim/{claim['name']}" for claim in resources.get("claims") or []))
