# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import (
    HOLD_SECONDS,
    Mark,
    new_mark,
    parse_mark,
    why_not_ours,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given

NOW = 1_795_771_982
MINE = Mark("present", "mine", "here", NOW, NOW + 2400, "process-1")


def test_a_mark_is_read_as_it_was_written() -> None:
    value = MINE.dump()
    assert json.loads(value) == {
        "purpose": "present",
        "run": "mine",
        "host": "here",
        "time": "2026-11-27T09:33:02Z",
        "expires": "2026-11-27T10:13:02Z",
        "process": "process-1",
    }
    assert parse_mark(value) == MINE


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        ("present", Mark("present")),
        ("upgrade", Mark("upgrade")),
        ("", Mark("")),
        ("[1]", Mark("[1]")),
        ('{"run": "x"}', Mark('{"run": "x"}')),
        ('{"purpose": "present", "run": 7, "time": "soon"}', Mark("present")),
    ],
    ids=["earlier version", "earlier version's upgrade", "empty", "a list", "no purpose", "wrong types"],
)
def test_what_is_no_mark_of_today_is_a_purpose(value: str, mark: Mark) -> None:
    assert parse_mark(value) == mark


def test_a_new_mark_counts_for_the_drain_and_half_an_hour() -> None:
    mark = new_mark("present", "mine", "here", "process-1", 600, NOW + 0.5)
    assert mark == Mark("present", "mine", "here", NOW, NOW + 600 + HOLD_SECONDS, "process-1")


def code_of(mark: Mark | None, running: bool | None = None, now: float = NOW + 60, mine: Mark = MINE) -> str | None:
    """The code of the problem."""
    problem = why_not_ours("gpu-01", mark, mine, now, lambda process: running)
    return problem.code if problem else None


THEIRS = Mark("present", "theirs", "there", NOW, NOW + 2400, "process-2")


@pytest.mark.parametrize(
    ("case", "code"),
    [
        pytest.param({"mark": None}, None, id="no mark"),
        pytest.param({"mark": MINE}, None, id="this run's"),
        pytest.param({"mark": Mark("present", "mine")}, None, id="this run's, resumed elsewhere"),
        pytest.param({"mark": Mark("present", process="process-1")}, None, id="of this process, without a run's name"),
        pytest.param({"mark": THEIRS}, "node_in_use", id="young, another host's"),
        pytest.param({"mark": THEIRS, "running": True}, "node_in_use", id="young, its process runs here"),
        pytest.param({"mark": THEIRS, "running": False}, None, id="young, its process has ended"),
        pytest.param({"mark": THEIRS, "now": NOW + 2400}, None, id="its time is over"),
        pytest.param({"mark": THEIRS, "now": NOW + 9999, "running": True}, "node_in_use", id="a long drain"),
        pytest.param({"mark": Mark("present")}, None, id="an earlier version's"),
        pytest.param({"mark": Mark("rolled_back", "theirs")}, None, id="of the other kind of switch"),
        pytest.param({"mark": Mark("upgrade")}, "node_in_other_work", id="an earlier version's upgrade"),
        pytest.param({"mark": Mark("upgrade", "x", "y", 0, 1)}, "node_in_other_work", id="an old upgrade's"),
        pytest.param({"mark": Mark("upgrade", "mine")}, "node_in_other_work", id="this run's own upgrade"),
        pytest.param({"mark": Mark("upgrade", "x"), "mine": Mark("upgrade", "z")}, None, id="an upgrade resumed"),
        pytest.param(
            {"mark": Mark("present"), "mine": Mark("upgrade")}, "node_in_other_work", id="a switch to upgrade"
        ),
    ],
)
def test_whose_cordon_may_be_taken_over(case: dict[str, Any], code: str | None) -> None:
    assert code_of(**case) == code


def test_the_problem_names_run_host_time_purpose_and_the_way_out() -> None:
    problem = why_not_ours("gpu-01", THEIRS, MINE, NOW, lambda process: None)
    assert problem is not None
    assert problem.waivable
    assert problem.text == (
        'node gpu-01 was cordoned by run theirs on there (purpose "present", since 2026-11-27T09:33:02Z), which may '
        "still be working on it. Wait until that run has ended. A mark that nobody removes counts until "
        "2026-11-27T10:13:02Z. If it was killed, take the node over (cpu_manager_take_over: true, or node_in_use in "
        "kubeadm_upgrade_accept)."
    )
    upgrade = why_not_ours("gpu-01", Mark("upgrade"), MINE, NOW, lambda process: None)
    assert upgrade is not None
    assert not upgrade.waivable
    assert 'by a run (purpose "upgrade"), which has not finished' in upgrade.text
    assert "upgrade-cluster.yml" in upgrade.remedy
    assert "kubectl annotate node gpu-01 kubepin.io/cordoned-" in upgrade.remedy


@given(
    damaged('{"purpose": "upgrade", "time": "2026-11-27T18:00:00Z"}') | documents("purpose", "run", "time", "expires")
)
def test_any_annotation_is_a_mark_that_survives_being_written(value: str) -> None:
    mark = parse_mark(value)
    assert not mark.purpose or parse_mark(mark.dump()) == mark
