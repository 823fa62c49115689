# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides secrets in everything that is written or shown. Pure.

The name of a variable makes its value a secret, which is then hidden wherever it appears.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "********"
SHORTEST = 4  # shorter values also occur inside words, so they are hidden under their own names only

_NAME = re.compile(r"(pass(word|wd|phrase)?|secret|token|credential|(private|api|access)[_-]?key)s?$", re.IGNORECASE)
_HARMLESS = re.compile(r"image_pull_secrets$", re.IGNORECASE)  # lists names of Kubernetes secrets


def is_secret(name: str) -> bool:
    """Whether a variable with this name holds a secret."""
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)


def secrets_in(variables: Mapping[str, Any]) -> Iterable[str]:
    """The values of all variables with such names, at any depth."""
    for name, value in variables.items():
        if is_secret(name):
            yield from _texts(value)
        elif isinstance(value, Mapping):
            yield from secrets_in(value)
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, Mapping):
                    yield from secrets_in(entry)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class Redactor:
    """Hides known secrets."""

    def __init__(self, *sources: Mapping[str, Any]) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for source in sources:
            self.learn(source)

    def learn(self, variables: Mapping[str, Any]) -> None:
        """Adds the secrets of these variables to the known ones."""
        self._known |= {text for text in secrets_in(variables) if len(text) >= SHORTEST}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def hide(self, value: Any, name: str = "") -> Any:
        """The same data, with secrets replaced."""
        if name and is_secret(name) and value not in (None, "", [], {}):
            return HIDDEN
        if isinstance(value, Mapping):
            return {self._hide_text(str(key)): self.hide(entry, str(key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(entry) for entry in value]
        if isinstance(value, str):
            return self._hide_text(value)
        return HIDDEN if not isinstance(value, bool | None) and str(value) in self._known else value

    def _hide_text(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text
