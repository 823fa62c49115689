# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods of a node assign CPUs to containers themselves, beside the kubelet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems

_MANAGERS = (
    ("dra-driver-cpu", ("dra-driver-cpu", "dracpu")),
    ("an NRI resource policy plugin", ("nri-resource-policy-", "nri-resmgr")),
    ("Koordinator", ("koordlet",)),
)
"""Program -> what the names of its container, image or labels begin with: kubernetes-sigs/dra-driver-cpu,
containers/nri-plugins (deployment/helm), koordinator-sh/koordinator (its DaemonSet)."""
_LABELS = ("app", "app.kubernetes.io/name", "koord-app", "k8s-app")


def other_cpu_managers(pods: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """A problem for each program of the node that sets the cpusets of containers, as the static policy would: both would
    overwrite each other, and give the same CPUs to two containers.

    :param pods: the node's pods, DaemonSets' among them
    """
    found: dict[str, str] = {}
    for pod in sorted(pods, key=_name):
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            for program, beginnings in _MANAGERS:
                if any(name.startswith(beginnings) for name in _names(pod)):
                    found.setdefault(program, _name(pod))
    return [problems.other_cpu_manager(program, pod) for program, pod in found.items()]


def _names(pod: Mapping[str, Any]) -> Iterator[str]:
    labels = pod["metadata"].get("labels") or {}
    yield from (labels[key] for key in _LABELS if key in labels)
    for container in (pod.get("spec") or {}).get("containers") or []:
        yield container["name"]
        yield str(container.get("image") or "").rpartition("/")[2]


def _name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
