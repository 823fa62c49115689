# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
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
