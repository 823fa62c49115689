# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.report import preview_nodes, preview_text
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import Topology, topology_of
from ansible_collections.kubepin.tuning.tests.unit.samples.dumps import topologies
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import topology_facts

from tests.topologies import MACHINES, tree

SETTINGS = {
    "kubelet_version": "1.22.17",
    "reserved_cpus": "auto",
    "reserved_cpu_count": "",
    "policy_options": "",
    "topology_manager_policy": "",
    "topology_manager_scope": "",
    "memory_manager_policy": "",
    "reserved_memory": "",
    "profile": "",
    "pod_cpus": 12,
    "pods": [],
}


@cache
def generated(machine: str) -> Topology:
    return topology_of(Memory(tree(MACHINES[machine])))


def node(name: str, machine: str = "epyc-7773x-nps4", **changes: Any) -> dict[str, Any]:
    return {"node": name, "topology": generated(machine), "kubelet": {}, "error": "", "settings": SETTINGS, **changes}


def text(*nodes: dict[str, Any], **settings: Any) -> str:
    return preview_text(preview_nodes([{**one, "settings": {**SETTINGS, **settings}} for one in nodes]))


def test_a_refused_pod_is_explained_with_what_would_let_it_in() -> None:
    pods = [{"cpu": 8, "nvidia.com/gpu": 1}, {"cpu": "8", "nvidia.com/gpu": 2}, "33"]
    shown = text(node("gpu-01"), pods=pods, topology_manager_policy="single-numa-node", kubelet_version="1.36.3")
    assert "pod 1  8, 1 nvidia.com/gpu" in shown
    assert (
        "  pod 2 would be refused: TopologyAffinityError: Resources cannot be allocated with Topology locality\n"
        "    any of these would let it in: nvidia.com/gpu 1, topologyManagerPolicy best-effort\n"
    ) in shown
    assert "    any of these would let it in: cpu 32, topologyManagerPolicy restricted\n" in shown


def test_a_pod_whose_devices_depend_on_an_earlier_one_says_so() -> None:
    pods = [{"cpu": 8, "nvidia.com/gpu": 7}, {"cpu": 8, "nvidia.com/gpu": 1}, {"cpu": 8}]
    shown = text(node("gpu-01"), pods=pods, kubelet_version="1.36.3")
    first, second, third = (line for line in shown.splitlines() if line.startswith(("    a  ", "    b  ", "    c  ")))
    assert first.endswith("(one of several)")
    assert second.endswith("7 (one of several)")
    assert "one of several" not in third
    assert (
        "  pod 1 is one of several possible results: the kubelet may choose other nvidia.com/gpu devices\n"
        "  pod 2 is one of several possible results: its nvidia.com/gpu devices depend on what pod 1 gets\n"
    ) in shown
    assert "pod 3 is one of" not in shown


def test_memory_is_previewed_with_the_memory_manager() -> None:
    memory = {"memory_manager_policy": "Static", "reserved_memory": [{"numa_node": 0, "limits": {"memory": "1124Mi"}}]}
    kubelet = {"effective": {**DEFAULTS, "kubeReserved": {"memory": "1Gi"}}}
    one = node("gpu-01", kubelet=kubelet)
    shown = text(one, pods=[{"cpu": 4, "memory": "120Gi"}, {"cpu": 4, "memory": "200Gi"}], **memory)
    lines = [line.split() for line in shown.splitlines() if line.strip()[1:3] == "  " and "pod " in line]
    assert [line[-2:] for line in lines] == [["0", "-"], ["1-2", "-"]]
    assert "Pods without a memory request" not in shown
    assert "Pods without a memory request" in text(one, pods=["4"], **memory)


def test_what_a_pod_itself_requests_is_named_beside_what_its_container_does() -> None:
    shown = text(node("gpu-01"), pods=[{"pod": {"cpu": 12, "memory": "64Gi"}, "nvidia.com/gpu": 1}, {"pod": 4}])
    assert "pod of 12 cpu and 64Gi memory, 1 nvidia.com/gpu  shared pool" in shown
    assert "pod of 4 cpu" in shown


def test_the_drawing_shows_each_cpu_once() -> None:
    lines = preview_nodes([node("gpu-01", "one-socket")])[0]["drawing"]
    assert lines == [
        "  socket 0",
        "    NUMA 0   GPUs 0000:01:00.0, 0000:11:00.0",
        "      L3 0       #aaaaaab #aaaaaab   0-7,16-23",
        "      L3 1       bbbbb::: bbbbb:::   8-15,24-31",
    ]


def test_a_profile_is_shown_with_who_asks_for_each_setting_and_where_the_memory_comes_from() -> None:
    shown = text(node("gpu-01"), profile="numa", topology_manager_scope="pod")
    assert "  profile numa\n" in shown
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.splitlines() if line.startswith("    ")}
    assert rows["topologyManagerPolicy"] == "profile numa restricted"
    assert rows["topologyManagerScope"] == "your setting pod"
    assert rows["reservedMemory"].startswith("computed NUMA node 0 memory=12Mi; NUMA node 1 memory=13Mi")
    assert "100Mi in all, as the kubelet demands: kubeReserved 0 + systemReserved 0 + evictionHard 100Mi" in shown
    assert "profile" not in text(node("gpu-01"))


def test_an_unknown_profile_is_named_with_those_that_there_are() -> None:
    assert 'profile "uma" is unknown: expected one of balanced, numa, l3' in text(node("gpu-01"), profile="uma")


@pytest.mark.parametrize("archive", ["hwloc", "util-linux"])
def test_every_dump_is_drawn_with_all_its_online_cpus(archive: str) -> None:
    for name, topology in topologies(archive).items():
        (preview,) = preview_nodes([node(name, topology=topology, settings={**SETTINGS, "pod_cpus": 1000})])
        if not preview["problems"]:
            cells = [
                cells for line in preview["drawing"] if line.startswith(" " * 6) for cells in line[17:].split("   ")[:1]
            ]
            assert sum(len(part.replace(" ", "")) for part in cells) == sum(
                cpu["online"] for cpu in topology["cpus"]
            ), name


def test_text_of_a_node() -> None:
    shown = text(node("gpu-01"))
    assert shown.startswith("kubepin: preview of 1 node under the static policy. Nothing was changed.\n\n== gpu-01\n")
    for part in (
        "CPUs 0-255 online: 2 sockets, 8 NUMA nodes, 16 L3 groups, 2 threads a core, 8 GPUs",
        "reserved 0,128   (1 core, L3 0, NUMA 0, 1 GPU)",
        "b  pod 2   12       7-12,135-140     0-1    0     1",
        "of 21 with exclusive CPUs: 6 inside one L3 group, 14 inside one NUMA node, 14 beside a GPU",
        "advice: reserve 0-7,128-135 (cpu_manager_reserved_cpus), ask for 16 CPUs a pod: 15 of 15 pods stay inside one L3 group, "
        "instead of 6 of 21.",
        "With pods of 12 CPUs: reserve 0-1,128-129 (cpu_manager_reserved_cpus): 11 of 21.",
    ):
        assert part in shown


def test_same_nodes_share_a_text() -> None:
    shown = text(node("gpu-01"), node("gpu-02"), node("gpu-03", "one-socket"))
    assert "== gpu-01, gpu-02\n" in shown
    assert "== gpu-03\n" in shown


@pytest.mark.parametrize(
    ("machine", "settings", "expected"),
    [
        pytest.param("one-socket", {"pods": "12,40"}, "pod 2 would be refused: UnexpectedAdmissionError", id="refused"),
        pytest.param("one-socket", {"pods": ["500m"]}, "shared pool", id="a fraction"),
        pytest.param("one-socket", {"pod_cpus": 20}, "advice: none. Pods of 20 CPUs fit into no L3 group", id="too large a pod"),
        pytest.param("one-socket", {"pod_cpus": 1}, "room for pods of 1 CPU: ", id="one CPU"),
        pytest.param("one-socket", {"pod_cpus": 13}, "advice: 1 of 2 pods of 13 CPUs stay inside one L3 group; no reservation",
                     id="nothing better"),
        pytest.param("epyc-7773x-nps1", {"pod_cpus": "16", "reserved_cpus": "0-7,128-135"}, "advice: nothing to change. All 15 pods",
                     id="nothing to change"),
        pytest.param("one-socket", {"topology_manager_policy": "restricted"}, "topology manager restricted per container", id="aligned"),
        pytest.param("one-socket", {"pod_cpus": "x", "policy_options": "y"},
                     'problem: pod_cpus "x" is invalid: expected a whole number of CPUs.',
                     id="no number"),
        pytest.param("one-socket", {"policy_options": "y"}, 'problem: policy_options "y" is invalid: expected a dictionary',
                     id="no options"),
        pytest.param("one-socket", {"reserved_cpu_count": "two"}, 'problem: reserved_cpu_count "two" is invalid: expected a whole number',
                     id="no count"),
        pytest.param("one-socket", {"reserved_cpu_count": "4"}, "reserved_cpu_count is 4.", id="a count"),
        pytest.param("one-socket", {"kubelet_version": ""}, "problem: the kubelet's version could not be read", id="no version"),
    ],
)  # fmt: skip
def test_the_text_names_what_matters(machine: str, settings: dict[str, Any], expected: str) -> None:
    assert expected in text(node("gpu-01", machine), **settings)


def test_the_text_says_which_setting_of_the_node_prevents_a_prediction() -> None:
    closest = {"topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "true"}}
    kubelet = {"version": "1.36.3", "effective": {**DEFAULTS, **closest}}
    said = text(node("gpu-01", "one-socket", kubelet=kubelet), topology_manager_policy="restricted")
    assert "which CPUs pods get is not known: topologyManagerPolicyOptions prefer-closest-numa-nodes is on" in said


def test_bad_settings_have_codes() -> None:
    settings = {**SETTINGS, "pod_cpus": "x", "reserved_cpu_count": "two", "policy_options": "y"}
    (preview,) = preview_nodes([node("gpu-01", settings=settings)])
    codes = ["pod_cpus_invalid", "reserved_cpu_count_invalid", "policy_options_invalid"]
    assert [problem["code"] for problem in preview["problems"]] == codes


def test_a_node_that_was_not_read_is_named_and_others_are_previewed() -> None:
    shown = text(node("gpu-01", error="no route to host", topology={}), node("gpu-02"))
    assert "== gpu-01\n  problem: no route to host.\n" in shown
    assert "== gpu-02\n  CPUs 0-255" in shown


def test_a_node_whose_topology_cannot_be_read_is_named_with_all_its_problems_and_others_are_previewed() -> None:
    facts = {**generated("one-socket"), "online": "all"}
    bad, good = preview_nodes(
        [node("gpu-01", topology=facts, settings={**SETTINGS, "pod_cpus": "x"}), node("gpu-02", "one-socket")]
    )
    assert [problem["code"] for problem in bad["problems"]] == ["topology_unreadable", "pod_cpus_invalid"]
    assert bad["problems"][0]["text"].startswith('the topology cannot be read: online is "all" (expected a CPU list')
    assert good["problems"] == []


def test_previews_are_plain_data() -> None:
    previews = preview_nodes([node("gpu-01")])
    assert json.loads(json.dumps(previews)) == previews


SMALL = topology_facts(cores=4, threads=2, numa_nodes=2, cores_per_l3=2, sockets=2)


def test_a_small_node_is_previewed_with_pods_that_fit() -> None:
    """8 CPUs, of which 6 can be exclusive: the usual 12 CPUs of a pod would leave the preview empty."""
    small = node("small", topology=SMALL, settings={**SETTINGS, "pod_cpus": ""})
    (preview,) = preview_nodes([small])
    assert (preview["room"]["pod_cpus"], preview["room"]["anywhere"], len(preview["pods"])) == (2, 3, 3)
    shown = preview_text([preview])
    assert "as many pods of 2 as fit" in shown
    assert "All 3 pods of 2 CPUs stay inside one L3 group" in shown
    assert preview_nodes([node("large", settings={**SETTINGS, "pod_cpus": ""})])[0]["room"]["pod_cpus"] == 12


def test_a_size_that_does_not_fit_is_named_with_the_variable_and_what_fits() -> None:
    shown = text(node("small", topology=SMALL))
    assert "no pod of 12 CPUs fits: 6 CPUs can be exclusive. Set node_preview_pod_cpus to 6 or less." in shown
    assert "Set node_preview_pod_cpus to 4 or less." in shown


def test_a_kubelet_that_does_not_start_is_noted() -> None:
    broken = {"start_problem": {"text": "the kubelet does not stay up. Remove the file."}, "version": "1.36.3"}
    assert "note: the kubelet does not stay up. Remove the file." in text(node("gpu-01", kubelet=broken))
