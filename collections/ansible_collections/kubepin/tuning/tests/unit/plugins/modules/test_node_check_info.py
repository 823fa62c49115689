# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    UNITS,
    drop_in,
)
from ansible_collections.kubepin.tuning.plugins.modules import container_cpus_info, kubelet_switch_info
from ansible_collections.kubepin.tuning.tests.unit.samples import machines
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import OLD, SimulatedNode

Run = t.Callable[..., t.Dict[str, t.Any]]
API: dict[str, t.Any] = {
    "node": {"configz": {"cpuManagerPolicy": "none"}, "configz_error": None, "boot_id": None, "containers": []}
}


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> SimulatedNode:
    """The node that the modules see, which was never switched."""
    node = SimulatedNode()
    monkeypatch.setattr(kubelet_switch_info, "Node", lambda run: node)
    monkeypatch.setattr(kubelet_switch_info, "read_topology", machines.topology_facts)
    monkeypatch.setattr(kubelet_switch_info, "read_sources", lambda run: machines.sources(extra_args=OLD))
    monkeypatch.setattr(
        container_cpus_info, "read_cpu_cgroups", lambda: {"version": 1, "error": None, "containers": []}
    )
    return node


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_node_is_read_and_compared_with_its_plan(plan: Run, node: SimulatedNode, check_mode: bool) -> None:
    before = dict(node.files)
    result = plan("node_check_info", node="gpu-01", api=API, _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert (result["check"]["node"], result["check"]["outcome"]) == ("gpu-01", "untuned")
    assert node.files == before


def test_the_plan_is_that_of_a_switch_with_the_same_arguments(plan: Run) -> None:
    assert plan("node_check_info", node="gpu-01", api=API, policy="none")["check"]["outcome"] == "as_planned"


def test_a_node_without_a_kubelet_fails(plan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(run: object) -> t.NoReturn:
        raise TuningError(a_problem("This machine has no kubelet."))

    monkeypatch.setattr(kubelet_switch_info, "read_sources", none)
    result = plan("node_check_info", node="gpu-01", api=API)
    assert result["failed"] is True
    assert "has no kubelet" in result["msg"]


def tuned(node: SimulatedNode, monkeypatch: pytest.MonkeyPatch, effective: str) -> None:
    """A node that has the static policy, whose system daemons were confined by kubepin and run on these CPUs."""
    node.files.update({path: drop_in(unit, frozenset({0})) for unit, path in DROP_INS.items()})
    units = {unit: {"allowed": "0", "effective": effective} for unit in UNITS}
    extra = 'KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n'
    found = machines.sources(extra_args=extra, running=machines.sources(extra_args=extra)["command_line"])
    found["state"]["cpu_manager"]["text"] = machines.STATIC_STATE
    monkeypatch.setattr(kubelet_switch_info, "read_sources", lambda run: found)
    monkeypatch.setattr(kubelet_switch_info, "read_system_daemons", lambda run: machines.daemon_facts(units=units))


STATIC_API = {"node": {**API["node"], "configz": {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}}}


def codes(result: dict[str, t.Any]) -> list[str]:
    return [
        problem["code"]
        for problem in result["check"]["problems"]
        if "daemon" in problem["code"] or "unit" in problem["code"]
    ]


@pytest.mark.parametrize(
    ("asked", "effective", "expected"),
    [
        ({}, "0", []),
        ({"system_slices": True}, "0", []),
        ({}, "0-1", ["unit_not_confined"] * 3),
        ({"system_slices": False}, "0", ["system_daemons_differ"] * 3),
        ({"irqbalance": True}, "0", ["system_daemons_differ"]),
    ],
)
def test_system_daemons_are_where_the_plan_and_their_files_say(
    plan: Run,
    node: SimulatedNode,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, bool],
    effective: str,
    expected: list[str],
) -> None:
    tuned(node, monkeypatch, effective)
    assert codes(plan("node_check_info", node="gpu-01", api=STATIC_API, **asked)) == expected


def test_a_plan_for_system_daemons_that_cannot_be_made_is_not_checked(
    plan: Run, node: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(node, monkeypatch, "0")
    facts = machines.daemon_facts(has_cpusets=False)
    monkeypatch.setattr(kubelet_switch_info, "read_system_daemons", lambda run: facts)
    check = plan("node_check_info", node="gpu-01", api=STATIC_API)["check"]
    assert check["outcome"] == "not_checked"
    assert [problem["code"] for problem in check["unchecked"]] == ["cgroup_without_cpusets"]
