# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods kubelets would refuse after a switch, on nodes without a planned switch."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.outlook import (
    forecast_lines,
    gpu_pods_forecast,
    too_big,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import containers_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import request_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import UNSET

from tests.topologies import Machine, tree

GPU = "nvidia.com/gpu"
TOPOLOGY = topology_of(Memory(tree(Machine(2, 8, 2, 1, 1, gpus=(0, 1), memory_mib=(16384, 16384)))))
AFFINITY = "TopologyAffinityError: Resources cannot be allocated with Topology locality"
OF_DAEMON_SET = [{"kind": "DaemonSet", "name": "agent", "controller": True}]
SETTINGS = {**UNSET, "profile": "balanced", "reserved_cpus": "auto", "reserved_memory": []}


def request(name: str, cpu: str, gpus: int = 0, **metadata: Any) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": "1Gi", **({GPU: str(gpus)} if gpus else {})}
    item = {
        "metadata": {"namespace": "ml", "name": name, "creationTimestamp": "2026-11-28T08:00:00Z", **metadata},
        "spec": {"containers": [{"name": "main", "resources": {"limits": amounts}}]},
    }
    return request_of(item, containers_of(item["spec"], ["nvidia.com/"]))


def forecast(
    *requests: dict[str, Any],
    kubelet: dict[str, Any] | None = None,
    topology: Any = TOPOLOGY,
    gpus: int | None = 2,
    error: str = "",
    **settings: Any,
) -> dict[str, Any]:
    audit = {"pods": [], "requests": {"gpu-01": [*requests]}, "whole_gpus": {"gpu-01": gpus}, "problems": []}
    switch = {
        "topology": topology,
        "kubelet": {"version": "1.36.3", "effective": DEFAULTS} if kubelet is None else kubelet,
        "settings": {**SETTINGS, **settings},
        "error": error,
    }
    found = gpu_pods_forecast(audit, [{"node": "gpu-01", "switch": switch}, {"node": "gpu-02"}, {}])
    assert found["requests"] == audit["requests"]
    (node,) = found["forecast"]
    return dict(node)


def refused(found: dict[str, Any]) -> dict[str, list[str]]:
    return {one["pod"]: [f"{r['what']} {r['value']}" for r in one["remedies"]] for one in found["refused"]}


def test_a_running_pod_is_tried_with_the_settings_asked_for() -> None:
    pods = [request("wide", "20", gpus=1), request("small", "4", gpus=1)]
    assert refused(forecast(*pods)) == {}
    found = forecast(*pods, profile="numa")
    assert (found["profile"], found["pods"], found["in_effect"], found["problems"]) == ("numa", 2, False, [])
    assert found["refused"][0]["reason"] == AFFINITY
    assert refused(found) == {"ml/wide": ["cpu 16", "topologyManagerPolicy best-effort"]}


def test_a_pod_of_half_a_core_is_refused_where_only_whole_cores_are_given() -> None:
    found = forecast(request("odd", "3"), policy_options={"full-pcpus-only": True})
    assert found["refused"][0]["reason"].startswith("SMTAlignmentError")
    assert refused(found) == {"ml/odd": ["cpu 2"]}


def test_gpus_count_if_the_node_offers_all_of_its_bus() -> None:
    both = request("both", "4", gpus=2)
    assert list(refused(forecast(both, topology_manager_policy="single-numa-node"))) == ["ml/both"]
    assert refused(forecast(both, topology_manager_policy="single-numa-node", gpus=16)) == {}


def test_pods_that_a_drain_leaves_come_first() -> None:
    pods = [request("first", "16"), request("agent", "16", ownerReferences=OF_DAEMON_SET)]
    assert list(refused(forecast(*pods))) == ["ml/first"]
    found = forecast(request("a", "16"), request("b", "16"))
    assert ([one["pod"] for one in found["no_room"]], found["refused"]) == (["ml/b"], [])


def test_settings_in_effect_need_no_forecast() -> None:
    running = {**DEFAULTS, "cpuManagerPolicy": "static", "reservedSystemCPUs": "0,16"}
    found = forecast(request("big", "32"), kubelet={"version": "1.36.3", "effective": running})
    assert (found["in_effect"], found["refused"]) == (True, [])
    assert forecast(kubelet={"version": "1.36.3", "effective": running}, profile="numa")["in_effect"] is False


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"error": "Permission denied"}, "Permission denied"),
        ({"reserved_cpu_count": "two"}, "reserved_cpu_count"),
        ({"reserved_cpus": "0-31"}, "leaves no CPU for pods"),
        ({"topology": {"schema": 7}}, "schema"),
        ({"kubelet": {}}, "version"),
        (
            {
                "kubelet": {
                    "version": "1.36.3",
                    "effective": {"topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "true"}},
                },
                "topology_manager_policy": "restricted",
            },
            "prefer-closest-numa-nodes",
        ),
    ],
    ids=["unread", "not a number", "refused", "topology", "no kubelet", "not previewed"],
)
def test_what_is_not_known_is_said(given: dict[str, Any], says: str) -> None:
    found = forecast(request("a", "4"), **given)
    assert says in " ".join(problem["text"] for problem in found["problems"])
    (_title, line) = forecast_lines([found])
    assert line.startswith("  gpu-01, profile balanced: not known: ")
    assert (found["in_effect"], found["refused"]) == (False, [])


def test_the_report_names_each_pod_and_what_would_let_it_in() -> None:
    found = forecast(request("wide", "20"), request("a", "14"), request("b", "14"), request("c", "14"), profile="numa")
    assert forecast_lines([found]) == [
        "after a switch to the static policy, with the requested settings:",
        "  gpu-01, profile numa: 1 of 4 pods would be refused",
        f"    ml/wide: {AFFINITY}; any of these would let it in: cpu 16, topologyManagerPolicy best-effort",
        f"    if all pods come back: ml/c: {AFFINITY}",
        "  If a pod would be refused, tune-gpu-nodes.yml stops before it changes anything (problem code pod_refused). To continue, use "
        "-e gpu_qos_accept_refused=true.",
    ]
    in_effect = {**found, "refused": [], "no_room": [], "in_effect": True}
    assert forecast_lines([in_effect])[1:] == ["  gpu-01, profile numa: these settings are already in effect"]
    assert forecast_lines([]) == []


def test_nodes_with_the_same_result_share_a_line() -> None:
    admitted, refusing = forecast(request("a", "4")), forecast(request("wide", "31"))
    nodes = [{**admitted, "node": f"gpu-{number:02}", "pods": number} for number in range(7)]
    lines = forecast_lines([*nodes, {**refusing, "node": "gpu-07"}])
    assert lines[1] == (
        "  gpu-00, gpu-01, gpu-02, gpu-03, gpu-04 and 2 more, profile balanced: no pod would be refused"
    )
    assert lines[2] == "  gpu-07, profile balanced: 1 of 1 pod would be refused"
    assert len(lines) == 5


def test_by_the_api_alone_a_pod_of_all_cpus_is_too_big_for_its_node() -> None:
    pods = [request("all", "32"), request("most", "31"), request("agent", "500m", ownerReferences=OF_DAEMON_SET)]
    assert too_big(pods, 32, {}, "1.36.3") == ["ml/all", "ml/most"]
    assert too_big(pods[:2], 32, {}, "1.36.3") == ["ml/all"]
    assert too_big(pods[:2], 32, {"kubeReserved": {"cpu": "2"}}, "1.36.3") == ["ml/all", "ml/most"]


@pytest.mark.parametrize(
    "settings", [{}, {"cpuManagerPolicyOptions": {"full-pcpus-only": "true"}}], ids=["none", "options"]
)
def test_only_what_is_certain_by_the_api_is_too_big(settings: dict[str, Any]) -> None:
    assert too_big([request("odd", "3"), request("wide", "30")], 32, settings, "1.36.3") == []


def test_a_node_whose_container_runtime_could_not_be_read_is_named_with_the_reason() -> None:
    audit: dict[str, Any] = {"requests": {}, "whole_gpus": {}, "problems": []}
    read = {"node": "gpu-00", "runtime_error": ""}
    unread = [{"node": f"gpu-{number:02}", "runtime_error": "the host did not answer."} for number in range(1, 9)]
    (problem,) = gpu_pods_forecast(audit, [read, *unread, {}])["problems"]
    assert problem["code"] == "runtime_unread"
    assert "gpu-01, gpu-02" in problem["text"]
    assert "gpu-00" not in problem["text"]
    assert "the host did not answer" in problem["text"]
