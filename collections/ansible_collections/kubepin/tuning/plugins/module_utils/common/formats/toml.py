# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the subset of TOML that container runtimes use, for Python 3.8. Anything else is refused."""

from __future__ import annotations

import json
import re
import typing as t

Table = t.Dict[str, t.Any]

_SPACE = re.compile(r"(?:[ \t]|#[^\n]*)*")
_ANY_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_PLAIN = re.compile(r"[A-Za-z0-9_.:+-]+")
_NUMBER = re.compile(r"[+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


class TomlError(ValueError):
    """The text is not TOML, or outside the supported subset."""


def parse_toml(text: str) -> Table:
    """:raises TomlError: naming the line that cannot be parsed"""
    parser = _Parser(text)
    try:
        return parser.document()
    except RecursionError as error:
        raise parser.error() from error


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0

    def document(self) -> Table:
        top: Table = {}
        table = top
        while True:
            self._skip(_ANY_SPACE)
            if self._at == len(self._text):
                return top
            if self._take("[["):
                path = self._key()
                self._expect("]]")
                items = self._descend(top, path[:-1]).setdefault(path[-1], [])
                if not isinstance(items, list):
                    raise self.error()
                table = {}
                items.append(table)
            elif self._take("["):
                path = self._key()
                self._expect("]")
                table = self._descend(top, path)
            else:
                self._pair(table)
            self._skip(_SPACE)
            if self._at < len(self._text) and self._text[self._at] != "\n":
                raise self.error()

    def _pair(self, table: Table) -> None:
        path = self._key()
        self._expect("=")
        value = self._value()
        parent = self._descend(table, path[:-1])
        if path[-1] in parent:
            raise self.error()
        parent[path[-1]] = value

    def _key(self) -> t.List[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if not self._take("."):
                return parts

    def _key_part(self) -> str:
        bare = self._match(_BARE)
        if bare is not None:
            return bare
        text = self._string()
        if text is None:
            raise self.error()
        return text

    def _value(self) -> t.Any:
        self._skip(_SPACE)
        if self._text.startswith(('"""', "'''"), self._at):
            raise self.error()
        text = self._string()
        if text is not None:
            return text
        if self._take("["):
            return self._list("]", self._value)
        if self._take("{"):
            table: Table = {}
            self._list("}", lambda: self._pair(table))
            return table
        return self._plain()

    def _plain(self) -> t.Any:
        start = self._at
        word = self._match(_PLAIN) or ""
        if word in ("true", "false"):
            return word == "true"
        if _NUMBER.fullmatch(word):
            number = word.replace("_", "")
            return int(number) if re.fullmatch(r"[+-]?\d{1,20}", number) else float(number)
        self._at = start
        raise self.error()

    def _list(self, end: str, read: t.Callable[[], t.Any]) -> t.List[t.Any]:
        items: t.List[t.Any] = []
        while True:
            self._skip(_ANY_SPACE)
            if self._take(end):
                return items
            items.append(read())
            self._skip(_ANY_SPACE)
            if not self._take(",") and not self._text.startswith(end, self._at):
                raise self.error()

    def _string(self) -> t.Optional[str]:
        literal = self._match(_LITERAL)
        if literal is not None:
            return literal[1:-1]
        start = self._at
        basic = self._match(_BASIC)
        if basic is None:
            return None
        try:
            return str(json.loads(basic, strict=False))
        except ValueError as error:
            self._at = start
            raise self.error() from error

    def _descend(self, table: Table, path: t.Sequence[str]) -> Table:
        for part in path:
            child = table.setdefault(part, {})
            if isinstance(child, list) and child:
                child = child[-1]
            if not isinstance(child, dict):
                raise self.error()
            table = child
        return table

    def _match(self, pattern: t.Pattern[str]) -> t.Optional[str]:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match.group()

    def _skip(self, pattern: t.Pattern[str]) -> None:
        self._match(pattern)

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _expect(self, token: str) -> None:
        self._skip(_SPACE)
        if not self._take(token):
            raise self.error()

    def error(self) -> TomlError:
        """The error that names the line at which the parser is."""
        number = self._text.count("\n", 0, self._at) + 1
        line = self._text.split("\n")[number - 1].strip()
        return TomlError(f'line {number} is not understood: "{line[:80]}"')
