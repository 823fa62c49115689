# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

Answer = t.Callable[..., t.Dict[str, t.Any]]
PROBLEMS = [{"code": "one", "text": "This is wrong."}, {"code": "other", "text": "So is that."}]


@pytest.mark.parametrize("check_mode", [False, True])
def test_problems_fail_with_their_texts_and_are_returned(plan: Answer, check_mode: bool) -> None:
    result = plan("refuse", problems=PROBLEMS, _ansible_check_mode=check_mode)
    assert result == {"failed": True, "msg": "This is wrong. So is that.", "problems": PROBLEMS}


def test_the_message_can_be_given(plan: Answer) -> None:
    lines = ["nothing was changed:", "This is wrong."]
    assert plan("refuse", problems=PROBLEMS, msg=lines)["msg"] == lines


def test_without_problems_nothing_fails(plan: Answer) -> None:
    assert plan("refuse", problems=[], msg="not said") == {"changed": False}


def test_problems_have_to_be_given(plan: Answer) -> None:
    assert "problems" in plan("refuse", msg="why")["msg"]
