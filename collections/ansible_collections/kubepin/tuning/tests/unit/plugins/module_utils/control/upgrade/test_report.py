# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.problems import target_refused
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.report import (
    upgrade_failure_text,
    upgrade_plan_text,
    upgrade_problems_text,
    upgrade_result_fact,
    upgrade_summary_text,
)

STEP = {"version": "1.21.14", "action": "node", "hosts": ["w1"]}
PLAN: dict[str, Any] = {
    "current": "1.20.15",
    "target": "1.21.14",
    "versions": ["1.21.14"],
    "steps": [{"version": "1.21.14", "action": "apply", "hosts": ["cp"]}, STEP],
    "problems": to_dicts(
        [
            problems.not_ready("w1", "KubeletNotReady"),
            problems.version(target_refused("1.22.0", "its CPU manager is broken", "1.22.17")),
            problems.external_etcd("cp"),
        ]
    ),
    "notes": [],
    "position": [
        {
            "node": "w1",
            "api_server": None,
            "kubelet": "1.20.15",
            "kubeadm": "1.20.15",
            "policy": "static",
            "reserved": "0",
            "cordoned": True,
            "in_progress": False,
        }
    ],
}


def test_the_plan_says_where_each_node_is_and_what_comes() -> None:
    lines = upgrade_plan_text(PLAN)
    assert lines[0] == "kubepin: upgrade 1.20.15 -> 1.21.14"
    assert lines[1] == "  w1   kubelet 1.20.15, kubeadm 1.20.15, CPU manager static, reserved 0, stays cordoned"
    assert lines[2].startswith("   1. 1.21.14   cp   kubeadm upgrade apply")


def test_a_cluster_at_its_target() -> None:
    plan = {**PLAN, "versions": [], "steps": []}
    assert upgrade_plan_text(plan)[0] == "kubepin: the cluster is at 1.20.15: nothing to do"
    assert upgrade_summary_text({}, plan, False) == ["kubepin: the cluster is at 1.20.15: nothing to do"]


def test_problems_name_their_node_their_code_and_how_to_waive_them() -> None:
    assert upgrade_problems_text(PLAN) == [
        "kubepin: nothing was changed. 3 problems between 1.20.15 and 1.21.14:",
        "  w1        [not_ready] is not Ready (KubeletNotReady). Repair it first, or remove it from the cluster.",
        "  cluster   [version] cannot be upgraded: target version 1.22.0 is refused: its CPU manager is broken. Ask for 1.22.17.",
        "  cp        [external_etcd] does not run etcd as a static pod, so kubepin takes no snapshot of it. "
        "Take one yourself. To go on anyway, add external_etcd to kubeadm_upgrade_accept.",
    ]
    one = {**PLAN, "problems": PLAN["problems"][:1]}
    assert upgrade_problems_text(one)[0] == "kubepin: nothing was changed. 1 problem between 1.20.15 and 1.21.14:"
    assert upgrade_problems_text({**PLAN, "problems": []}) == []


def test_a_failure_says_where_the_cluster_is_and_where_the_copies_are() -> None:
    prepared = {"folder": "/var/lib/kubepin/upgrades/1.21.14", "etcd_snapshot": {"path": "/s.db", "bytes": 1}}
    text = upgrade_failure_text(PLAN, STEP, "w1", prepared, "Drain", "it did not end.")
    assert "ended at 'Drain': it did not end." in text
    assert "Done: 1 of 2 steps" in text
    assert "/s.db" in text
    assert "Nothing had been replaced" in upgrade_failure_text(PLAN, STEP, "w1", {}, "Prepare", "no source.")


def test_a_node_that_shares_a_batch_with_a_failure_is_named_as_stopped() -> None:
    assert "was stopped, as another node of its batch failed." in upgrade_failure_text(PLAN, STEP, "w1", {}, "", "")


def test_a_node_that_was_lost_is_named_as_lost() -> None:
    text = upgrade_failure_text(PLAN, STEP, "w1", {}, "", "", unreachable="Connection refused:")
    assert "lost the node: Connection refused. What had begun on it goes on by itself" in text
    assert "Nothing had been replaced" not in text


def test_times_per_hop_and_node() -> None:
    entry = {
        "version": "1.21.14",
        "action": "node",
        "seconds": "43.2",
        "prepare_seconds": 5.0,
        "kubeadm_seconds": 0.0,
        "drain_seconds": 20.1,
        "downtime_ms": 700.0,
        "kept_settings": {"cpuManagerPolicy": "static"},
        "dropped_flags": [],
        "verified": ["kubelet 1.21.14"],
    }
    lines = upgrade_summary_text({"w1": {"steps": [entry]}}, PLAN, False)
    assert lines[1] == (
        "  1.21.14   w1   node       43 s   prepare 5 s   drain 20 s   kubelet down 0.7 s   "
        "kept from kubeadm's rewriting: cpuManagerPolicy static   verified: kubelet 1.21.14"
    )
    assert "check mode" in upgrade_summary_text({}, PLAN, True)[0]


PREPARED, DONE = {"action": "prepare"}, {"action": "node"}
TWICE = {
    **PLAN,
    "problems": [],
    "steps": [{"version": "1.21.14", "action": "prepare", "hosts": ["w1", "w2"]}, STEP, {**STEP, "version": "1.22.17"}],
}


@pytest.mark.parametrize(
    ("plan", "host", "steps", "check_mode", "outcome"),
    [
        (PLAN, "w1", [], False, "refused"),
        (TWICE, "w1", [], False, "not_begun"),
        (TWICE, "w1", [PREPARED], False, "not_begun"),
        (TWICE, "w1", [PREPARED, DONE], False, "partly_upgraded"),
        (TWICE, "w1", [PREPARED, DONE, DONE], False, "upgraded"),
        (TWICE, "w1", [], True, "would_upgrade"),
        (TWICE, "w2", [PREPARED], False, "ok"),
    ],
)
def test_the_outcome_of_a_host(
    plan: dict[str, Any], host: str, steps: list[dict[str, Any]], check_mode: bool, outcome: str
) -> None:
    assert upgrade_result_fact(plan, host, steps, check_mode) == {"schema": 1, "outcome": outcome, "steps": steps}
