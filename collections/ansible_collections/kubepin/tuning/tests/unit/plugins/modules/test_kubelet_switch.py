# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubelet_switch does to a simulated node with the changes that the action kubelet_cpu_manager sends."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.modules import kubelet_switch
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import ENV, OLD, PowerCut, SimulatedNode

Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def changes(run: Answer) -> str:
    """What the action sends for a switch to the static policy."""
    sent = []
    real = kubelet_switch.Transaction

    def recorded(runner: t.Any, journal: t.Any, params: t.Any, check_mode: bool) -> t.Any:
        sent.append(params["changes"])
        return real(runner, journal, params, check_mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubelet_switch, "Transaction", recorded)
        run(_ansible_check_mode=True)
    return str(sent[0])


def test_changes_are_applied_and_confirmed(answer: Answer, node: SimulatedNode, changes: str) -> None:
    applied = answer("kubelet_switch", state="applied", changes=changes, hold=300)
    assert (applied["changed"], node.policy, node.running) == (True, "static", True)
    assert [(file["path"], file["before"]) for file in applied["files"]][-1] == (ENV, OLD)
    assert applied["rollback"] == {}
    node.clock += 60
    confirmed = answer("kubelet_switch", state="confirmed", switch_id=applied["switch_id"])
    assert (confirmed["changed"], confirmed["policy"]) == (False, "static")
    assert confirmed["rollback"]["id"] == applied["switch_id"]


def test_check_mode_checks_the_files_and_touches_nothing(answer: Answer, node: SimulatedNode, changes: str) -> None:
    files = dict(node.files)
    result = answer("kubelet_switch", state="applied", changes=changes, _ansible_check_mode=True)
    assert (result["changed"], node.files, node.steps) == (True, files, [])


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_file_that_was_changed_since_the_plan_is_left_alone(
    answer: Answer, node: SimulatedNode, changes: str, check_mode: bool
) -> None:
    node.files[ENV] = edited = "KUBELET_EXTRA_ARGS=--v=4\n"
    result = answer("kubelet_switch", state="applied", changes=changes, _ansible_check_mode=check_mode)
    assert (result["failed"], [problem["code"] for problem in result["problems"]]) == (
        True,
        ["file_changed_since_plan"],
    )
    assert (node.files[ENV], node.steps) == (edited, [])


def test_a_kubelet_that_does_not_start_is_undone_with_its_own_line(
    answer: Answer, node: SimulatedNode, changes: str
) -> None:
    node.fails_with = 'E1123 "Failed to run kubelet" err="no room"'
    result = answer("kubelet_switch", state="applied", changes=changes)
    assert (result["failed"], result["undone"], result["first_cause"]) == (True, True, node.fails_with)
    assert (node.policy, node.running, node.files[ENV]) == ("none", True, OLD)
    assert result["journal"] in node.files


def test_a_switch_without_power_is_undone_once(answer: Answer, node: SimulatedNode, changes: str) -> None:
    endpoint = {
        "healthz_url": "http://127.0.0.1:10248/healthz",
        "state_paths": {name: f"/var/lib/kubelet/{name}_state" for name in ("cpu_manager", "memory_manager")},
        "stay_up_seconds": 12,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "start_kubelet", node.cut_power)
        with pytest.raises(PowerCut):
            kubelet_switch_main(answer, changes)
    node.power_on()
    undone = answer("kubelet_switch", state="undone", endpoint=endpoint, online="0-1")
    assert (undone["changed"], [file["path"] for file in undone["files"]]) == (True, [ENV])
    assert (node.policy, node.running, node.files[ENV]) == ("none", True, OLD)
    again = answer("kubelet_switch", state="undone", endpoint=endpoint, online="0-1")
    assert (again["changed"], again["files"]) == (False, [])


def kubelet_switch_main(answer: Answer, changes: str) -> None:
    """A run that does not come to its end."""
    answer("kubelet_switch", state="applied", changes=changes)


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        pytest.param({"state": "applied"}, "changes", id="nothing to apply"),
        pytest.param({"state": "undone"}, "endpoint, online", id="unknown kubelet"),
        pytest.param({"state": "removed"}, "archived, endpoint", id="nothing archived"),
    ],
)
def test_what_a_state_needs_is_named(
    answer: Answer, node: SimulatedNode, params: dict[str, t.Any], missing: str
) -> None:
    result = answer("kubelet_switch", **params)
    assert result["failed"] is True
    assert f"missing: {missing}" in result["msg"]
    assert node.steps == []
