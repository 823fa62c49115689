# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import DROP_INS, drop_in
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.report import (
    node_settings,
    node_settings_text,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import Topology, topology_of

from tests.topologies import MACHINES, tree

VARIABLES = {
    "kubelet_version": "1.36.3",
    "reserved_cpus": "auto",
    "reserved_cpu_count": "",
    "policy_options": "",
    "topology_manager_policy": "",
    "topology_manager_scope": "",
    "memory_manager_policy": "",
    "reserved_memory": [],
    "profile": "",
    "system_slices": False,
}
MEMORY = [{"numa_node": 0, "limits": {"memory": "100Mi"}}]


@cache
def generated(machine: str) -> Topology:
    return topology_of(Memory(tree(MACHINES[machine])))


def node(name: str = "gpu-01", machine: str = "epyc-7773x-nps1", **changes: Any) -> dict[str, Any]:
    """A node of which only the topology was read, as from a dump; variables change with their names."""
    read = {"kubelet": {}, "error": "", "kubelet_error": "", "topology": generated(machine)}
    of_node = {key: changes.pop(key) for key in list(changes) if key in read}
    return {"node": name, **read, **of_node, "settings": {**VARIABLES, **changes}}


def kubelet(version: str = "1.36.3", **effective: Any) -> dict[str, Any]:
    return {"version": version, "effective": {**DEFAULTS, **effective}}


def codes(*nodes: dict[str, Any], formats: Any = "talos", name: str = "gpu-nodes") -> list[str]:
    result = node_settings(nodes, formats, name)
    if result["problems"]:
        assert result["files"] == []
    return [problem["code"] for problem in result["problems"]]


def values(*nodes: dict[str, Any]) -> list[dict[str, Any]]:
    """What Talos' patch for each machine type says."""
    result = node_settings(nodes, "talos", "gpu-nodes")
    assert result["problems"] == []
    return [yaml.safe_load(file["content"])["machine"]["kubelet"]["extraConfig"] for file in result["files"]]


def notes(*nodes: dict[str, Any]) -> list[str]:
    return [note for each in node_settings(nodes, "talos", "gpu-nodes")["machine_types"] for note in each["notes"]]


def test_new_nodes_get_what_is_desired_and_what_the_node_already_has() -> None:
    has = kubelet(
        cpuManagerPolicy="static",
        cpuManagerPolicyOptions={"full-pcpus-only": "true"},
        reservedSystemCPUs="4,132",
        topologyManagerPolicy="restricted",
    )
    assert values(node(kubelet=has, kubelet_version="", topology_manager_scope="pod")) == [
        {
            "cpuManagerPolicy": "static",
            "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
            "reservedSystemCPUs": "4,132",
            "topologyManagerPolicy": "restricted",
            "topologyManagerScope": "pod",
        }
    ]


def test_like_nodes_share_the_files_and_other_machines_get_their_own() -> None:
    nodes = [node("gpu-01"), node("gpu-02", "one-socket"), node("gpu-03")]
    result = node_settings(nodes, "rke2,k0s", "gpu-nodes")
    drop_in = "rke2/var/lib/rancher/rke2/agent/etc/kubelet.conf.d/90-kubepin.conf"
    assert [file["path"] for file in result["files"]] == [
        f"gpu-nodes-1/{drop_in}",
        "gpu-nodes-1/k0s/k0s.yaml",
        f"gpu-nodes-2/{drop_in}",
        "gpu-nodes-2/k0s/k0s.yaml",
    ]
    assert [each["nodes"] for each in result["machine_types"]] == [["gpu-01", "gpu-03"], ["gpu-02"]]
    assert [each["reservedSystemCPUs"] for each in values(*nodes)] == ["0,128", "0,16"]
    assert "reserved CPUs of one are wrong for another" in node_settings_text(result)
    assert "like gpu-02," in result["files"][-1]["content"]


def test_text_of_one_machine_type() -> None:
    shown = node_settings_text(node_settings([node("gpu-01"), node("gpu-02")], ["k0s"], "gpu-nodes"))
    assert shown == "\n".join(
        [
            "kubepin: settings for new nodes of 1 machine type. No node was touched.",
            "",
            "== gpu-nodes: new nodes like gpu-01, gpu-02",
            "  CPUs 0-255, kubelet 1.36.3",
            "  cpuManagerPolicy: static",
            "  reservedSystemCPUs: 0,128   (1 core, L3 0, NUMA 0, 4 GPUs)",
            "",
            "  k0s: Add the profile to the controllers' k0s.yaml, apply that, and join new nodes with `k0s worker --profile gpu-nodes`.",
            "    gpu-nodes/k0s/k0s.yaml",
            "    note: k0s sets kubeReservedCgroup, with which the kubelet refuses reservedSystemCPUs. The profile empties it.",
        ]
    )


@pytest.mark.parametrize("machine", ["epyc-7773x-nps4", "four-sockets", "adjacent-siblings"])
@pytest.mark.parametrize("version", ["1.20.15", "1.22.17", "1.31.5", "1.37.2"])
def test_every_file_of_every_format_and_version_is_yaml_or_an_environment_file(machine: str, version: str) -> None:
    for name in FORMATS:
        result = node_settings([node(machine=machine, kubelet_version=version)], name, "gpu-nodes")
        assert result["files"] or result["problems"]
        for file in result["files"]:
            content = yaml.safe_load(file["content"])
            assert isinstance(content, str if file["path"].endswith("etc/default/kubelet") else dict)


def test_a_field_that_the_version_does_not_know_is_not_written() -> None:
    (said,) = values(node(kubelet_version="1.20.15", kubelet=kubelet("1.20.15"), topology_manager_policy="restricted"))
    assert list(said) == ["cpuManagerPolicy", "reservedSystemCPUs", "topologyManagerPolicy"]


def test_a_reserved_memory_of_a_dump_says_what_was_assumed() -> None:
    (note,) = notes(node(memory_manager_policy="Static", reserved_memory=MEMORY))
    assert "checked against the kubelet's defaults" in note


def test_a_profile_reaches_new_nodes_with_its_notes() -> None:
    (numa,) = values(node(kubelet=kubelet(), kubelet_version="1.36.3", profile="numa"))
    assert numa["topologyManagerPolicy"] == "restricted"
    assert numa["reservedMemory"] == [{"numaNode": each, "limits": {"memory": "50Mi"}} for each in (0, 1)]
    assert "does not align pods to L3 groups by itself" in notes(node(kubelet_version="1.22.17", profile="l3"))[0]


def test_what_holds_only_beside_other_settings_of_the_node_is_said() -> None:
    gates = {"CPUManagerPolicyAlphaOptions": True}
    (note,) = notes(node(kubelet=kubelet(featureGates=gates), policy_options={"align-by-socket": True}))
    assert note.startswith("New nodes also need the other settings")
    assert "CPUManagerPolicyAlphaOptions" in note


def test_a_kubelet_that_cannot_be_read_is_a_note_if_the_version_is_given_and_a_problem_otherwise() -> None:
    (note,) = notes(node(kubelet_error="no kubelet service"))
    assert "no kubelet service" in note
    assert codes(node(kubelet_error="no kubelet service", kubelet_version="")) == ["module_failed"]


def test_cgroups_that_the_kubelet_refuses_beside_reserved_cpus_are_a_problem_unless_the_format_empties_them() -> None:
    has = kubelet(kubeReservedCgroup="/runtime", systemReservedCgroup="/system")
    assert codes(node(kubelet=has), formats="eks-nodeadm") == []
    assert codes(node(kubelet=has), formats="talos") == ["reserved_cpus_with_cgroup"] * 2
    assert codes(node(kubelet=has), formats="k0s,eks-nodeadm") == ["reserved_cpus_with_cgroup"]


@pytest.mark.parametrize(
    ("nodes", "options", "found"),
    [
        pytest.param([node()], {"formats": ""}, ["format_missing"], id="no format"),
        pytest.param([node()], {"formats": []}, ["format_missing"], id="no formats"),
        pytest.param([node()], {"formats": "rke3, k0s"}, ["format_unknown"], id="unknown format"),
        pytest.param([node()], {"name": "GPU"}, ["node_settings_name_invalid"], id="name"),
        pytest.param([node()], {"name": "gpu-"}, ["node_settings_name_invalid"], id="name ends in a hyphen"),
        pytest.param([node(kubelet_version="")], {}, ["kubelet_version_missing"], id="no version"),
        pytest.param([node(error="unreachable")], {}, ["module_failed"], id="not read"),
        pytest.param([node(topology={})], {}, ["topology_unreadable"], id="no topology"),
        pytest.param([node(reserved_cpu_count="two")], {}, ["reserved_cpu_count_invalid"], id="count"),
        pytest.param([node(policy_options="full")], {}, ["policy_options_invalid"], id="options"),
        pytest.param([node(reserved_cpus="0")], {}, ["reserved_cpus_split_core"], id="half a core"),
        pytest.param(
            [node(reserved_cpus="9-8")], {"formats": "x"}, ["format_unknown", "reserved_cpus_invalid"], id="two"
        ),
        pytest.param([node(), node("b", error="x")], {}, ["module_failed"], id="one of two nodes"),
        pytest.param(
            [node(policy_options={"full-pcpus-only": True})], {"formats": "k0s,kops"}, ["format_cannot_say"], id="kops"
        ),
    ],
)
def test_all_problems_are_told_and_nothing_is_written(
    nodes: list[dict[str, Any]], options: dict[str, Any], found: list[str]
) -> None:
    assert codes(*nodes, **options) == found


def test_a_problem_names_its_node() -> None:
    text = node_settings_text(node_settings([node("gpu-07", error="unreachable")], "k0s", "gpu-nodes"))
    assert text == "gpu-07: unreachable."


def test_formats_that_carry_files_confine_system_daemons_as_a_switch_does_and_the_others_say_so() -> None:
    result = node_settings([node(system_slices=True)], ["drop-in", "k3s", "talos"], "gpu-nodes")
    expected = {path: drop_in(unit, frozenset({0, 128})) for unit, path in DROP_INS.items()}
    for name in ("drop-in", "k3s"):
        files = {file["path"]: file["content"] for file in result["files"]}
        assert {path: files.get(f"gpu-nodes/{name}{path}") for path in DROP_INS.values()} == expected
    notes = {each["format"]: each["notes"] for each in result["machine_types"][0]["formats"]}
    assert [name for name in notes if any("system daemons" in note for note in notes[name])] == ["talos"]


@pytest.mark.parametrize("name", ["cloud-init", "cluster-api"])
def test_formats_with_the_texts_of_files_have_them_too(name: str) -> None:
    (file,) = node_settings([node(system_slices=True)], name, "gpu-nodes")["files"]
    assert all(f"path: {path}\n" in file["content"] for path in DROP_INS.values())


def test_system_daemons_are_not_confined_to_isolated_cpus() -> None:
    isolated = {**generated("epyc-7773x-nps1"), "isolated": "0-3,128-131"}
    on_them = node(topology=isolated, reserved_cpus="0,128", system_slices=True)
    assert codes(on_them) == ["daemons_on_isolated_cpus"]
