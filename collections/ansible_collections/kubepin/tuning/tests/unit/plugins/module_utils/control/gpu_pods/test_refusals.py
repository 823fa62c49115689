# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import containers_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.preflight import gpu_pods_preflight
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import (
    Forecast,
    refusal_problems,
    request_of,
    whole_gpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import (
    forecast as forecast_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS

from tests.topologies import Machine, tree

GPU = "nvidia.com/gpu"
TOPOLOGY = topology_of(Memory(tree(Machine(2, 8, 2, 1, 1, gpus=(0, 1), memory_mib=(16384, 16384)))))
AFFINITY = "TopologyAffinityError: Resources cannot be allocated with Topology locality"


AUDIT: dict[str, Any] = {"pods": [], "owners": [], "problems": []}


def request(name: str, cpu: str, created: int = 1, gpus: int = 0, limits: bool = True, **spec: Any) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": "1Gi", **({GPU: str(gpus)} if gpus else {})}
    container = {"name": "main", "resources": {"limits" if limits else "requests": amounts}}
    metadata = {"namespace": "ml", "name": name, "creationTimestamp": f"2026-11-28T0{created}:00:00Z"}
    item = {"metadata": metadata, "spec": {"containers": [container], **spec}}
    return request_of(item, containers_of(item["spec"], ["nvidia.com/"]))


def stack(*evicted: str, topology: Any = TOPOLOGY, gpus: int = 2, **settings: Any) -> dict[str, Any]:
    after = {
        **DEFAULTS,
        "version": "1.36.3",
        "reservedSystemCPUs": "0,16",
        "topologyManagerPolicy": "single-numa-node",
        **settings,
    }
    plan = {
        **{"changed": True, "problems": [], "policy": "static", "policy_before": "static", "kubelet_after": after},
        **{"gpu_resource": GPU, "gpus_before": gpus, "pods_to_evict": [f"ml/{name}" for name in evicted]},
    }
    return {"node": "gpu-01", "runtime": {}, "plan": plan, "topology": topology}


def forecast(node: dict[str, Any], requests: list[dict[str, Any]]) -> Forecast:
    plan = node["plan"]
    gpus = whole_gpus(plan["gpu_resource"], plan["gpus_before"])
    return forecast_of(Topology.of(node["topology"]), plan["kubelet_after"], requests, plan["pods_to_evict"], gpus)


def refused(found: Forecast) -> list[tuple[str, str, list[str]]]:
    return [(one.pod, one.reason, [f"{r.what} {r.value}" for r in one.remedies]) for one in found.refused]


def test_what_a_pod_requests_is_read_from_its_specification() -> None:
    found = request("a", "4", gpus=1, initContainers=[{"name": "log", "restartPolicy": "Always"}])
    assert (found["name"], found["qos"], found["own"], found["stays"]) == ("ml/a", "Burstable", {}, False)
    assert found["containers"] == [
        {"name": "log", "role": "sidecar", "requests": {}},
        {"name": "main", "role": "app", "requests": {"cpu": "4", "memory": "1Gi", GPU: "1"}},
    ]


def test_a_pod_of_more_cpus_than_a_node_has_is_refused_after_the_switch() -> None:
    found = forecast(stack("big", "small"), [request("big", "20"), request("small", "8", created=2)])
    assert refused(found) == [("ml/big", AFFINITY, ["cpu 16", "topologyManagerPolicy restricted"])]
    assert found.no_room == ()


def test_reserved_cpus_are_no_longer_for_pods() -> None:
    found = forecast(stack("all", topologyManagerPolicy="none"), [request("all", "31", limits=False)])
    assert refused(found)[0][1].startswith("OutOfcpu: Node didn't have enough resource: cpu, requested: 31000, used: 0")


def test_pods_that_stay_take_their_room_first_by_age() -> None:
    pods = [request("young", "10", created=3), request("old", "12", created=2), request("evicted", "15", created=1)]
    found = forecast(stack("evicted"), pods)
    assert [one.pod for one in found.refused] == ["ml/evicted"]
    assert forecast(stack("evicted"), pods[:2]).refused == ()


def test_pods_that_only_have_no_room_together_are_told_apart() -> None:
    pods = [request(name, "14", created=number) for number, name in enumerate("abc", 1)]
    found = forecast(stack(*"abc"), pods)
    assert (found.refused, [one.pod for one in found.no_room]) == ((), ["ml/c"])


def test_gpus_count_if_the_node_offers_those_on_its_bus() -> None:
    pods = [request("two", "2", gpus=2)]
    assert refused(forecast(stack("two"), pods)) == [
        ("ml/two", AFFINITY, [f"{GPU} 1", "topologyManagerPolicy best-effort"])
    ]
    assert forecast(stack("two", gpus=8), pods) == Forecast()  # shared by time-slicing


@pytest.mark.parametrize(
    ("metadata", "stays"),
    [
        ({"ownerReferences": [{"kind": "DaemonSet", "name": "agent", "controller": True}]}, True),
        ({"annotations": {"kubernetes.io/config.mirror": "1"}}, True),
        ({"ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": True}]}, False),
    ],
    ids=["daemon set", "static pod", "deployment"],
)
def test_who_stays_through_a_drain_is_known(metadata: dict[str, Any], stays: bool) -> None:
    item = {"metadata": {"name": "a", **metadata}, "spec": {"containers": []}}
    assert request_of(item, [])["stays"] is stays


def test_a_pod_with_resources_of_its_own_is_not_aligned_but_takes_its_room() -> None:
    own = {field: {"cpu": "20", "memory": "2Gi"} for field in ("limits", "requests")}
    whole = request("whole", "2", resources=own)
    assert forecast(stack("whole"), [whole]) == Forecast()
    small = request("small", "11", created=2)
    assert [one.pod for one in forecast(stack("whole", "small"), [whole, small]).no_room] == ["ml/small"]


def test_a_pod_with_too_much_of_its_own_is_let_in_with_less_but_no_less_than_its_containers_request() -> None:
    def found(container: str) -> list[tuple[str, str, list[str]]]:
        own = {field: {"cpu": "40", "memory": "2Gi"} for field in ("limits", "requests")}
        return refused(forecast(stack("whole"), [request("whole", container, resources=own)]))

    [(_pod, reason, enough)] = found("2")
    assert reason.startswith("OutOfcpu")
    assert enough == ["cpu 30"]
    assert found("35")[0][2] == []


def test_with_pod_level_managers_a_pod_with_resources_of_its_own_is_not_tried() -> None:
    own = {field: {"cpu": "40", "memory": "2Gi"} for field in ("limits", "requests")}
    node = stack("whole", featureGates={"PodLevelResourceManagers": True})
    assert forecast(node, [request("whole", "2", resources=own)]) == Forecast()


def test_what_cannot_be_predicted_is_named() -> None:
    options = {"prefer-closest-numa-nodes": "true"}
    assert "prefer-closest-numa-nodes is on" in forecast(stack(topologyManagerPolicyOptions=options), []).unknown
    unread = gpu_pods_preflight({**AUDIT, "requests": {}}, [stack(topology={"schema": 7})], False, False)
    assert "it is not known which pods the kubelet would refuse" in unread["warnings"][0]


def verdict(accepted: bool, **changes: Any) -> dict[str, Any]:
    node = stack("big")
    node["plan"].update(changes)
    audit = {**AUDIT, "requests": {"gpu-01": [request("big", "20")]}}
    return gpu_pods_preflight(audit, [node], False, accepted)


def test_a_refused_pod_stops_the_run_before_anything_is_disturbed() -> None:
    found = verdict(accepted=False)
    (problem,) = found["plans"]["gpu-01"]["problems"]
    assert found["plans"]["gpu-01"]["outcome"] == "refused"
    assert (problem["code"], problem["subject"], problem["waivable"]) == ("pod_refused", "pod ml/big", True)
    assert problem["text"] == (
        f"pod ml/big would be refused by the kubelet after the switch: {AFFINITY}. Any of these would let it in: cpu 16, "
        "topologyManagerPolicy restricted. Or go on with -e gpu_qos_accept_refused=true."
    )


def test_accepted_it_is_a_warning() -> None:
    found = verdict(accepted=True)
    assert found["plans"] == {}
    assert "gpu_qos_accept_refused is true, so the run goes on" in found["warnings"][0]


@pytest.mark.parametrize("change", [{"changed": False}, {"policy": "none"}], ids=["no switch", "back to none"])
def test_only_a_switch_to_the_static_policy_is_previewed(change: dict[str, Any]) -> None:
    assert verdict(accepted=False, **change)["plans"] == {}


def test_without_a_remedy_the_way_out_is_to_go_on() -> None:
    found = forecast(stack("big", topologyManagerPolicy="none"), [request("big", "500m", gpus=5)])
    (problem,) = refusal_problems(found)
    assert "Any of these would let it in: nvidia.com/gpu 2." in problem.remedy
