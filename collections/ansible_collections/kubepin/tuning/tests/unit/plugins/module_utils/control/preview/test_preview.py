# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.preview import (
    PodRequest,
    PreviewRequest,
    preview_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import DesiredSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.dumps import topologies
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS

from tests.topologies import MACHINES, tree

UNCORE = "prefer-align-cpus-by-uncorecache"


@cache
def generated(name: str) -> Topology:
    return Topology.of(topology_of(Memory(tree(MACHINES[name]))))


def requested(pods: tuple[str | PodRequest, ...] = (), pod_cpus: int = 12, **desired: Any) -> PreviewRequest:
    full = tuple(PodRequest(pod) if isinstance(pod, str) else pod for pod in pods)
    return PreviewRequest(DesiredSettings("static", **desired), pod_cpus, full)


def previewed(name: str, version: str = "1.22.17", **request: Any) -> dict[str, Any]:
    return preview_node(generated(name), version, None, requested(**request))


def test_the_tried_example() -> None:
    """What kubelet 1.22.17 was seen to give on a mounted tree of this machine: 12-CPU pods on 1-6, 7-12, 13-18 and siblings."""
    preview = previewed("epyc-7773x-nps4", pods=("12", "12", "12"))
    assert preview["reservation"]["cpus"] == "0,128"
    assert [pod["cpus"] for pod in preview["pods"]] == ["1-6,129-134", "7-12,135-140", "13-18,141-146"]
    assert [pod["l3_groups"] for pod in preview["pods"]] == [[0], [0, 1], [1, 2]]
    assert preview["inside"] == {"pods": 3, "l3_groups": 1, "numa_nodes": 2, "beside_gpu": 2}


def test_what_the_reservation_leaves() -> None:
    preview = previewed("epyc-7773x-nps4")
    assert preview["numa_nodes"][0] == {
        "id": 0,
        "cpus": "0-15,128-143",
        "reserved": "0,128",
        "left": "1-15,129-143",
        "left_count": 30,
        "gpus": ["0000:01:00.0"],
    }
    assert [group["left_count"] for group in preview["l3_groups"]] == [14] + [16] * 15
    assert preview["room"] == {"pod_cpus": 12, "anywhere": 21, "l3_groups": 16, "numa_nodes": 16, "beside_gpu": 16}
    assert len(preview["pods"]) == 21


def test_the_reservation_explains_itself() -> None:
    many, these = previewed("epyc-7773x-nps1")["reservation"]["reasons"]
    assert "710 millicores for 256 CPUs online" in many
    assert "cores of 2 threads: 2 CPUs" in many
    assert "NUMA node 0, as no node has fewer GPUs (GPUs per node: 0: 4, 1: 4)" in these


@pytest.mark.parametrize(
    ("name", "version", "size", "best"),
    [
        pytest.param("epyc-7773x-nps1", "1.22.17", 12, ("0-7,128-135", 16, {}), id="an L3 group reserved, and pods of one"),
        pytest.param("epyc-7773x-nps4", "1.36.3", 12, ("0,128", 16, {UNCORE: "true"}), id="the option, where there is one"),
        pytest.param("epyc-7773x-nps1", "1.32.0", 12, ("0-7,128-135", 16, {}), id="the option is alpha: not advised"),
        pytest.param("four-sockets", "1.22.17", 12, ("0-5,96-101", 12, {}), id="a reservation of a pod's size"),
        pytest.param("epyc-7773x-nps4", "1.22.17", 24, ("0-15,128-143", 32, {}), id="pods larger than an L3 group: NUMA node"),
    ],
)  # fmt: skip
def test_advice_keeps_all_pods_inside(
    name: str, version: str, size: int, best: tuple[str, int, dict[str, str]]
) -> None:
    planned, first, *_others = previewed(name, version, pod_cpus=size)["advice"]
    assert planned["kept_inside"] < planned["pods"]
    assert (first["reserved"], first["pod_cpus"], first["policy_options"]) == best
    assert first["kept_inside"] == first["pods"] > 0


def test_advice_followed_is_no_longer_given() -> None:
    advice = previewed("epyc-7773x-nps1", pod_cpus=16, reserved_cpus="0-7,128-135")["advice"]
    assert len(advice) == 1
    assert advice[0]["kept_inside"] == advice[0]["pods"] == 15


@pytest.mark.parametrize("name", list(MACHINES))
def test_advice_is_never_worse_and_never_reserves_much(name: str) -> None:
    for version in ("1.22.17", "1.36.3"):
        planned, *better = previewed(name, version)["advice"]
        for choice in better:
            assert choice["kept_inside"] / choice["pods"] >= planned["kept_inside"] / planned["pods"]
            assert choice["reserved_count"] * 8 <= len(generated(name).online)


def test_a_refused_pod_has_the_kubelets_message() -> None:
    pods = previewed("one-socket", pods=("12", "32", "500m"))["pods"]
    assert pods[0]["refused"] is None
    assert pods[1]["refused"].startswith("UnexpectedAdmissionError")
    assert (pods[2]["cpus"], pods[2]["refused"]) == ("", None)


def test_what_cannot_be_previewed_is_named() -> None:
    effective = {**DEFAULTS, "topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "true"}}
    desired = requested(topology_manager_policy="best-effort")
    preview = preview_node(generated("epyc-7773x-nps1"), "1.36.3", effective, desired)
    assert "prefer-closest-numa-nodes is on" in preview["pods_unknown"]
    assert preview["pods"] == preview["advice"] == []
    assert preview["room"]["anywhere"] == 21


def test_a_topology_policy_refuses_the_pods_that_fit_into_no_numa_node() -> None:
    preview = previewed("epyc-7773x-nps4", topology_manager_policy="single-numa-node", pods=("32", "33"))
    aligned, refused = preview["pods"]
    assert (len(aligned["numa_nodes"]), aligned["refused"]) == (1, None)
    assert refused["refused"] == "TopologyAffinityError: Resources cannot be allocated with Topology locality"
    assert refused["remedies"] == [
        {"what": "cpu", "value": "32"},
        {"what": "topologyManagerPolicy", "value": "restricted"},
    ]


def test_a_pod_with_resources_of_its_own_is_not_aligned_but_takes_its_room() -> None:
    own = PodRequest("", {"nvidia.com/gpu": "1"}, {"cpu": "200", "memory": "64Gi"})
    preview = previewed("epyc-7773x-nps4", topology_manager_policy="single-numa-node", pods=(own, "32", "32"))
    whole, aligned, refused = preview["pods"]
    assert (whole["request"], whole["cpus"], whole["refused"], whole["device_nodes"]) == (
        "pod of 200 cpu and 64Gi memory, 1 nvidia.com/gpu",
        "",
        None,
        [0],
    )
    assert (aligned["numa_nodes"], aligned["refused"]) == ([1], None)
    assert refused["refused"].startswith(
        "OutOfcpu: Node didn't have enough resource: cpu, requested: 32000, used: 232000"
    )
    assert any("PodLevelResourceManagers" in note for note in preview["notes"])
    assert not any("PodLevelResourceManagers" in note for note in previewed("epyc-7773x-nps4")["notes"])


def test_the_nodes_own_settings_count() -> None:
    effective = {**DEFAULTS, "kubeReserved": {"cpu": "3500m"}, "cpuManagerPolicyOptions": {"full-pcpus-only": "true"}}
    preview = preview_node(generated("epyc-7773x-nps1"), "1.36.3", effective, requested())
    assert preview["reservation"]["cpus"] == "0-1,128-129"
    assert "kubeReserved and systemReserved ask for 3500" in preview["reservation"]["reasons"][0]
    assert preview["kubelet"]["policy_options"] == {"full-pcpus-only": "true"}


@pytest.mark.parametrize(
    ("name", "version", "settings", "problems"),
    [
        pytest.param("one-socket", "1.22.17", {"pod_cpus": 0, "pods": ("12", "x", "-1")},
                     ["pod_cpus 0 is invalid: expected 1 or more", 'pods[1] "x" is invalid', 'pods[2] "-1" is invalid'],
                     id="pods, all at once"),
        pytest.param("one-socket", "1.36.3", {"pods": (PodRequest("", {}, {"cpu": "x", "nvidia.com/gpu": "1"}),)},
                     ["pods[0] pod.nvidia.com/gpu is invalid: expected a pod-level resource: cpu", 'pods[0] pod.cpu "x" is invalid'],
                     id="a pod's own resources"),
        pytest.param("one-socket", None, {}, ["the kubelet's version could not be read"], id="no version"),
        pytest.param("one-socket", "1.19.16", {"reserved_cpus": "0"}, ["kubelet 1.19.16 is older", "splits core 0"],
                     id="version and reservation"),
        pytest.param("one-socket", "1.22.17", {"policy_options": {"align-by-socket": "true"}},
                     ["policy option align-by-socket needs kubelet 1.25"], id="an option that the version lacks"),
        pytest.param("epyc-7773x-l3-as-numa", "1.22.17", {"topology_manager_policy": "restricted"},
                     ["is refused by the kubelet on 16 NUMA nodes"], id="16 NUMA nodes"),
    ],
)  # fmt: skip
def test_refused(name: str, version: str | None, settings: dict[str, Any], problems: list[str]) -> None:
    preview = preview_node(generated(name), version, None, requested(**settings))
    assert set(preview) == {"schema", "problems"}
    assert len(preview["problems"]) == len(problems)
    for expected, problem in zip(problems, preview["problems"], strict=True):
        assert expected in problem["text"]


@pytest.mark.parametrize("archive", ["hwloc", "util-linux"])
def test_every_dump_is_previewed_or_refused_with_a_reason(archive: str) -> None:
    for name, facts in topologies(archive).items():
        preview = preview_node(Topology.of(facts), "1.22.17", None, requested(pod_cpus=2))
        if preview["problems"]:
            assert {problem["code"] for problem in preview["problems"]} == {"too_few_cores"}, (
                name,
                preview["problems"],
            )
        else:
            taken = [cpu for pod in preview["pods"] for cpu in parse_cpuset(pod["cpus"])]
            reserved = parse_cpuset(preview["reservation"]["cpus"])
            sound = len(taken) == len(set(taken)) and not reserved & set(taken)
            assert sound is (name != "16amd64-8n2c-cpusets"), name


def test_a_kubelet_that_gives_cpus_twice_is_named() -> None:
    """One CPU of a socket is offline: two CPUs a socket are 1 on average, so that a half-taken socket counts as free."""
    preview = preview_node(
        Topology.of(topologies("hwloc")["16amd64-8n2c-cpusets"]), "1.22.17", None, requested(pod_cpus=2)
    )
    assert [pod["cpus"] for pod in preview["pods"]][:3] == ["0-1", "2,5", "2-3"]
    assert "would give CPUs 0,2 to these pods although they are reserved or another pod's" in preview["notes"][0]
    assert any("kubelet counts with" in note for note in preview["notes"])


def test_notes_name_what_is_unusual() -> None:
    files = {
        **tree(MACHINES["one-socket"]),
        "sys/devices/system/cpu/isolated": "0-3",
        "sys/devices/system/cpu/online": "0-30",
    }
    notes = preview_node(Topology.of(topology_of(Memory(files))), "1.22.17", None, requested())["notes"]
    assert any("CPUs 31 are offline" in note for note in notes)
    assert any("CPUs 0-3 are isolated (isolcpus), which the kubelet ignores" in note for note in notes)
    power = preview_node(Topology.of(topologies("hwloc")["nvidiagpunumanodes"]), "1.22.17", None, requested())["notes"]
    assert any("NUMA nodes 250-255 have memory and no CPU" in note for note in power)
