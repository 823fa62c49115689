# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers of a GPU pod get exclusive CPUs under the static policy, and every reason why others do not.

Pure: plain pod specifications in, plain data out. The rules are those of Kubernetes pkg/apis/core/v1/helper/qos/qos.go
and pkg/kubelet/cm/cpumanager/policy_static.go.

Pods with pod-level resources (spec.resources) are managed as a whole by kubelets with the feature gate
PodLevelResourceManagers (KEP-5526; 1.36.3 and 1.37.2 have the same rules). There, containers with whole CPUs and equal
requests and limits get exclusive CPUs, and the others need none: they share what is left of the pod's CPUs (topology
manager with scope ``pod``), or the CPUs of the node (any other).
"""

from __future__ import annotations

import math
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
    "pod_level_resources": "the pod has pod-level resources (spec.resources), for which kubelets pin nothing unless their "
    "feature gate PodLevelResourceManagers is on",
    "pod_fractional_cpu": "the CPUs of the pod itself (spec.resources) are not a whole number, and a kubelet whose topology "
    "manager has the scope pod then pins none of its containers",
    "empty_pod_pool": "the containers with exclusive CPUs take all CPUs of the pod itself (spec.resources) and leave none to "
    "the others: a kubelet whose topology manager has the scope pod refuses the pod",
    "smt_alignment": "its CPUs, or those of a pod that is pinned as a whole, are not a multiple of the node's threads per core, "
    "which full-pcpus-only refuses",
    "too_many_cpus": "the pod asks for more CPUs than the node can ever give",
    "policy_not_static": "the node's CPU manager policy is not static",
}
"""Code -> its meaning. The codes are documented: programs rely on them."""

CLAIM = "claim/"
"""Before the name of a claim (DRA) among the GPUs of a container."""

THREAD_VARIABLE = "OMP_NUM_THREADS"
"""Read by OpenMP, and so by PyTorch and NumPy."""

UNGUARANTEED = ("no_cpu_limit", "no_memory_limit", "cpu_request_differs", "memory_request_differs")
"""Reasons that lie in limits and requests, of a container or of the pod itself."""
POOLS = ("exclusive", "pod", "node")
"""CPUs of the container's own; those that the pod has to itself, without the exclusive ones of its containers; or those
that all pods of the node share."""


class Container(t.NamedTuple):
    """A container as the kubelet counts it; *cpus* is its request, or its limit without a request."""

    name: str
    kind: str
    cpus: Fraction
    gpus: t.Tuple[str, ...]
    spec: Object


class Verdict(t.NamedTuple):
    """The verdict on one container, with the *reasons* why it lacks the exclusive CPUs that it needs.

    In a pod that is managed as a whole, only containers with a GPU need them.
    """

    container: Container
    reasons: t.Tuple[str, ...]
    pool: str
    """One of `POOLS`: whose CPUs it runs on."""

    @property
    def exclusive(self) -> bool:
        return self.pool == "exclusive"


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
    feature gate for pods with pod-level resources, which is off by default, is off if unknown."""
    own = own_resources(spec)
    of_pod = pod_reasons(spec, containers, node)
    refused: t.List[str] = []
    if own and not node.pod_level:
        refused.append("pod_level_resources")
    if node.cpus is not None and requested_cpus(spec, containers) > node.cpus:
        refused.append("too_many_cpus")
    if node.policy not in (None, "static"):
        refused.append("policy_not_static")
    guaranteed = qos(spec, containers) == "Guaranteed"
    as_a_whole = bool(own) and guaranteed and not of_pod and not refused
    aligned_together = bool(own and node.pod_level and node.pod_scope)
    verdicts = []
    for container in containers:
        found = _sharing_reasons(container)
        if as_a_whole and found:
            needed = found if container.gpus else []
            verdicts.append(Verdict(container, tuple(needed), "pod" if node.pod_scope else "node"))
            continue
        if not guaranteed and not of_pod and found in ([], ["fractional_cpu"]):
            found.insert(0, "other_container")
        if not aligned_together and "fractional_cpu" not in found and not _is_aligned(container.cpus, node):
            found.append("smt_alignment")
        reasons = list(dict.fromkeys([*of_pod, *found, *refused]))
        verdicts.append(Verdict(container, tuple(reasons), "node" if reasons else "exclusive"))
    return verdicts


def pod_reasons(spec: Object, containers: t.Sequence[Container], node: Node) -> t.List[str]:
    """Why a pod's own resources (spec.resources) keep all of its containers from exclusive CPUs; none without such resources."""
    own = own_resources(spec)
    reasons = _guarantee_reasons(own) if own else []
    if reasons or not (own and node.pod_level and node.pod_scope):
        return reasons
    # allocatePodForAdd, validatePodScopeResources
    cpus = requested_cpus(spec, containers)
    if cpus.denominator != 1:
        return ["pod_fractional_cpu"]
    if not _is_aligned(cpus, node):
        reasons.append("smt_alignment")
    taken, shared, empty = Fraction(0), False, False
    for container in containers:
        exclusive = not _sharing_reasons(container)
        if container.kind == "init":
            empty = empty or (not exclusive and taken >= cpus)
        elif exclusive:
            taken += container.cpus
        else:
            shared = True
    return [*reasons, "empty_pod_pool"] if empty or (shared and taken >= cpus) else reasons


def qos(spec: Object, containers: t.Sequence[Container]) -> str:
    """The QoS class that Kubernetes assigns to the pod; pod-level resources, if any, decide alone."""
    own = own_resources(spec)
    counted = [own] if own else [container.spec for container in containers]
    if not any(_guarantee_reasons(item) for item in counted):
        return "Guaranteed"
    asked = [resource(item, field, name) for item in counted for field in _FIELDS for name in _COMPUTE]
    return "Burstable" if any(asked) else "BestEffort"


def pod_cpus(containers: t.Sequence[Container]) -> Fraction:
    """The most CPUs that the containers need at a time."""
    return peak((container.kind, container.cpus) for container in containers)


def peak(amounts: t.Iterable[t.Tuple[str, Fraction]]) -> Fraction:
    """The most of a resource that containers of these kinds need at a time: containers and sidecars, or an init container
    with the sidecars."""
    amounts = list(amounts)
    sidecars = sum((number for kind, number in amounts if kind == "sidecar"), Fraction(0))
    running = sum((number for kind, number in amounts if kind == "container"), Fraction(0))
    return sidecars + max([running, *(number for kind, number in amounts if kind == "init")])


def requested_cpus(spec: Object, containers: t.Sequence[Container]) -> Fraction:
    """The CPUs that the pod requests: its own (spec.resources), or those of its containers."""
    own = own_resources(spec)
    return resource(own, "requests", "cpu") or resource(own, "limits", "cpu") or pod_cpus(containers)


def threads_follow_the_host(verdict: Verdict) -> bool:
    """Whether its CPU limit is a quota and no variable limits the number of threads of its programs."""
    return not verdict.exclusive and bool(unset_variables(verdict.container.spec, (THREAD_VARIABLE,)))


def unset_variables(container: Object, variables: t.Sequence[str]) -> t.List[str]:
    """Which of the *variables* that limit the number of threads a container with a CPU limit leaves unset.

    Variables from other objects (``envFrom``) cannot be read, and count as set.
    """
    if not resource(container, "limits", "cpu") or container.get("envFrom"):
        return []
    names = {variable.get("name") for variable in container.get("env") or []}
    return [name for name in variables if name not in names]


def thread_count(container: Object) -> int:
    """As many threads as fit its CPU limit: whole CPUs, at least 1."""
    return max(1, math.floor(resource(container, "limits", "cpu") or 0))


def own_resources(spec: Object) -> Object:
    """The pod's own resources in the form of a container; empty without CPU and memory (KEP-2837).

    Of a pod with limits of its own, the API server sets a missing request to what the containers request together, or to
    the limit if they request nothing (pkg/apis/core/v1/defaults.go, defaultPodRequests). Templates do not show that.
    """
    given = {"resources": spec.get("resources") or {}}
    if not any(resource(given, field, name) for field in _FIELDS for name in _COMPUTE):
        return {}
    limits = dict(given["resources"].get("limits") or {})
    requests = dict(given["resources"].get("requests") or {})
    for name in _COMPUTE:
        together = containers_request(containers_of(spec, ()), name)
        if limits and together and requests.get(name) is None:
            requests[name] = f"{math.ceil(together * 10**9)}n"
    return {"resources": {"limits": limits, "requests": requests}}


def containers_request(containers: t.Sequence[Container], name: str) -> Fraction:
    """What containers request of a resource together; without a request, the limit counts."""
    return peak(
        (c.kind, resource(c.spec, "requests", name) or resource(c.spec, "limits", name) or Fraction(0))
        for c in containers
    )


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


def _sharing_reasons(container: Container) -> t.List[str]:
    """Why a container shares its CPUs even in a Guaranteed pod that is managed as a whole
    (policy_static.go, guaranteedCPUs; pkg/kubelet/cm/qos/helpers.go, IsContainerEquivalentQOSGuaranteed)."""
    fractional = ["fractional_cpu"] if container.cpus.denominator != 1 else []
    return [*_guarantee_reasons(container.spec), *fractional]


def _is_aligned(cpus: Fraction, node: Node) -> bool:
    return not (node.full_pcpus_only and node.threads_per_core and cpus % node.threads_per_core)


def _gpus(container: Object, prefixes: t.Sequence[str]) -> t.Tuple[str, ...]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    devices = sorted(name for name, number in asked.items() if is_gpu(name, prefixes) and str(number or 0) != "0")
    return (*devices, *(f"{CLAIM}{claim['name']}" for claim in resources.get("claims") or []))
