# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubelet_switch_info reads for a plan, on a simulated node."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.modules import kubelet_switch_info
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import ENV, OLD, SimulatedNode

Answer = t.Callable[..., t.Dict[str, t.Any]]
SWITCHES = "/var/lib/kubepin/switches"


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_node_before_its_first_switch(answer: Answer, node: SimulatedNode, check_mode: bool) -> None:
    files = dict(node.files)
    result = answer("kubelet_switch_info", _ansible_check_mode=check_mode)
    assert (result["changed"], node.files, node.steps) == (False, files, [])
    assert {name: result[name] for name in ("unfinished", "committed", "rollback")} == {
        "unfinished": None,
        "committed": None,
        "rollback": {},
    }
    assert result["sources"]["manager"] == "kubeadm"
    assert result["topology"]
    assert "history" not in result


def test_the_last_switch_with_what_its_files_hold_now(answer: Answer, run: Answer, node: SimulatedNode) -> None:
    done = run()
    node.files[ENV] += "# by hand\n"
    result = answer("kubelet_switch_info", history=True)
    assert (result["committed"]["id"], result["rollback"]["restores"]) == (done["switch_id"], [ENV])
    (change,) = result["committed"]["files"]
    assert change["before"] == OLD
    assert result["committed"]["current"] == {ENV: change["after"] + "# by hand\n"}
    assert [switch["id"] for switch in result["history"]["switches"]] == [done["switch_id"]]
    assert result["history"]["leftovers"]


def test_a_switch_that_another_run_holds_is_waited_for_unless_it_is_the_caller_s_own(
    answer: Answer, run: Answer, node: SimulatedNode
) -> None:
    held = run(hold=300)
    before = node.clock
    assert answer("kubelet_switch_info", switch_id=held["switch_id"])["unfinished"] == held["switch_id"]
    assert answer("kubelet_switch_info", wait=False)["unfinished"] == held["switch_id"]
    assert node.clock == before
    answer("kubelet_switch_info")
    assert node.clock > before


def test_a_journal_that_cannot_be_read_is_refused_by_name(answer: Answer, node: SimulatedNode) -> None:
    node.files[f"{SWITCHES}/20260101T000000.000Z.json"] = "{"
    result = answer("kubelet_switch_info")
    assert (result["failed"], [problem["code"] for problem in result["problems"]]) == (True, ["journal_unreadable"])
    assert f"{SWITCHES}/20260101T000000.000Z.json" in result["msg"]


def test_a_file_that_cannot_be_read_is_named(
    answer: Answer, node: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(run: object) -> t.NoReturn:
        raise PermissionError(13, "Permission denied", "/etc/kubernetes/kubelet.conf")

    monkeypatch.setattr(kubelet_switch_info, "read_sources", denied)
    result = answer("kubelet_switch_info")
    assert result["failed"] is True
    assert "/etc/kubernetes/kubelet.conf" in result["msg"]
    assert "Permission denied" in result["msg"]
