# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that a module turns into a failed task."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import (
    Problem,
    joined,
    system_error,
    to_dicts,
)

_TAIL_LINES = 15


def output_tail(output: str, errors: str) -> str:
    """The last lines of a command's output, where the reason for a failure is."""
    lines = [line for line in f"{output}\n{errors}".splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:])


class TuningError(Exception):
    """An error to report to the user; modules end with ``fail_json(msg=str(exc), **exc.details)``.

    :param problems: the first cause comes first
    :param facts: further values for programs, in the result beside the problems
    """

    def __init__(self, *problems: Problem, **facts: t.Any) -> None:
        super().__init__(joined(problems))
        self.problems = problems
        self.facts: t.Dict[str, t.Any] = facts

    @property
    def details(self) -> t.Dict[str, t.Any]:
        """What programs read: the problems as objects, and the facts."""
        return {"problems": to_dicts(self.problems), **self.facts}


class InvalidText(TuningError):
    """A text that cannot be parsed: one problem with the class's code. `str` is the reason alone, for use in a clause."""

    code: t.ClassVar[str]
    remedy: t.ClassVar[str] = ""

    def __init__(self, reason: str, **facts: t.Any) -> None:
        super().__init__(Problem(self.code, "", reason, self.remedy), **facts)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}".rstrip()


def causes(exc: BaseException) -> t.Tuple[Problem, ...]:
    """Why something failed: the problems of a TuningError, or one that quotes any other exception."""
    if isinstance(exc, TuningError):
        return exc.problems
    if isinstance(exc, OSError):
        return (system_error(exc),)
    return (Problem("system_error", "", str(exc) or type(exc).__name__),)
