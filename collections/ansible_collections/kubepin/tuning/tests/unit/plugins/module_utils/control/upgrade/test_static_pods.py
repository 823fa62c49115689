# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.static_pods import api_references
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given

PLAIN = """
apiVersion: v1
kind: Pod
metadata: {name: vip, namespace: kube-system}
spec:
  hostNetwork: true
  containers:
  - name: vip
    image: vip:1
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  volumes:
  - {name: kubeconfig, hostPath: {path: /etc/kubernetes/admin.conf}}
  - {name: names, projected: {sources: [{downwardAPI: {items: []}}]}}
"""


@pytest.mark.parametrize("text", [PLAIN, "", "{", "- 1", "spec: 3"])
def test_without_references_there_is_nothing(text: str) -> None:
    assert api_references(text) == []


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ({"serviceAccountName": "default"}, ["ServiceAccounts"]),
        ({"imagePullSecrets": [{"name": "a"}]}, ["Secrets"]),
        ({"resourceClaims": [{"name": "gpu"}]}, ["ResourceClaims"]),
        ({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "a"}}}]}]}, ["Secrets"]),
        ({"initContainers": [{"envFrom": [{"configMapRef": {"name": "a"}}]}]}, ["ConfigMaps"]),
        ({"volumes": [{"configMap": {"name": "a"}}, {"secret": {"secretName": "b"}}]}, ["ConfigMaps", "Secrets"]),
        ({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}, ["ServiceAccounts"]),
        ({"volumes": [{"iscsi": {"secretRef": {"name": "a"}}}]}, ["Secrets"]),
        ({"volumes": [{"persistentVolumeClaim": {"claimName": "a"}}]}, ["PersistentVolumeClaims"]),
    ],
    ids=str,
)
def test_references(spec: dict[str, Any], kinds: list[str]) -> None:
    assert api_references(json.dumps({"spec": spec})) == kinds


@given(damaged(PLAIN) | documents("spec", "volumes", "containers", "env", "valueFrom", "projected", "sources"))
def test_any_text_has_references_or_none(text: str) -> None:
    assert all(isinstance(kind, str) for kind in api_references(text))
