# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which objects of the API a static pod refers to, which kubelets from 1.34 on refuse.

The fields are those of HasAPIObjectReference (kubernetes/kubernetes pkg/api/pod/util.go), which the kubelet applies to
static pods (#131837).
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.yaml_text import YamlError, parse_yaml_text

PREVENTED_SINCE, ALWAYS_SINCE = 34, 37
"""The minors of 1.x whose kubelet refuses such pods by default, and without a way to allow them."""

GATE = "PreventStaticPodAPIReferences"

_VOLUMES = {
    "configMap": "ConfigMaps",
    "secret": "Secrets",
    "csi": "CSIDrivers",
    "glusterfs": "Endpoints",
    "persistentVolumeClaim": "PersistentVolumeClaims",
    "ephemeral": "PersistentVolumeClaims",
    "azureFile": "Secrets",
}
"""Kind of a volume -> what it needs from the API."""

_SOURCES = {
    "configMap": "ConfigMaps",
    "secret": "Secrets",
    "serviceAccountToken": "ServiceAccounts",
    "clusterTrustBundle": "ClusterTrustBundles",
    "podCertificate": "PodCertificateRequests",
}
"""Kind of a source of a projected volume -> what it needs from the API."""

_ENVIRONMENT = {"configMapKeyRef": "ConfigMaps", "secretKeyRef": "Secrets"}
_ENVIRONMENTS = {"configMapRef": "ConfigMaps", "secretRef": "Secrets"}


def api_references(text: str) -> list[str]:
    """The kinds of API objects that the static pod in a file of the kubelet's staticPodPath refers to, in plural.

    Empty if the text is not a pod, because the kubelet does not run it.
    """
    try:
        manifest = parse_yaml_text(text).value
    except YamlError:
        return []
    return sorted(set(_references(_mapping(_mapping(manifest).get("spec")))))


def _references(spec: dict[str, t.Any]) -> Iterator[str]:
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        yield "ServiceAccounts"
    if spec.get("imagePullSecrets"):
        yield "Secrets"
    if spec.get("resourceClaims"):
        yield "ResourceClaims"
    for name in ("initContainers", "containers"):
        for container in _mappings(spec.get(name)):
            for variable in _mappings(container.get("env")):
                yield from _named(_mapping(variable.get("valueFrom")), _ENVIRONMENT)
            for source in _mappings(container.get("envFrom")):
                yield from _named(source, _ENVIRONMENTS)
    for volume in _mappings(spec.get("volumes")):
        yield from _named(volume, _VOLUMES)
        for source in _mappings(_mapping(volume.get("projected")).get("sources")):
            yield from _named(source, _SOURCES)
        # credentials of CephFS, Cinder, iSCSI, RBD, ScaleIO, StorageOS and FlexVolume
        if any(_mapping(value).get("secretRef") for value in volume.values()):
            yield "Secrets"


def _named(entry: dict[str, t.Any], kinds: dict[str, str]) -> Iterator[str]:
    return (kind for name, kind in kinds.items() if entry.get(name) is not None)


def _mapping(value: object) -> dict[str, t.Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[dict[str, t.Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
