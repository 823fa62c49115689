# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# The one exception that a module turns into a failed task.
from __future__ import annotations

import typing as t

_LAST_LINES = 15


def last_words(output: str, errors: str) -> str:
    """The end of what a command said, where the reason of a failure stands."""
    lines = [line for line in f"{output}\n{errors}".splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


class TuningError(Exception):
    """Something that a person must know about; modules end with ``fail_json(msg=str(exc), **exc.details)``.

    The message names the thing, its value, what was expected and the way out. `details` holds the same for programs.
    """

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.details: t.Dict[str, t.Any] = details
