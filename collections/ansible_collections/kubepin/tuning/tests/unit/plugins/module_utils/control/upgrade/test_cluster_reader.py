# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.cluster_reader import (
    UpgradeApi,
    component_arguments,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import RemovedApi
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import kubeconfig, stand_in
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given

AS_MAPPING = """
apiVersion: kubeadm.k8s.io/v1beta3
apiServer:
  extraArgs:
    enable-admission-plugins: NodeRestriction,PodSecurityPolicy
    v: 3
"""
AS_LIST = """
apiVersion: kubeadm.k8s.io/v1beta4
apiServer:
  extraArgs:
  - name: enable-admission-plugins
    value: NodeRestriction,PodSecurityPolicy
  - name: v
    value: "3"
"""


@pytest.mark.parametrize("text", [AS_MAPPING, AS_LIST])
def test_extra_arguments_in_both_forms_of_kubeadm(text: str) -> None:
    assert component_arguments(text) == {
        "kube-apiserver": {"enable-admission-plugins": "NodeRestriction,PodSecurityPolicy", "v": "3"},
        "kube-controller-manager": {},
        "kube-scheduler": {},
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "apiServer: 3", "apiServer: {extraArgs: null}"])
def test_without_arguments_there_are_none(text: str) -> None:
    assert not any(component_arguments(text).values())


@given(damaged(AS_MAPPING) | documents("apiServer", "scheduler", "extraArgs", "name", "value"))
def test_any_text_has_arguments_that_are_texts(text: str) -> None:
    for arguments in component_arguments(text).values():
        assert all(isinstance(word, str) for pair in arguments.items() for word in pair)


def stored(manager: str, version: str) -> dict[str, Any]:
    """A list of one object in its only namespace, as the API server returns it."""
    fields = [{"manager": manager, "apiVersion": version}]
    return {
        "apiVersion": version,
        "metadata": {},
        "items": [{"metadata": {"namespace": "ml", "name": "a", "managedFields": fields}}],
    }


@pytest.mark.parametrize(
    ("api", "versions", "lists", "found"),
    [
        (
            RemovedApi(25, "batch", "v1beta1", "cronjobs"),
            ["v1", "v1beta1"],
            {"v1": stored("helm", "batch/v1beta1")},
            [("helm", "v1")],
        ),
        (
            RemovedApi(37, "certificates.k8s.io", "v1alpha1", "clustertrustbundles"),
            ["v1", "v1beta1", "v1alpha1"],
            {"v1beta1": stored("helm", "certificates.k8s.io/v1alpha1")},
            [("helm", "v1beta1")],
        ),
        (
            RemovedApi(37, "scheduling.k8s.io", "v1alpha2", "workloads"),
            ["v1", "v1alpha2"],
            {"v1alpha2": stored("kube-controller-manager", "scheduling.k8s.io/v1alpha2")},
            [("kube-controller-manager", None)],
        ),
        (RemovedApi(37, "scheduling.k8s.io", "v1alpha2", "workloads"), ["v1"], {}, []),
        (RemovedApi(22, "extensions", "v1beta1", "ingresses"), [], {}, []),
    ],
    ids=["preferred version", "another version", "no other version", "not served", "no such group"],
)
def test_old_objects_are_found_in_whichever_version_the_server_has_them(
    api: RemovedApi, versions: list[str], lists: dict[str, Any], found: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    with stand_in() as server:
        served = [{"version": version} for version in versions]
        if served:
            server.objects[f"/apis/{api.group}"] = {"preferredVersion": served[0], "versions": served}
        for version, items in lists.items():
            server.objects[f"/apis/{api.group}/{version}/{api.resource}"] = items
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig(f"http://127.0.0.1:{server.port}"))
        old = UpgradeApi(str(file), None)._old_objects(api)
    assert [(entry["writers"], entry["served_in"]) for entry in old] == found
