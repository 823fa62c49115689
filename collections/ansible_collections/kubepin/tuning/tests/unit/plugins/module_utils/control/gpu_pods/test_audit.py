# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import NOT_SCHEDULED, audit
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import Cluster, amounts, main, pod, side

PREFIXES = ["nvidia.com/"]

NOTHING_KNOWN = Node()
WHOLE = pod(main("2 1Gi"))


def named(name: Any, spec: Any, kind: str = "Pod", controller: Any = None, **extra: Any) -> dict[str, Any]:
    metadata = {"namespace": "ml", "name": name}
    if controller:
        metadata["ownerReferences"] = [{"kind": controller[0], "name": controller[1], "controller": True}]
    api_version = "v1" if kind == "Pod" else "apps/v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, **extra}


def test_the_audit_follows_owners_and_counts_costs() -> None:
    fractional = pod(main("1500m 1Gi"))
    template = {"template": {"spec": fractional}}
    result = audit(
        Cluster(
            [
                named("serve-1-a", {**fractional, "nodeName": "gpu-01"}, controller=("ReplicaSet", "serve-1")),
                named("serve-1-b", {**fractional, "nodeName": "gpu-01"}, controller=("ReplicaSet", "serve-1")),
                named("serve-1-c", fractional, controller=("ReplicaSet", "serve-1")),
                named("torch-0", WHOLE, controller=("PyTorchJob", "torch")),
                named("bare", WHOLE),
                named("done", WHOLE, status={"phase": "Succeeded"}),
                named("web", pod(side())),
            ],
            [
                named("serve-1", template, "ReplicaSet", ("Deployment", "serve")),
                named("serve", template, "Deployment"),
                named("web", {"template": {"spec": pod(side())}}, "Deployment"),
            ],
            NOTHING_KNOWN,
        ),
        {"gpu-01": {"full_pcpus_only": True, "threads_per_core": 4}},
        PREFIXES,
        1,
    )
    assert {item["name"]: item["owner"] for item in result["pods"]} == {
        "bare": None,
        "serve-1-a": "Deployment/serve",
        "serve-1-b": "Deployment/serve",
        "serve-1-c": "Deployment/serve",
        "torch-0": "PyTorchJob/torch",
    }
    (serve,) = result["owners"]
    assert (serve["name"], serve["pods"]) == ("serve", 3)
    assert serve["cpus_per_node"] == {"gpu-01": 5, NOT_SCHEDULED: 2.5}
    summary = result["summary"]
    assert (summary["pods"], summary["exclusive"], summary["finished"]) == (5, 2, 1)
    assert summary["reasons"] == {"fractional_cpu": 3}
    json.dumps(result)


def test_all_pods_of_a_named_node_are_listed_with_what_they_request() -> None:
    here = {"nodeName": "gpu-01"}
    going = named("going", {**WHOLE, **here})
    going["metadata"]["deletionTimestamp"] = "2026-11-28T08:00:00Z"
    pods = [
        named("gpu", {**WHOLE, **here}),
        named("web", {**pod(side("100m 64Mi")), **here}),
        named("done", {**WHOLE, **here}, status={"phase": "Failed"}),
        going,
        named("elsewhere", {**WHOLE, "nodeName": "gpu-02"}),
    ]
    result = audit(Cluster(pods, [], NOTHING_KNOWN), {"gpu-01": {}, "gpu-03": {}}, PREFIXES, 1)
    assert {node: [one["name"] for one in found] for node, found in result["requests"].items()} == {
        "gpu-01": ["ml/gpu", "ml/web"],
        "gpu-03": [],
    }
    assert result["requests"]["gpu-01"][1]["containers"][0]["requests"] == {"cpu": "100m", "memory": "64Mi"}


class CountedCluster(Cluster):
    """Notes the nodes that the API and their kubelets are asked about."""

    def __init__(self, pods: list[Any]) -> None:
        super().__init__(pods, [], Node(whole_gpus=8))
        self.asked: list[str] = []

    def node_facts(self, name: str) -> Any:
        self.asked.append(name)
        return super().node_facts(name)


def test_nodes_are_read_only_if_their_pods_request_a_gpu() -> None:
    cluster = CountedCluster(
        [
            named("gpu", {**WHOLE, "nodeName": "gpu-01"}),
            named("web", {**pod(side("100m 64Mi")), "nodeName": "gpu-02"}),
        ]
    )
    result = audit(cluster, {"gpu-01": {}, "gpu-02": {}, "gpu-03": {}}, PREFIXES, 1)
    assert cluster.asked == ["gpu-01"]
    assert result["whole_gpus"] == {"gpu-01": 8, "gpu-02": None, "gpu-03": None}


def test_a_quantity_that_is_none_names_its_pod() -> None:
    with pytest.raises(TuningError, match=r'ml/odd cannot be understood: "two" is not a Kubernetes quantity'):
        audit(Cluster([named("odd", pod(main("two 1Gi")))], [], NOTHING_KNOWN), {}, PREFIXES, 1)


@pytest.mark.parametrize(
    ("node", "exclusive", "pool", "risk", "patched"),
    [
        pytest.param(Node(pod_level=True, pod_scope=True), True, "pod", "low", [], id="the whole pod"),
        pytest.param(Node(pod_level=True), True, "node", "low", [], id="its containers"),
        pytest.param(Node(pod_level=False), False, "node", "high", ["side"], id="nothing of it"),
    ],
)
def test_a_sidecar_of_a_pod_that_is_managed_as_a_whole_needs_no_cpus_of_its_own(
    node: Any, exclusive: bool, pool: str, risk: str, patched: Any
) -> None:
    own = {"limits": amounts("3 4Gi"), "requests": amounts("3 4Gi")}
    spec = pod(main("2 1Gi"), side("100m 64Mi"), resources=own)
    template = {"template": {"spec": spec}}
    known = node._replace(kubelet=parse_version("1.37.2"), policy="static")
    result = audit(
        Cluster(
            [named("a", {**spec, "nodeName": "gpu-01"}, controller=("StatefulSet", "a"))],
            [named("a", template, "StatefulSet")],
            known,
        ),
        {},
        PREFIXES,
        1,
    )
    (item,), (owner,) = result["pods"], result["owners"]
    assert (item["exclusive"], item["containers"][1]["pool"]) == (exclusive, pool)
    (cause,) = [cause for cause in item["risk"]["causes"] if cause["code"] == "container_update"]
    assert cause["grade"] == risk
    entries = owner["patch"]["spec"]["template"]["spec"]["containers"] if owner["patch"] else []
    assert [entry["name"] for entry in entries] == patched
    assert ("pod_level_resources" in result["summary"]["reasons"]) == (not exclusive)
