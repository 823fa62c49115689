# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program on a node reports: decoded, of any form, and read with the types that are expected. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

import tomllib

_SHOWN = 80
"""Characters of an unexpected value that a message shows."""


class Unknown(Exception):
    """A fact is not certain; the text says why."""


@dataclass(frozen=True)
class Table:
    """A table of a document. Whatever is not there is empty.

    Its methods raise `Unknown`, which names the document, the value and what was expected, for a value of another type.
    """

    origin: str
    """The document, in words."""
    values: t.Mapping[str, t.Any]
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, origin: str, value: t.Any) -> Table:
        """:raises Unknown: if the value is not a table"""
        if not isinstance(value, dict):
            raise Unknown(f"{origin} is {_shown(value)}: expected a table")
        return cls(origin, value)

    @classmethod
    def of_toml(cls, origin: str, text: str) -> Table:
        """:raises Unknown: if the text is no TOML"""
        try:
            return cls(origin, tomllib.loads(text))
        except (ValueError, RecursionError) as error:
            raise Unknown(f"{origin} is not TOML: {error}") from error

    @classmethod
    def of_json(cls, origin: str, text: str) -> Table:
        """:raises Unknown: if the text is no JSON object"""
        try:
            return cls.of(origin, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise Unknown(f"{origin} is not JSON: {error}") from error

    def table(self, name: str) -> Table:
        """The table with this name."""
        return self._inner(name, self._value(name, dict, "a table", {}))

    def tables(self, name: str) -> list[Table]:
        """The list of tables with this name."""
        items = self._value(name, list, "a list of tables", [])
        if not all(isinstance(item, dict) for item in items):
            raise self._unexpected(name, "a list of tables")
        return [self._inner(name, item) for item in items]

    def text(self, name: str) -> str:
        """The text with this name."""
        text: str = self._value(name, str, "a text", "")
        return text

    def texts(self, name: str) -> list[str]:
        """The list of texts with this name."""
        texts: list[str] = self._value(name, list, "a list of texts", [])
        if not all(isinstance(text, str) for text in texts):
            raise self._unexpected(name, "a list of texts")
        return texts

    def flag(self, name: str, default: bool = False) -> bool:
        """The boolean with this name, or the default."""
        flag: bool = self._value(name, bool, "true or false", default)
        return flag

    def number(self, name: str) -> int | None:
        """The whole number with this name; None if it is not there."""
        number: int | None = self._value(name, int, "a whole number", None)
        if isinstance(number, bool):
            raise self._unexpected(name, "a whole number")
        return number

    def _inner(self, name: str, values: t.Mapping[str, t.Any]) -> Table:
        return Table(self.origin, values, (*self.path, name))

    def _value(self, name: str, kind: type, expected: str, default: t.Any) -> t.Any:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self._unexpected(name, expected)
        return value

    def _unexpected(self, name: str, expected: str) -> Unknown:
        where = ".".join(part if "." not in part else f'"{part}"' for part in (*self.path, name))
        return Unknown(f"{self.origin}: {where} is {_shown(self.values[name])}: expected {expected}")


def _shown(value: t.Any) -> str:
    try:
        return json.dumps(value, default=str, ensure_ascii=False)[:_SHOWN]
    except ValueError:  # of a number with more digits than Python writes
        return "a number beyond all measure"
