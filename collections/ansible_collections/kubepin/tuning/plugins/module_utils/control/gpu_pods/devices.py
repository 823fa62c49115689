# SPDX-License-Identifier: GPL-3.0-or-later
"""How many GPUs pods request, told apart by what a GPU is: a whole one, a MIG partition, a share of one, or a claim. Pure.

Names tell MIG partitions (``nvidia.com/mig-*``) and renamed shares (``.shared``) of NVIDIA's device plugin. Without a name of
their own (MIG strategy "single"; time-slicing without renameByDefault), the label ``RESOURCE.product`` of the node tells
them: it ends with ``-SHARED``, or has ``-MIG-`` and the profile (k8s-device-plugin internal/lm/resource.go). A claim (DRA)
counts as one, whatever it allocates, and once for all pods that name the same ResourceClaim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    CLAIM,
    Container,
    peak,
    resource,
)

Data = Mapping[str, Any]

KINDS = {
    "whole": "whole GPUs",
    "mig": "MIG partitions",
    "shared": "shares of a GPU, by time-slicing or MPS",
    "claim": "claims (DRA)",
}
"""What a GPU is -> what people call it."""

_MIG_CLASS = "deviceclass.resource.kubernetes.io/mig."


def gpu_kind(name: str, products: Mapping[str, str]) -> str:
    """One of `KINDS`.

    :param name: of a resource, or ``claim/NAME``
    :param products: resource -> the label ``RESOURCE.product`` of the pod's node
    """
    product = products.get(name, "")
    if name.startswith(CLAIM):
        return "claim"
    if name.endswith(".shared") or product.endswith("-SHARED"):
        return "shared"
    if "/mig-" in name or name.startswith(_MIG_CLASS) or "-MIG-" in product:
        return "mig"
    return "whole"


def requested_gpus(
    namespace: str, spec: Data, containers: Sequence[Container], products: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The GPUs that a pod requests at a time: ``resource``, ``kind``, ``count``, and of a claim that pods can share ``claim``."""
    shared = {claim["name"]: claim.get("resourceClaimName") for claim in spec.get("resourceClaims") or []}
    found = []
    for name in sorted({name for container in containers for name in container.gpus}):
        kind = gpu_kind(name, products)
        claim = shared.get(name.removeprefix(CLAIM)) if kind == "claim" else None
        count = Fraction(1) if kind == "claim" else peak((c.kind, _amount(c, name)) for c in containers)
        found.append(
            {"resource": name, "kind": kind, "count": int(count), "claim": f"{namespace}/{claim}" if claim else None}
        )
    return found


def total_gpus(pods: Iterable[Data]) -> dict[str, int]:
    """Kind -> how many the pods request together."""
    total = dict.fromkeys(KINDS, 0)
    seen = set()
    for gpu in (gpu for pod in pods for gpu in pod["gpus"]):
        if gpu["claim"] is None or gpu["claim"] not in seen:
            total[gpu["kind"]] += gpu["count"]
        seen.add(gpu["claim"])
    return total


def _amount(container: Container, name: str) -> Fraction:
    return resource(container.spec, "limits", name) or resource(container.spec, "requests", name) or Fraction(0)
