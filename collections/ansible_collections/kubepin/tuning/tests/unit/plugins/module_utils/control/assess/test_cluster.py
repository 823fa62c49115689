# SPDX-License-Identifier: GPL-3.0-or-later
"""What an assessment says of clusters of which all, a part or nothing can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.cluster import Seen, assess_cluster
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.reader import read_cluster
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod, side
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem

if TYPE_CHECKING:
    from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource

STATIC = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "topologyManagerPolicy": "none"}
NONE = {"cpuManagerPolicy": "none", "kubeReserved": {"cpu": "100m"}}


def node(name: str, gpus: int = 1, version: str = "v1.36.3", ready: str = "True", **labels: str) -> dict[str, Any]:
    amounts = {"cpu": "64", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "nodeInfo": {"kubeletVersion": version, "containerRuntimeVersion": "containerd://2.1.4"},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def placed(name: str, spec: dict[str, Any], on: str = "gpu-01", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ml", "name": name, **metadata}, "spec": {**spec, "nodeName": on}}


def seen(**changes: Any) -> Seen:
    known: dict[str, Any] = {
        "server": "https://api:6443",
        "version": "v1.36.3",
        "version_error": "",
        "nodes": [node("gpu-01"), node("gpu-02"), node("cpu-01", gpus=0)],
        "configz": {"gpu-01": NONE, "gpu-02": STATIC},
        "pods": [],
    }
    return Seen(**{**known, **changes})


def codes(found: dict[str, Any], of: str = "findings") -> list[str]:
    return [problem["code"] for problem in found[of]]


def test_nodes_have_their_settings_and_each_policy_its_next_step() -> None:
    found = assess_cluster(seen())
    assert found["other_nodes"] == 1
    assert [(one["name"], one["policy"], one["reserved"]) for one in found["nodes"]] == [
        ("gpu-01", "none", "100m"),
        ("gpu-02", "static", "CPUs 0"),
    ]
    assert codes(found) == ["policy_none", "policy_static", "no_gpu_pods"]
    assert "kubepin tune" in found["findings"][0]["remedy"]
    assert "kubepin check" in found["findings"][1]["remedy"]


def test_nodes_of_each_installer_have_a_next_step_of_their_own() -> None:
    nodes = [node("gpu-01"), node("gpu-02", version="v1.31.4+rke2r1")]
    found = assess_cluster(seen(nodes=nodes, configz={"gpu-01": NONE, "gpu-02": NONE}))
    steps = {one["subject"]: one["remedy"] for one in found["findings"] if one["code"] == "policy_none"}
    assert "kubepin emit --format rke2" in steps["1 GPU node (gpu-02)"]
    assert "kubepin tune" in steps["1 GPU node (gpu-01)"]


def test_pods_are_counted_as_they_are_and_as_they_would_be() -> None:
    pods = [
        placed("ready", pod(main("2 1Gi"))),
        placed("pinned", pod(main("2 1Gi")), on="gpu-02"),
        placed("fractional", pod(main("1500m 1Gi"))),
        placed("without-gpu", pod(side("1"))),
    ]
    found = assess_cluster(seen(pods=pods))
    assert found["pods"] == {"total": 3, "exclusive": 1, "exclusive_if_static": 2}
    rows = {one["owner"]: one for one in found["owners"]}
    assert rows["Pod/ready"]["reasons"] == ["policy_not_static"]
    assert rows["Pod/ready"]["reasons_if_static"] == []
    assert rows["Pod/fractional"]["reasons_if_static"] == ["fractional_cpu"]
    assert codes(found) == [
        "threads_not_set",
        "policy_none",
        "policy_static",
        "pods_wait_for_policy",
        "pods_not_exclusive",
    ]
    wait, shared = found["findings"][-2:]
    assert (wait["subject"], shared["subject"]) == ("1 GPU pod", "1 GPU pod")


def test_pods_that_a_switch_would_refuse_for_their_size_are_named_before_it() -> None:
    pods = [placed("whole", pod(main("64 1Gi"))), placed("fits", pod(main("60 1Gi")))]
    found = assess_cluster(seen(pods=pods))
    (problem,) = (one for one in found["findings"] if one["code"] == "pods_too_big")
    assert problem["subject"] == "1 pod (ml/whole)"
    assert "requests more CPUs than the static policy would leave to pods on its node" in problem["finding"]
    # what is static already, and what cannot be read, says nothing
    there = [placed("whole", pod(main("64 1Gi")), on="gpu-02"), placed("other", pod(main("64 1Gi")), on="cpu-01")]
    assert "pods_too_big" not in codes(assess_cluster(seen(pods=there)))
    assert "pods_too_big" not in codes(assess_cluster(seen(pods=pods, configz={})))


def test_pods_of_one_owner_are_one_row() -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "ml", "name": "trainer"},
        "spec": {"template": {"spec": pod(main("2 1Gi"))}},
    }
    reference = [{"kind": "StatefulSet", "name": "trainer", "controller": True}]
    pods = [placed(f"trainer-{n}", pod(main("2 1Gi")), on=f"gpu-0{n}", ownerReferences=reference) for n in (1, 2)]
    (row,) = assess_cluster(seen(pods=pods, owners=[deployment]))["owners"]
    assert (row["owner"], row["pods"], row["nodes"]) == ("StatefulSet/trainer", 2, ["gpu-01", "gpu-02"])
    assert (row["exclusive"], row["exclusive_if_static"]) == (1, 2)


def test_exclusive_cpus_on_a_node_of_unknown_policy_are_not_claimed() -> None:
    pods = [placed("ready", pod(main("2 1Gi")))]
    found = assess_cluster(seen(configz={}, configz_errors={"gpu-01": "no"}, pods=pods))
    assert found["pods"] == {"total": 1, "exclusive": 0, "exclusive_if_static": 1}
    assert found["owners"][0]["exclusive"] is None


def test_what_could_not_be_seen_is_named_with_what_it_needs() -> None:
    errors = {"gpu-01": "gpu-01 is forbidden.", "gpu-02": "gpu-02 is forbidden."}
    found = assess_cluster(
        seen(
            configz={}, configz_errors=errors, pods=None, pods_error="forbidden", owners_error="forbidden", version=None
        )
    )
    assert codes(found, "unseen") == [
        "version_unseen",
        "configz_unseen",
        "pods_unseen",
        "owners_unseen",
        "only_on_nodes",
        "only_by_measuring",
    ]
    assert "2 GPU nodes (gpu-01, gpu-02)" in found["unseen"][1]["subject"]
    assert "nodes/proxy" in found["unseen"][1]["remedy"]
    assert found["pods"] is None
    assert [one["policy"] for one in found["nodes"]] == [None, None]
    assert codes(found) == []


def test_a_cluster_without_gpus_is_told_what_to_install() -> None:
    found = assess_cluster(seen(nodes=[node("cpu-01", gpus=0)], configz={}))
    assert (codes(found), found["nodes"], found["other_nodes"]) == (["no_gpu_nodes"], [], 1)


def test_a_gpu_node_is_known_by_its_label_too() -> None:
    labelled = node("gpu-01", gpus=0, **{"nvidia.com/gpu.present": "true"})
    assert [one["name"] for one in assess_cluster(seen(nodes=[labelled]))["nodes"]] == ["gpu-01"]


def test_obstacles_come_before_the_switch() -> None:
    agent = placed("koordlet-x", pod(side("1", name="koordlet")))
    nodes = [node("gpu-01", version="v1.21.14", ready="False")]
    found = assess_cluster(seen(nodes=nodes, configz={}, configz_errors={"gpu-01": "not Ready"}, pods=[agent]))
    assert codes(found)[:3] == ["node_not_ready", "old_kubelet", "other_cpu_manager"]


class Api:
    """A stand-in for an API server that refuses some requests."""

    server = "https://api:6443"

    def __init__(self, *refused: str) -> None:
        self._refused = refused

    def _answer(self, name: str, answer: Any) -> Any:
        if name in self._refused:
            raise ApiError(a_problem(f"{name} is forbidden"), 403, "forbidden")
        return answer

    def nodes(self) -> Any:
        return self._answer("nodes", [node("gpu-01"), node("gpu-02", ready="False"), node("cpu-01", gpus=0)])

    def configz(self, name: str) -> Any:
        return self._answer("configz", {"gpu-01": STATIC}[name])

    def version(self) -> Any:
        return self._answer("version", "v1.36.3")

    def pods(self) -> Any:
        return iter(self._answer("pods", [placed("a", pod(main("2 1Gi")))]))

    def owners(self) -> Any:
        return iter(self._answer("owners", []))


def test_only_ready_gpu_nodes_are_asked_for_their_configuration() -> None:
    found = read_cluster(cast("ApiSource", Api()))
    assert dict(found.configz) == {"gpu-01": STATIC}
    assert list(found.configz_errors) == ["gpu-02"]
    assert found.pods is not None
    assert len(found.pods) == 1


def test_a_refused_request_costs_only_what_it_would_have_told() -> None:
    found = read_cluster(cast("ApiSource", Api("configz", "version", "pods", "owners")))
    assert (found.pods, found.version, found.owners) == (None, None, [])
    assert found.configz_errors["gpu-01"] == "configz is forbidden."
    assert "pods is forbidden" in found.pods_error
    assert assess_cluster(found)["nodes"]
