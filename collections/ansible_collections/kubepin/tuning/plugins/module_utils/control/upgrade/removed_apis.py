# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the API versions that releases removed, and which clients still use them.

The table contains the stored kinds of Kubernetes' deprecation guide
(kubernetes.io/docs/reference/using-api/deprecation-guide/), and those that must be turned on, whose APILifecycleRemoved()
in k8s.io/api names 1.33 to 1.37.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping, Sequence


class RemovedApi(t.NamedTuple):
    """A resource in a version that 1.*minor* no longer serves."""

    minor: int
    group: str
    version: str
    resource: str


REMOVED = [
    RemovedApi(minor, group, version, resource)
    for minor, group, version, resources in (
        (
            22,
            "admissionregistration.k8s.io",
            "v1beta1",
            "mutatingwebhookconfigurations validatingwebhookconfigurations",
        ),
        (22, "apiextensions.k8s.io", "v1beta1", "customresourcedefinitions"),
        (22, "apiregistration.k8s.io", "v1beta1", "apiservices"),
        (22, "certificates.k8s.io", "v1beta1", "certificatesigningrequests"),
        (22, "extensions", "v1beta1", "ingresses"),
        (22, "networking.k8s.io", "v1beta1", "ingresses ingressclasses"),
        (22, "rbac.authorization.k8s.io", "v1beta1", "clusterroles clusterrolebindings roles rolebindings"),
        (22, "scheduling.k8s.io", "v1beta1", "priorityclasses"),
        (22, "storage.k8s.io", "v1beta1", "csidrivers csinodes storageclasses volumeattachments"),
        (25, "batch", "v1beta1", "cronjobs"),
        (25, "autoscaling", "v2beta1", "horizontalpodautoscalers"),
        (25, "policy", "v1beta1", "poddisruptionbudgets podsecuritypolicies"),
        (25, "node.k8s.io", "v1beta1", "runtimeclasses"),
        (26, "autoscaling", "v2beta2", "horizontalpodautoscalers"),
        (26, "flowcontrol.apiserver.k8s.io", "v1beta1", "flowschemas prioritylevelconfigurations"),
        (27, "storage.k8s.io", "v1beta1", "csistoragecapacities"),
        (29, "flowcontrol.apiserver.k8s.io", "v1beta2", "flowschemas prioritylevelconfigurations"),
        (32, "flowcontrol.apiserver.k8s.io", "v1beta3", "flowschemas prioritylevelconfigurations"),
        (33, "networking.k8s.io", "v1alpha1", "ipaddresses servicecidrs"),
        (
            34,
            "admissionregistration.k8s.io",
            "v1beta1",
            "validatingadmissionpolicies validatingadmissionpolicybindings",
        ),
        (35, "storage.k8s.io", "v1alpha1", "volumeattributesclasses"),
        (36, "scheduling.k8s.io", "v1alpha1", "workloads"),
        (37, "scheduling.k8s.io", "v1alpha2", "podgroups workloads"),
        (37, "certificates.k8s.io", "v1alpha1", "clustertrustbundles"),
        (37, "networking.k8s.io", "v1beta1", "ipaddresses servicecidrs"),
        (37, "storage.k8s.io", "v1beta1", "volumeattributesclasses"),
    )
    for resource in resources.split()
]

READ_IN = {"extensions": "networking.k8s.io"}
"""Group -> the group that has the same objects in later versions."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_OWN_WRITERS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubeadm",
    "api-priority-and-fairness",
)
"""Name prefixes of Kubernetes' own programs, which the upgrade replaces: they write in the version of their release."""

_KEPT_BY_THE_API_SERVER = ("apf.kubernetes.io/autoupdate-spec", "rbac.authorization.kubernetes.io/autoupdate")
"""Annotations of built-in objects that the API server rewrites in its own version, whichever client wrote them last."""

_LAST_OF_CLIENTS = 22
"""From 1.20 on, no Kubernetes program except the garbage collector requests anything that 1.22 removed. Some still
request what later releases removed (kube-proxy endpointslices, the controllers cronjobs and budgets, the API server
flow schemas), as the metric of untouched clusters of 1.20.15, 1.21.14 and 1.22.17 shows. So only up to this minor does
a request alone prove a client."""

_GARBAGE_COLLECTED = {("extensions", "v1beta1", "ingresses")}
"""What the garbage collector requests in every cluster, used or not."""


def written_with(item: Mapping[str, t.Any], api_version: str) -> list[str]:
    """The clients, other than Kubernetes itself, that last wrote this object with that version; empty if none did.

    An object can be read in any served version, so only the version that a client wrote it with matters.
    """
    metadata = item["metadata"]
    annotations = metadata.get("annotations") or {}
    if any(annotations.get(name) == "true" for name in _KEPT_BY_THE_API_SERVER):
        return []
    managers = [
        str(entry.get("manager"))
        for entry in metadata.get("managedFields") or []
        if entry.get("apiVersion") == api_version and not str(entry.get("manager")).startswith(_OWN_WRITERS)
    ]
    try:
        applied = json.loads(annotations.get(_LAST_APPLIED, "{}"))
    except ValueError:
        applied = {}
    if isinstance(applied, dict) and applied.get("apiVersion") == api_version:
        managers.append("kubectl apply")
    return sorted(set(managers))


def old_objects(api: RemovedApi, items: Sequence[Mapping[str, t.Any]], served_in: str | None) -> list[dict[str, t.Any]]:
    """The objects that keep a client or the cluster at an API version that 1.*api.minor* no longer serves.

    An object that the server has in no other version is one of them whoever wrote it: no later release reads it.

    :param served_in: another version of the API that also serves the objects, if any
    """
    written = f"{api.group}/{api.version}"
    found = []
    for item in items:
        metadata = item["metadata"]
        writers = written_with(item, written) if served_in else _managers(metadata)
        if writers or served_in is None:
            found.append(
                {
                    "api": written,
                    "resource": api.resource,
                    "removed_release": f"1.{api.minor}",
                    "name": "/".join(filter(None, (metadata.get("namespace"), metadata["name"]))),
                    "writers": ", ".join(writers) or "an unknown client",
                    "served_in": served_in,
                }
            )
    return found


def _managers(metadata: Mapping[str, t.Any]) -> list[str]:
    return sorted({str(entry.get("manager")) for entry in metadata.get("managedFields") or []})


Request = Mapping[str, str]


def sort_requests(requests: Sequence[Request], up_to_minor: int) -> tuple[list[Request], list[Request]]:
    """Requests that releases up to 1.*up_to_minor* no longer serve: those of clients, and those of unclear origin."""
    clients: list[Request] = []
    unclear: list[Request] = []
    for request in requests:
        removed = request.get("removed_release", "").partition(".")[2]
        if not removed.isdigit() or int(removed) > up_to_minor:
            continue
        own = (request.get("group"), request.get("version"), request.get("resource")) in _GARBAGE_COLLECTED
        if not own:
            (clients if int(removed) <= _LAST_OF_CLIENTS else unclear).append(request)
    return clients, unclear
