# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about a node that determine its GPU pods' CPUs and devices. Pure; None always means unknown."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import manages_pod_level
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import Version, VersionError, parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import (
    WHOLE_GPUS,
    offered_gpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    aligns_whole_pods,
    takes_whole_cores,
)

Object = t.Mapping[str, t.Any]

RuncVersion = t.Tuple[int, int, int, bool]
"""Major, minor, patch, and whether it is a release, so that a release candidate sorts before its release."""

_PRODUCT = ".product"
INJECTIONS = ("cdi", "device_specs", "legacy")
CGROUP_DRIVERS = ("systemd", "cgroupfs")


class Node(t.NamedTuple):
    """One node, or no node, for a pod that is not scheduled."""

    kubelet: t.Optional[Version] = None
    policy: t.Optional[str] = None
    full_pcpus_only: t.Optional[bool] = None
    threads_per_core: t.Optional[int] = None
    pod_level: t.Optional[bool] = None
    """Whether its CPU manager pins containers of pods with pod-level resources (spec.resources)."""
    pod_scope: t.Optional[bool] = None
    """Whether its topology manager aligns whole pods: scope ``pod``, and a policy other than ``none``, which has no scope."""
    cpus: t.Optional[int] = None
    """How many exclusive CPUs the pods of the node can have in total."""
    runc: t.Optional[RuncVersion] = None
    cgroup_driver: t.Optional[str] = None
    injection: t.Optional[str] = None
    """How devices get into containers: through CDI, through the device plugin's device specifications, or through the
    legacy hook, which the runtime does not know about."""
    dev_char_links: t.Optional[bool] = None
    whole_gpus: t.Optional[int] = None
    """How many GPUs it offers that are not partitioned and have no other resource name."""
    products: t.Tuple[t.Tuple[str, str], ...] = ()
    """GPU resources with the product that NVIDIA's GPU feature discovery names (label ``RESOURCE.product``)."""
    default_handler: t.Optional[str] = None
    """The container runtime's handler for pods without a RuntimeClass."""
    handlers: t.Mapping[str, t.Mapping[str, t.Any]] = {}
    """For each handler, the fields that are its own: ``runc``, ``injection`` and ``cgroup_driver``; None is unknown."""

    def under(self, handler: t.Optional[str]) -> Node:
        """The node as it is for a pod that this handler starts; the same node if nothing is known of the handler."""
        if handler is None or handler not in self.handlers:
            return self
        return self._replace(**self.handlers[handler])


def node_from_api(node: Object, configz: t.Optional[Object]) -> Node:
    """The facts in the node object and the kubelet's live configuration; *configz* is None if it cannot be read.

    Exclusive CPUs come from the CPUs that are not reserved, which are the allocatable ones
    (Kubernetes pkg/kubelet/cm/node_container_manager_linux.go).
    """
    status = node.get("status") or {}
    allocatable = (status.get("allocatable") or {}).get("cpu")
    known = Node(
        kubelet=_known_version((status.get("nodeInfo") or {}).get("kubeletVersion")),
        cpus=None if allocatable is None else int(parse_quantity(allocatable)),
        whole_gpus=offered_gpus(status).get(WHOLE_GPUS),
        products=tuple(
            (label[: -len(_PRODUCT)], str(value))
            for label, value in ((node.get("metadata") or {}).get("labels") or {}).items()
            if label.endswith(_PRODUCT)
        ),
    )
    if configz is None:
        return known
    gates = configz.get("featureGates")
    return known._replace(
        pod_level=known.kubelet and manages_pod_level(gates, known.kubelet.minor),
        pod_scope=aligns_whole_pods(configz),
        policy=configz.get("cpuManagerPolicy") or "none",
        full_pcpus_only=takes_whole_cores(configz),
        cgroup_driver=configz.get("cgroupDriver"),
    )


def with_facts(node: Node, name: str, facts: Object) -> Node:
    """*node* with *facts*, which take precedence over the API.

    :raises TuningError: naming everything in *facts* that is not valid
    """
    known: t.Dict[str, t.Any] = {}
    found: t.List[Problem] = []
    for key, value in facts.items():
        if key not in _READERS:
            found.append(problems.node_fact_unknown(name, key, _READERS))
            continue
        field, expected, read = _READERS[key]
        try:
            known[field] = read(value)
        except (ValueError, VersionError):
            found.append(problems.node_fact_invalid(name, key, value, expected))
    if found:
        raise TuningError(*found)
    return node._replace(**known)


def _known_version(text: t.Optional[str]) -> t.Optional[Version]:
    try:
        return parse_version(text or "")
    except VersionError:
        return None


def _runc(value: object) -> RuncVersion:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)(-rc)?", str(value))
    if not match:
        raise ValueError(value)
    major, minor, patch, candidate = match.groups()
    return int(major), int(minor), int(patch), candidate is None


def _one_of(*choices: str) -> t.Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(value)
        return str(value)

    return read


def _positive(value: object) -> int:
    number = int(parse_quantity(str(value)))
    if number < 1:
        raise ValueError(value)
    return number


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _handlers(value: object) -> t.Dict[str, t.Dict[str, t.Any]]:
    """Raises ValueError or VersionError for anything but facts by handler."""
    if not isinstance(value, dict):
        raise ValueError(value)
    return {_name(name): _handler(facts) for name, facts in value.items()}


def _handler(facts: object) -> t.Dict[str, t.Any]:
    if not isinstance(facts, dict) or not {*facts} <= {*HANDLER_FACTS}:
        raise ValueError(facts)
    read = {name: _READERS[name] for name in facts}
    return {field: None if facts[name] is None else reader(facts[name]) for name, (field, _, reader) in read.items()}


HANDLER_FACTS = ("runc_version", "cgroup_driver", "device_injection")
"""The facts that may differ between the handlers of a container runtime."""

_READERS: t.Dict[str, t.Tuple[str, str, t.Callable[[t.Any], t.Any]]] = {
    "kubelet_version": ("kubelet", "a version such as 1.22.17", lambda value: parse_version(str(value))),
    "cpu_manager_policy": ("policy", "none or static", _one_of("none", "static")),
    "full_pcpus_only": ("full_pcpus_only", "true or false", _flag),
    "pod_level_managers": ("pod_level", "true or false", _flag),
    "pod_scope": ("pod_scope", "true or false", _flag),
    "threads_per_core": ("threads_per_core", "a whole number above 0", _positive),
    "allocatable_cpu": ("cpus", "a number of CPUs", _positive),
    "runc_version": ("runc", "a version such as 1.1.5 or 1.0.0-rc93", _runc),
    "cgroup_driver": ("cgroup_driver", " or ".join(CGROUP_DRIVERS), _one_of(*CGROUP_DRIVERS)),
    "device_injection": ("injection", ", ".join(INJECTIONS), _one_of(*INJECTIONS)),
    "dev_char_links": ("dev_char_links", "true or false", _flag),
    "default_handler": ("default_handler", "the name of a handler", _name),
    "handlers": ("handlers", f"a dictionary of handlers, each with {', '.join(HANDLER_FACTS)}", _handlers),
}


class Source(t.Protocol):
    """The objects that the audit reads, each with its ``apiVersion`` and ``kind``."""

    def pods(self) -> t.Iterator[Object]: ...

    def owners(self) -> t.Iterator[Object]: ...

    def claims(self) -> t.Iterator[Object]:
        """ResourceClaims (DRA)."""
        ...

    def runtime_classes(self) -> t.Iterator[Object]: ...

    def unread(self) -> t.Sequence[Problem]:
        """Kinds of objects that could not be read; complete once `owners`, `claims` and `runtime_classes` are exhausted."""
        ...

    def node_facts(self, name: str) -> Node: ...


class Nodes:
    """The nodes of a source, each read once, with the operator's facts about them."""

    def __init__(self, source: Source, facts: t.Mapping[str, Object]) -> None:
        """:raises TuningError: for facts that are not valid"""
        for name, known in facts.items():
            with_facts(Node(), name, known)
        self._source = source
        self._facts = facts
        self._read: t.Dict[str, Node] = {}

    def get(self, name: t.Optional[str]) -> Node:
        """The node with that name; for None (not scheduled yet), a node of which nothing is known."""
        if name is None:
            return Node()
        if name not in self._read:
            self._read[name] = with_facts(self._source.node_facts(name), name, self._facts.get(name) or {})
        return self._read[name]
