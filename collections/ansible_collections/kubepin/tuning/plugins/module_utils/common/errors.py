# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that a module turns into a failed task."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, joined, to_dicts

_TAIL_LINES = 15

E = t.TypeVar("E", bound="TuningError")


def output_tail(output: str, errors: str) -> str:
    """The last lines of a command's output, where the reason for a failure is."""
    lines = [line for line in f"{output}\n{errors}".splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:])


class TuningError(Exception):
    """An error to report to the user; modules end with ``fail_json(msg=str(exc), **exc.details)``.

    The message names the subject, its value, what was expected and the remedy. `details` holds the same for programs.
    """

    problems: t.Tuple[Problem, ...] = ()
    """Those that `of` was given."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.details: t.Dict[str, t.Any] = details

    @classmethod
    def of(cls: t.Type[E], problems: t.Sequence[Problem]) -> E:
        """One error with all *problems*; `details` holds them as `problems`."""
        error = cls(joined(problems), problems=to_dicts(problems))
        error.problems = tuple(problems)
        return error
