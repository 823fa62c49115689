# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, causes, output_tail
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


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "access to the file"),
        (errno.ENOENT, "correct the path"),
        (errno.EIO, "disk errors"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOMEM, "Free memory"),
        (errno.EAGAIN, "limit of processes"),
        (errno.EBUSY, "Something uses it"),
        (errno.ELOOP, "Symbolic links"),
        (errno.ESTALE, "mount it again"),
    ],
)
def test_what_the_kernel_refused_has_a_remedy(number: int, remedy: str) -> None:
    (problem,) = causes(OSError(number, os.strerror(number), "/var/lib/kubepin/lock"))
    assert (problem.code, problem.subject) == ("system_error", "/var/lib/kubepin/lock:")
    assert problem.finding == os.strerror(number)
    assert remedy in problem.remedy


def test_other_exceptions_are_quoted_without_a_remedy() -> None:
    assert causes(OSError("no number"))[0].text == "no number."
    assert causes(ValueError("bad"))[0] == Problem("system_error", "", "bad")
    assert causes(KeyError())[0].finding == "KeyError"
