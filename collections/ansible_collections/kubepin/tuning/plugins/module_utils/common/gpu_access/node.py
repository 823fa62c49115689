# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a node that decides about its GPU pods' CPUs and devices. Pure; None everywhere means unknown."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import Version, VersionError, parse_version

Object = t.Mapping[str, t.Any]

RuncVersion = t.Tuple[int, int, int, bool]
"""Major, minor, patch, and whether it is a release: a release candidate sorts before its release."""

INJECTIONS = ("cdi", "device_specs", "legacy")
CGROUP_DRIVERS = ("systemd", "cgroupfs")


class Node(t.NamedTuple):
    """One node, or the absence of one: a pod that is not scheduled runs nowhere."""

    kubelet: t.Optional[Version] = None
    policy: t.Optional[str] = None
    full_pcpus_only: t.Optional[bool] = None
    threads_per_core: t.Optional[int] = None
    cpus: t.Optional[int] = None
    """Whole CPUs that all pods of the node together can own."""
    runc: t.Optional[RuncVersion] = None
    cgroup_driver: t.Optional[str] = None
    injection: t.Optional[str] = None
    """How devices get into containers: through CDI, through device specifications of the device plugin, or by the
    legacy hook behind the runtime's back."""
    dev_char_links: t.Optional[bool] = None


def node_from_api(node: Object, configz: t.Optional[Object]) -> Node:
    """What the node object and the kubelet's live configuration say; *configz* is None where it cannot be read.

    Exclusive CPUs come from what is not reserved, which is what allocatable leaves of the capacity
    (Kubernetes pkg/kubelet/cm/node_container_manager_linux.go).
    """
    status = node.get("status") or {}
    allocatable = (status.get("allocatable") or {}).get("cpu")
    known = Node(
        kubelet=_known_version((status.get("nodeInfo") or {}).get("kubeletVersion")),
        cpus=None if allocatable is None else int(parse_quantity(allocatable)),
    )
    if configz is None:
        return known
    options = configz.get("cpuManagerPolicyOptions") or {}
    return known._replace(
        policy=configz.get("cpuManagerPolicy") or "none",
        full_pcpus_only=str(options.get("full-pcpus-only", "false")).lower() == "true",
        cgroup_driver=configz.get("cgroupDriver"),
    )


def with_facts(node: Node, name: str, facts: Object) -> Node:
    """*node* with what somebody knows better than the API.

    :raises TuningError: naming everything in *facts* that cannot be understood
    """
    known: t.Dict[str, t.Any] = {}
    problems: t.List[str] = []
    for key, value in facts.items():
        if key not in _READERS:
            problems.append(f"{key} is unknown: expected one of {', '.join(_READERS)}")
            continue
        field, expected, read = _READERS[key]
        try:
            known[field] = read(value)
        except (ValueError, VersionError):
            problems.append(f'{key} is "{value}": expected {expected}')
    if problems:
        raise TuningError(f"the facts of node {name} cannot be used: {'; '.join(problems)}.", problems=problems)
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


_READERS: t.Dict[str, t.Tuple[str, str, t.Callable[[t.Any], t.Any]]] = {
    "kubelet_version": ("kubelet", "a version such as 1.22.17", lambda value: parse_version(str(value))),
    "cpu_manager_policy": ("policy", "none or static", _one_of("none", "static")),
    "full_pcpus_only": ("full_pcpus_only", "true or false", _flag),
    "threads_per_core": ("threads_per_core", "a whole number above 0", _positive),
    "allocatable_cpu": ("cpus", "a number of CPUs", _positive),
    "runc_version": ("runc", "a version such as 1.1.5 or 1.0.0-rc93", _runc),
    "cgroup_driver": ("cgroup_driver", " or ".join(CGROUP_DRIVERS), _one_of(*CGROUP_DRIVERS)),
    "device_injection": ("injection", ", ".join(INJECTIONS), _one_of(*INJECTIONS)),
    "dev_char_links": ("dev_char_links", "true or false", _flag),
}


class Source(t.Protocol):
    """What the audit reads, each object with its ``apiVersion`` and ``kind``."""

    def pods(self) -> t.Iterator[Object]: ...

    def owners(self) -> t.Iterator[Object]: ...

    def node_facts(self, name: str) -> Node: ...


class Nodes:
    """The nodes of a source, each read once, with what the operator knows of them."""

    def __init__(self, source: Source, facts: t.Mapping[str, Object]) -> None:
        """:raises TuningError: for facts that cannot be understood"""
        for name, known in facts.items():
            with_facts(Node(), name, known)
        self._source = source
        self._facts = facts
        self._read: t.Dict[str, Node] = {}

    def get(self, name: t.Optional[str]) -> Node:
        """The node of that name; None is no node yet, of which nothing is known."""
        if name is None:
            return Node()
        if name not in self._read:
            self._read[name] = with_facts(self._source.node_facts(name), name, self._facts.get(name) or {})
        return self._read[name]
