# SPDX-License-Identifier: GPL-3.0-or-later
"""How many GPUs pods request, told apart by what a GPU is: a whole one, a MIG partition, a share of one, or a claim. Pure.

Names tell MIG partitions (``nvidia.com/mig-*``) and renamed shares (``.shared``) of NVIDIA's device plugin. Without a name of
their own (MIG strategy "single"; time-slicing without renameByDefault), the label ``RESOURCE.product`` of the node tells
them: it ends with ``-SHARED``, or has ``-MIG-`` and the profile (k8s-device-plugin internal/lm/resource.go). A claim (DRA)
counts as one, whatever it allocates, and once for all pods that name the same ResourceClaim. Its devices are those of
``status.allocation`` (staging/src/k8s.io/api/resource/v1/types.go, DeviceRequestAllocationResult); a pod's status names the
claims that were made for it (core/v1, PodResourceClaimStatus; PodExtendedResourceClaimStatus, KEP-5004).
"""

from __future__ import annotations

from collections import Counter
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
    namespace: str, pod: Data, containers: Sequence[Container], products: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The GPUs that a pod requests at a time: ``resource``, ``kind``, ``count``, the ``claim`` that they come by, and its ``devices``,
    which are None until they are read from the claim."""
    claims = _claims_of(pod)
    found = []
    for name in sorted({name for container in containers for name in container.gpus}):
        kind = gpu_kind(name, products)
        claim = claims.get(name)
        count = Fraction(1) if kind == "claim" else peak((c.kind, _amount(c, name)) for c in containers)
        found.append(
            {
                "resource": name,
                "kind": kind,
                "count": int(count),
                "claim": f"{namespace}/{claim}" if claim else None,
                "devices": None,
            }
        )
    return found


def allocated_devices(claims: Iterable[Data]) -> dict[str, list[str]]:
    """Namespace and name of each ResourceClaim that is allocated -> its devices as ``DRIVER/POOL/DEVICE``."""
    found = {}
    for claim in claims:
        metadata, allocation = claim["metadata"], (claim.get("status") or {}).get("allocation")
        if allocation:
            results = (allocation.get("devices") or {}).get("results") or []
            found[f"{metadata.get('namespace') or 'default'}/{metadata['name']}"] = sorted(
                f"{result['driver']}/{result['pool']}/{result['device']}" for result in results
            )
    return found


def claimed_devices(pods: Iterable[Data]) -> tuple[dict[str, int], int]:
    """How many devices of each driver the claims of the pods allocate, and how many claims have devices that are unknown."""
    devices: set[str] = set()
    unknown = 0
    seen = set()
    for gpu in (gpu for pod in pods for gpu in pod["gpus"] if gpu["claim"] or gpu["kind"] == "claim"):
        devices.update(gpu["devices"] or ())
        unknown += gpu["devices"] is None and gpu["claim"] not in seen
        seen |= {gpu["claim"]} - {None}
    return dict(sorted(Counter(device.partition("/")[0] for device in devices).items())), unknown


def total_gpus(pods: Iterable[Data]) -> dict[str, int]:
    """Kind -> how many the pods request together."""
    total = dict.fromkeys(KINDS, 0)
    seen = set()
    for gpu in (gpu for pod in pods for gpu in pod["gpus"]):
        if gpu["kind"] != "claim" or gpu["claim"] is None or gpu["claim"] not in seen:
            total[gpu["kind"]] += gpu["count"]
        seen.add(gpu["claim"])
    return total


def _claims_of(pod: Data) -> dict[str, str]:
    """Resource, or ``claim/NAME`` -> the name of the ResourceClaim, as far as the pod names it."""
    status = pod.get("status") or {}
    entries = [*(pod["spec"].get("resourceClaims") or []), *(status.get("resourceClaimStatuses") or [])]
    found = {
        f"{CLAIM}{entry['name']}": entry["resourceClaimName"] for entry in entries if entry.get("resourceClaimName")
    }
    extended = status.get("extendedResourceClaimStatus") or {}
    for mapping in extended.get("requestMappings") or []:
        found[mapping["resourceName"]] = extended["resourceClaimName"]
    return found


def _amount(container: Container, name: str) -> Fraction:
    return resource(container.spec, "limits", name) or resource(container.spec, "requests", name) or Fraction(0)
