# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, output_tail
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def test_the_reason_is_at_the_end_of_what_a_command_wrote() -> None:
    output = "\n".join(f"step {number}" for number in range(30))
    tail = output_tail(output, "\nno space left\n").split(" | ")
    assert tail[-2:] == ["step 29", "no space left"]
    assert len(tail) == 15


def test_an_error_names_all_problems_for_people_and_for_programs() -> None:
    error = TuningError(Problem("a", "x", "is wrong", "Correct it."), Problem("b", "y", "is too"))
    assert str(error) == "x is wrong. Correct it. y is too."
    assert [problem["code"] for problem in error.details["problems"]] == ["a", "b"]
