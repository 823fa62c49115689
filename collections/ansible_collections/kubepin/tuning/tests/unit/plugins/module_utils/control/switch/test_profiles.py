# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS, topology

NPS4 = topology(cores=128, threads=2, numa_nodes=8, sockets=2, gpus_on=tuple(range(8)))
XEON = topology(cores=112, threads=2, numa_nodes=2, sockets=2, cores_per_l3=56, gpus_on=(0, 0, 0, 0, 1, 1, 1, 1))
UNCORE = "prefer-align-cpus-by-uncorecache"


def desired(profile: str, **asked: Any) -> DesiredSettings:
    return DesiredSettings("static", profile=profile, **asked)


def test_numa_restricts_pods_and_reserves_memory_on_each_node() -> None:
    chosen = choose_settings(NPS4, DEFAULTS, "1.36.3", desired("numa"))
    assert chosen.problems == []
    assert chosen.settings["topologyManagerPolicy"] == "restricted"
    assert "topologyManagerScope" not in chosen.settings
    assert chosen.settings["memoryManagerPolicy"] == "Static"
    assert len(chosen.settings["reservedMemory"]) == 8
    assert "100Mi in all" in chosen.reasons["reservedMemory"][0]


def test_what_the_operator_asks_for_wins_over_the_profile_and_is_named() -> None:
    asked = desired(
        "numa", topology_manager_policy="single-numa-node", topology_manager_scope="pod", reserved_cpus="0,128"
    )
    chosen = choose_settings(NPS4, DEFAULTS, "1.36.3", asked)
    assert chosen.problems == []
    assert chosen.settings["topologyManagerPolicy"] == "single-numa-node"
    assert chosen.settings["reservedSystemCPUs"] == "0,128"
    assert chosen.origins == {
        "topologyManagerPolicy": "your setting",
        "topologyManagerScope": "your setting",
        "memoryManagerPolicy": "profile numa",
        "reservedMemory": "computed",
    }


@pytest.mark.parametrize("count", [None, 6])
def test_numa_reserves_no_more_cpus_than_balanced(count: int | None) -> None:
    numa, balanced = (
        choose_settings(NPS4, DEFAULTS, "1.36.3", desired(profile, reserved_cpu_count=count)).settings
        for profile in ("numa", "balanced")
    )
    assert numa["reservedSystemCPUs"] == balanced["reservedSystemCPUs"]


def test_the_memory_is_computed_whenever_the_static_memory_manager_is_asked_for() -> None:
    asked = desired("balanced", memory_manager_policy="Static")
    chosen = choose_settings(XEON, DEFAULTS, "1.22.17", asked)
    assert chosen.problems == []
    assert [entry["limits"] for entry in chosen.settings["reservedMemory"]] == [{"memory": "50Mi"}] * 2


def test_a_second_run_changes_nothing() -> None:
    first = choose_settings(NPS4, DEFAULTS, "1.36.3", desired("numa")).settings
    less = tuple(replace(node, memory={"memory": node.memory["memory"] - node.id * 2**30}) for node in NPS4.numa_nodes)
    again = choose_settings(replace(NPS4, numa_nodes=less), {**DEFAULTS, **first}, "1.36.3", desired("numa"))
    assert (again.problems, again.settings) == ([], first)


@pytest.mark.parametrize(
    ("profile", "configured", "kept"),
    [
        ("balanced", "0,128", True),
        ("numa", "0,128", True),
        ("l3", "0,128", False),
        ("l3", "8-15,136-143", True),
        ("numa", "1,17,33,49,65,81,97,113,129,145,161,177,193,209,225,241", True),
    ],
)
def test_reserved_cpus_are_kept_only_if_they_suit_the_profile(profile: str, configured: str, kept: bool) -> None:
    now = {**DEFAULTS, "reservedSystemCPUs": configured}
    chosen = choose_settings(NPS4, now, "1.36.3", desired(profile))
    assert chosen.problems == []
    assert (chosen.settings["reservedSystemCPUs"] == configured) is kept


def test_l3_reserves_whole_groups_and_aligns_pods_to_them() -> None:
    chosen = choose_settings(NPS4, DEFAULTS, "1.36.3", desired("l3"))
    assert (chosen.problems, list(chosen.notes)) == ([], [])
    assert chosen.settings["reservedSystemCPUs"] == "0-7,128-135"
    assert chosen.settings["cpuManagerPolicyOptions"] == {UNCORE: "true"}
    assert "in whole L3 groups: 16 CPUs" in chosen.reasons["reservedSystemCPUs"][0]


def test_l3_keeps_the_options_that_are_there_and_leaves_those_of_the_operator_alone() -> None:
    now = {**DEFAULTS, "cpuManagerPolicyOptions": {"full-pcpus-only": "true"}}
    kept = choose_settings(NPS4, now, "1.36.3", desired("l3"))
    assert kept.settings["cpuManagerPolicyOptions"] == {"full-pcpus-only": "true", UNCORE: "true"}
    own = choose_settings(NPS4, now, "1.36.3", desired("l3", policy_options={"full-pcpus-only": True}))
    assert own.settings["cpuManagerPolicyOptions"] == {"full-pcpus-only": "true"}


@pytest.mark.parametrize("version", ["1.22.17", "1.33.1"])
def test_a_kubelet_without_the_alignment_is_noted(version: str) -> None:
    chosen = choose_settings(NPS4, DEFAULTS, version, desired("l3"))
    assert chosen.problems == []
    assert "cpuManagerPolicyOptions" not in chosen.settings
    assert "from 1.34 without it" in chosen.notes[0]


def test_an_alpha_option_is_taken_if_its_gate_is_on() -> None:
    now = {**DEFAULTS, "featureGates": {"CPUManagerPolicyAlphaOptions": True}}
    chosen = choose_settings(NPS4, now, "1.33.1", desired("l3"))
    assert (chosen.problems, list(chosen.notes)) == ([], [])
    assert chosen.settings["cpuManagerPolicyOptions"] == {UNCORE: "true"}


def test_l3_groups_that_are_half_the_machine_are_not_reserved_and_that_is_noted() -> None:
    chosen = choose_settings(XEON, DEFAULTS, "1.36.3", desired("l3"))
    assert chosen.problems == []
    assert chosen.settings["reservedSystemCPUs"] == "0,112"
    assert "up to 112 of the 224 CPUs" in chosen.notes[0]


@pytest.mark.parametrize(
    ("made", "version", "now", "profile", "codes"),
    [
        pytest.param(
            topology(cores=128, numa_nodes=16),
            "1.20.15",
            {},
            "numa",
            {"too_many_numa_nodes", "memory_manager_too_new"},
            id="everything at once",
        ),
        pytest.param(NPS4, "1.21.14", {}, "numa", {"memory_manager_gate"}, id="alpha in 1.21"),
        pytest.param(
            NPS4,
            "1.36.3",
            {"evictionHard": {"memory.available": "5%"}},
            "numa",
            {"eviction_hard_percentage"},
            id="a threshold in per cent",
        ),
        pytest.param(
            topology(numa_nodes=0),
            "1.36.3",
            {},
            "numa",
            {"profile_not_for_machine", "numa_memory_unknown"},
            id="no NUMA nodes",
        ),
        pytest.param(
            replace(NPS4, l3_groups=()), "1.36.3", {}, "l3", {"profile_not_for_machine"}, id="no L3 caches are told"
        ),
        pytest.param(
            NPS4,
            "1.36.3",
            {"cpuManagerPolicyOptions": {"distribute-cpus-across-numa": "true"}},
            "l3",
            {"policy_options_exclusive"},
            id="an option of the node excludes the profile's",
        ),
    ],
)
def test_what_a_version_or_machine_cannot_do_is_refused(
    made: Any, version: str, now: dict[str, Any], profile: str, codes: set[str]
) -> None:
    chosen = choose_settings(made, {**DEFAULTS, **now}, version, desired(profile))
    assert {problem.code for problem in chosen.problems} == codes
    assert all(problem.remedy for problem in chosen.problems)


def test_a_profile_has_no_effect_with_the_policy_none() -> None:
    chosen = choose_settings(NPS4, DEFAULTS, "1.36.3", DesiredSettings("none", profile="numa"))
    assert (chosen.problems, chosen.settings) == ([], {"cpuManagerPolicy": "none"})
    assert list(chosen.notes) == ["Profile numa has no effect with cpuManagerPolicy none."]
