# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import (
    RemovedApi,
    old_objects,
    sort_requests,
    written_with,
)


def test_which_requests_can_only_be_a_clients() -> None:
    def request(group: str, resource: str, removed: str) -> dict[str, str]:
        return {"group": group, "version": "v1beta1", "resource": resource, "removed_release": removed}

    garbage_collector = request("extensions", "ingresses", "1.22")
    client = request("storage.k8s.io", "csinodes", "1.22")
    perhaps_own = request("discovery.k8s.io", "endpointslices", "1.25")
    requests = [garbage_collector, client, perhaps_own, {"group": "x"}]
    assert sort_requests(requests, 25) == ([client], [perhaps_own])
    assert sort_requests(requests, 22) == ([client], [])
    assert sort_requests(requests, 21) == ([], [])


def test_built_in_objects_that_the_api_server_writes_anew_are_nobodys() -> None:
    def flow_schema(**annotations: str) -> dict[str, Any]:
        fields = [{"manager": "kubectl-edit", "apiVersion": "flowcontrol.apiserver.k8s.io/v1beta1"}]
        return {"metadata": {"name": "probes", "managedFields": fields, "annotations": annotations}}

    api = "flowcontrol.apiserver.k8s.io/v1beta1"
    assert written_with(flow_schema(**{"apf.kubernetes.io/autoupdate-spec": "true"}), api) == []
    assert written_with(flow_schema(**{"apf.kubernetes.io/autoupdate-spec": "false"}), api) == ["kubectl-edit"]


def test_who_wrote_an_object_with_an_old_version() -> None:
    item = {
        "metadata": {
            "managedFields": [
                {"manager": "helm", "apiVersion": "networking.k8s.io/v1beta1"},
                {"manager": "kube-controller-manager", "apiVersion": "networking.k8s.io/v1beta1"},
                {"manager": "nginx", "apiVersion": "networking.k8s.io/v1"},
            ],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion": "networking.k8s.io/v1beta1"}'
            },
        }
    }
    assert written_with(item, "networking.k8s.io/v1beta1") == ["helm", "kubectl apply"]
    assert written_with({"metadata": {}}, "networking.k8s.io/v1beta1") == []


def test_an_object_that_the_server_has_in_no_other_version_counts_whoever_wrote_it() -> None:
    api = RemovedApi(37, "scheduling.k8s.io", "v1alpha2", "workloads")
    item = {"metadata": {"namespace": "ml", "name": "train", "managedFields": [{"manager": "kube-controller-manager"}]}}
    assert old_objects(api, [item], served_in="v1beta1") == []
    [found] = old_objects(api, [item], served_in=None)
    assert (found["name"], found["writers"], found["served_in"]) == ("ml/train", "kube-controller-manager", None)
