# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, joined, to_dicts

SPLIT = Problem("reserved_cpus_split_core", 'reserved_cpus "0"', "splits core 0", 'Reserve "0,128".')
FAILED = Problem("module_failed", "", "no route to host.", waivable=True)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        pytest.param(SPLIT, 'reserved_cpus "0" splits core 0. Reserve "0,128".', id="with a remedy"),
        pytest.param(Problem("code", "/c", "does not exist"), "/c does not exist.", id="without a remedy"),
        pytest.param(FAILED, "no route to host.", id="without a subject, and with a full stop"),
        pytest.param(Problem("code", "it", "broke.", "Repair it."), "it broke. Repair it.", id="no doubled full stop"),
    ],
)
def test_text(problem: Problem, text: str) -> None:
    assert problem.text == text


def test_a_dictionary_has_all_fields_and_the_text() -> None:
    assert SPLIT.to_dict() == {
        "code": "reserved_cpus_split_core",
        "subject": 'reserved_cpus "0"',
        "finding": "splits core 0",
        "remedy": 'Reserve "0,128".',
        "waivable": False,
        "text": 'reserved_cpus "0" splits core 0. Reserve "0,128".',
    }


@pytest.mark.parametrize("problem", [SPLIT, FAILED], ids=["split", "failed"])
def test_a_problem_survives_the_way_through_a_fact(problem: Problem) -> None:
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem


def test_several_problems_in_one_message_and_in_one_list() -> None:
    assert joined([SPLIT, FAILED]) == f"{SPLIT.text} {FAILED.text}"
    assert joined([]) == ""
    assert to_dicts([SPLIT, FAILED]) == [SPLIT.to_dict(), FAILED.to_dict()]


def test_an_error_has_all_problems_as_text_and_as_data() -> None:
    error = TuningError(SPLIT, FAILED)
    assert str(error) == f"{SPLIT.text} {FAILED.text}"
    assert error.details == {"problems": [SPLIT.to_dict(), FAILED.to_dict()]}
