# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
"""Pure: the API versions that releases removed, and who still uses them.

The table is Kubernetes' deprecation guide (kubernetes.io/docs/reference/using-api/deprecation-guide/), as far as objects of these
kinds are stored.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping


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
"""How the names of Kubernetes' own programs begin, which the upgrade itself replaces, write with the version of their release."""

_OWN_REQUESTS = {("extensions", "v1beta1", "ingresses"), ("policy", "v1beta1", "podsecuritypolicies")}
"""What Kubernetes' own garbage collector asks for in every cluster, used or not: there the objects tell, not the requests."""


def written_with(item: Mapping[str, t.Any], api_version: str) -> list[str]:
    """Who last wrote this object with that version, apart from Kubernetes itself; nobody if the list is empty.

    An object can be read in any version that is served; what tells is who wrote it with which one.
    """
    metadata = item["metadata"]
    managers = [
        str(entry.get("manager"))
        for entry in metadata.get("managedFields") or []
        if entry.get("apiVersion") == api_version and not str(entry.get("manager")).startswith(_OWN_WRITERS)
    ]
    try:
        applied = json.loads((metadata.get("annotations") or {}).get(_LAST_APPLIED, "{}"))
    except ValueError:
        applied = {}
    if isinstance(applied, dict) and applied.get("apiVersion") == api_version:
        managers.append("kubectl apply")
    return sorted(set(managers))


def foreign_requests(requests: list[dict[str, str]], up_to_minor: int) -> list[dict[str, str]]:
    """The requests that a release up to 1.*up_to_minor* no longer answers, but for those of every cluster."""
    found = []
    for request in requests:
        removed = request.get("removed_release", "").partition(".")[2]
        own = (request.get("group"), request.get("version"), request.get("resource")) in _OWN_REQUESTS
        if removed.isdigit() and int(removed) <= up_to_minor and not own:
            found.append(request)
    return found
