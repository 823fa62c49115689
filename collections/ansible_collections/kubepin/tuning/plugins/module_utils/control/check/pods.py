# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the running containers of a node, each with the kubelet's rule for exclusive CPUs applied to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Object
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    Verdict,
    asks_for_gpu,
    assess,
    containers_of,
)

_STATIC_POD = "kubernetes.io/config.mirror"
"""The annotation with a static pod's own UID, which its mirror in the API does not have (pkg/kubelet/types)."""


@dataclass(frozen=True)
class RunningContainer:
    """A container that runs on the node, by the API."""

    namespace: str
    pod: str
    uid: str
    name: str
    id: str
    """The container runtime's, without its scheme."""
    of_gpu_pod: bool
    gpus: tuple[str, ...]
    exclusive: bool
    """Whether it qualifies for exclusive CPUs on this node."""
    pool: str
    """As `Verdict.pool`."""
    reasons: tuple[str, ...]
    """As `Verdict.reasons`."""

    @property
    def title(self) -> str:
        """Which one it is, for people."""
        return f"container {self.name} of pod {self.namespace}/{self.pod}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "gpus": list(self.gpus), "reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunningContainer:
        """The container that `to_dict` wrote."""
        return cls(**{**data, "gpus": tuple(data["gpus"]), "reasons": tuple(data["reasons"])})


def running_containers(pods: Iterable[Object], node: Node, prefixes: Sequence[str]) -> list[RunningContainer]:
    """All containers that run, with the rule of the audit (`gpu_pods.pod.assess`).

    :param prefixes: prefixes of GPU resource names
    :raises ValueError: for an invalid quantity, which no API server accepts
    """
    return [container for pod in pods for container in _of_pod(pod, node, prefixes)]


def _of_pod(pod: Object, node: Node, prefixes: Sequence[str]) -> Iterator[RunningContainer]:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    found = [one for field in ("initContainerStatuses", "containerStatuses") for one in status.get(field) or []]
    ids = {one["name"]: one.get("containerID") or "" for one in found if "running" in (one.get("state") or {})}
    verdicts: list[Verdict] = assess(spec, containers_of(spec, prefixes), node) if ids else []
    with_gpu = asks_for_gpu(spec, prefixes)
    for verdict in verdicts:
        container = verdict.container
        if container.name in ids:
            yield RunningContainer(
                namespace=metadata.get("namespace") or "default",
                pod=metadata["name"],
                uid=(metadata.get("annotations") or {}).get(_STATIC_POD) or metadata["uid"],
                name=container.name,
                id=ids[container.name].rpartition("/")[2],
                of_gpu_pod=with_gpu,
                gpus=container.gpus,
                exclusive=verdict.exclusive,
                pool=verdict.pool,
                reasons=verdict.reasons,
            )
