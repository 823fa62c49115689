# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows the campaign has, and what makes one of them fail."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.settings import SandboxError, Version
from tests.campaigns.base import AnsibleRun, CheckFailed, TaskResult
from tests.campaigns.power_cut_checks import Look, end_problems, file_problems, how_whole, interrupted
from tests.campaigns.power_cut_cluster import CUTS, next_cut
from tests.campaigns.power_cut_cluster import message_of as cluster_message_of
from tests.campaigns.power_cut_guest import after_upgrade, with_version
from tests.campaigns.power_cut_results import CutResult, ordered
from tests.campaigns.power_cuts import (
    HELD_SWITCH,
    SWITCH,
    Learnt,
    cuts_of,
    message_of,
    shown,
    wanted_kinds,
)

CONFIG, DROP_IN = "/var/lib/kubelet/config.yaml", "/etc/kubernetes/kubelet.conf.d/90-kubepin.conf"
JOURNAL = "/var/lib/kubepin/switches/20261128T083311.552Z.json"
OLD, NEW, HALF = (["6 bytes, 1", 0, 0, 0o644], ["7 bytes, 2", 0, 0, 0o644], ["3 bytes, 3", 0, 0, 0o644])
NODE, CUT_AT = "lab-machine-1", datetime(2026, 11, 28, tzinfo=UTC)
BEFORE = Look(up=0.1, files={CONFIG: OLD}, drafts=[], records={}, policy="none", log="")
AFTER = Look(
    up=0.1, files={CONFIG: NEW, DROP_IN: NEW}, drafts=[], records={JOURNAL: "committed"}, policy="static", log=""
)


def look(**changes: Any) -> Look:
    return dataclasses.replace(AFTER, **changes)


def test_old_and_new_files_are_whole_together() -> None:
    found = look(files={CONFIG: OLD, DROP_IN: NEW}, records={JOURNAL: "begun"}, policy=None, drafts=["/etc/.x.kubepin"])
    assert file_problems(BEFORE, AFTER, found) == []
    assert how_whole(BEFORE, AFTER, found) == "1 old, 1 new, 1 drafts"
    assert interrupted(found)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"files": {CONFIG: HALF, DROP_IN: NEW}}, "3 bytes"),
        ({"files": {CONFIG: [*NEW[:3], 0o600], DROP_IN: NEW}}, "neither as before nor as after"),
        ({"files": {DROP_IN: NEW}}, f"{CONFIG} is None"),
        ({"files": {CONFIG: NEW, DROP_IN: NEW, "/etc/kubernetes/x": NEW}}, "/etc/kubernetes/x"),
        ({"records": {JOURNAL: "unreadable: ValueError()"}}, f"{JOURNAL} is unreadable"),
        ({"policy": "other"}, "the policy is other"),
    ],
)
def test_what_is_neither_old_nor_new_after_a_cut_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    (found,) = file_problems(BEFORE, AFTER, look(**changes))
    assert problem in found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"files": {CONFIG: OLD, DROP_IN: NEW}}, f"{CONFIG} is"),
        ({"files": {**AFTER.files, "/etc/kubernetes/x": NEW}}, "/etc/kubernetes/x is"),
        ({"drafts": ["/etc/.x.kubepin"]}, "left after the next run: /etc/.x.kubepin"),
        ({"records": {JOURNAL: "begun"}}, f"{JOURNAL} still says begun"),
        ({"policy": "none"}, "the policy is none after the next run, not static"),
        ({"up": None, "log": "failed to run Kubelet"}, "failed to run Kubelet"),
    ],
)
def test_what_is_not_as_after_an_undisturbed_run_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    assert end_problems(AFTER, AFTER) == []
    (found,) = end_problems(AFTER, look(**changes))
    assert problem in found


def ended(code: int, **values: Any) -> AnsibleRun:
    run = AnsibleRun()
    run.code = code
    run.results = [TaskResult("play", "task", "cut", 1.0, values)]
    return run


def test_an_interrupted_run_must_say_that_the_node_is_gone() -> None:
    assert message_of(ended(4, unreachable=True, msg="Connection reset")) == "unreachable: Connection reset"
    assert message_of(ended(0, changed=True)) == "the run had ended"
    with pytest.raises(CheckFailed, match="does not say that the node is gone: no idea"):
        message_of(ended(2, failed=True, msg="no idea"))


def lost_node(cause: str, **gone: Any) -> AnsibleRun:
    """A playbook that goes on for two minutes without its node, which is lost half a minute after the cut."""
    results = [
        TaskResult("Switch", "Kubelet", NODE, 30.0, gone, ended=CUT_AT + timedelta(seconds=34)),
        TaskResult("Switch", "Result", NODE, 0.1, {"ansible_facts": {"kubepin_result": {"first_cause": cause}}}),
        TaskResult("Switch", "Undo", NODE, 0.1, {"failed": True}, ended=CUT_AT + timedelta(seconds=120)),
    ]
    run = AnsibleRun()
    run.code, run.results = 2, results
    return run


def test_a_playbook_must_report_soon_that_the_node_is_gone() -> None:
    run = lost_node(f"{NODE} cannot be reached any more", unreachable=True)
    said = cluster_message_of(run, NODE, CUT_AT)
    assert said == f"{NODE} cannot be reached any more (noticed after 34 s, the run ends after 120 s)"
    with pytest.raises(CheckFailed, match="noticed 94 s after the cut, expected 60 s at most"):
        cluster_message_of(run, NODE, CUT_AT - timedelta(seconds=60))


@pytest.mark.parametrize(
    "run", [lost_node("it cannot be reached"), lost_node("no idea", unreachable=True)], ids=["reachable", "other cause"]
)
def test_a_playbook_that_reports_another_cause_fails_its_row(run: AnsibleRun) -> None:
    with pytest.raises(CheckFailed, match="does not report that the node is gone"):
        cluster_message_of(run, NODE, CUT_AT)


def test_each_row_begins_with_the_policy_that_the_one_before_it_left() -> None:
    left, policy = list(CUTS), "none"
    while cut := next_cut(left, policy):
        assert cut is left.pop(0)
        policy = cut.policy
    assert left == []


def test_on_a_new_machine_the_campaign_goes_on_with_a_row_that_begins_there() -> None:
    left = list(CUTS[1:])
    assert next_cut(left, "none") is CUTS[2]
    assert next_cut(left, "static") is CUTS[1]
    assert next_cut([CUTS[0]], "static") is None


def test_each_step_is_a_row_with_one_cache_and_the_other_in_turn() -> None:
    steps = ["systemctl stop kubelet", f"rename {JOURNAL} (begun, held)", f"rename {JOURNAL} (committed, held)"]
    cuts = cuts_of(HELD_SWITCH, Learnt(steps, 10.0, BEFORE, AFTER), moments=2, seed=1)
    assert [(cut.group, cut.title, cut.cache) for cut in cuts[:3]] == [
        ("held switch", "before: systemctl stop kubelet", "writeback"),
        ("held switch", "before: rename journal (begun, held)", "none"),
        ("confirmation", "before: rename journal (committed, held)", "writeback"),
    ]
    assert [cut.cache for cut in cuts[3:]] == ["none", "writeback"]
    assert all(0 <= cut.moment <= 10 and "after the first step" in cut.title for cut in cuts[3:])


def test_names_of_steps_do_not_differ_from_run_to_run() -> None:
    assert shown(f"rename {JOURNAL} (begun)") == "rename journal (begun)"
    assert shown("write /var/lib/kubepin/switches") == "write the journal's folder"
    assert shown("rename /etc/default/kubelet") == "rename /etc/default/kubelet"


def test_kinds_are_chosen_by_name() -> None:
    assert [kind.name for kind in wanted_kinds(["upgrade"])] == ["switch", "upgrade"]
    assert wanted_kinds(["switch"]) == [SWITCH]
    with pytest.raises(CheckFailed, match="unknown kind downgrade: expected some of switch, held switch"):
        wanted_kinds(["downgrade"])


def test_rows_stand_kind_after_kind() -> None:
    rows = [CutResult(kind, "", "none") for kind in ("undoing", "confirmation", "switch", "held switch")]
    assert [row.kind for row in ordered(rows)] == ["switch", "held switch", "confirmation", "undoing"]


def test_a_program_gets_the_version_of_the_next_patch_release() -> None:
    version = Version(1, 36, 3)
    assert after_upgrade(version) == Version(1, 36, 4)
    assert with_version(b"..v1.36.3..", version, Version(1, 36, 4)) == b"..v1.36.4.."
    with pytest.raises(SandboxError, match=r"version 1\.36\.10 in the place of 1\.36\.9"):
        with_version(b"v1.36.9", Version(1, 36, 9), Version(1, 36, 10))
