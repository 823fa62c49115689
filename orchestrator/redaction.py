# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides secrets in everything that is written or shown. Pure.

The name of a variable makes its value a secret, which is then hidden wherever it appears, also if it is encoded: in base64,
percent-encoded, escaped as in JSON or quoted for a shell. The user and password of a URL are hidden in any case.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from orchestrator.values import DEEPEST

HIDDEN = "********"
SHORTEST = 4  # shorter values also occur inside words, so they are hidden under their own names only

_NAME = re.compile(r"(pass(word|wd|phrase)?|secret|token|credential|(private|api|access)[_-]?key)s?$", re.IGNORECASE)
_HARMLESS = re.compile(r"image_pull_secrets$", re.IGNORECASE)  # lists names of Kubernetes secrets
_USERINFO = re.compile(
    r"""(?P<before> (?P<https> https )? : (?:\\*/){2} )
    (?: [^\s/?#'"<>:@]* : (?P<password> [^\s/?#'"<>]* ) | (?(https) [^\s/?#'"<>]* | (?!) ) ) @""",
    re.IGNORECASE | re.VERBOSE,
)
"""RFC 3986, 3.2.1: what stands before the @ of an authority. For HTTPS also a user alone, which may be a token."""
_URL_SAFE = (
    "",
    "/",
    "!$&'()*+,;=",
    "!$&'()*+,;=:",
    "!$&'()*+,;=:@/?",
)  # what encoders leave as it is (RFC 3986, 2.2 and 3)
_URL_SAFE_BASE64 = str.maketrans("+/", "-_")  # RFC 4648, 5


def is_secret(name: str) -> bool:
    """Whether a variable with this name holds a secret."""
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)


def secrets_in(value: Any, name: str = "", levels: int = DEEPEST) -> Iterator[str]:
    """The values of all variables with such names, at any depth, and the passwords of all URLs."""
    secret = is_secret(name)
    if levels and isinstance(value, Mapping):
        for key, entry in value.items():
            yield from secrets_in(entry, name if secret else str(key), levels - 1)
    elif levels and isinstance(value, list | tuple):
        for entry in value:
            yield from secrets_in(entry, name if secret else "", levels - 1)
    elif secret and value is not None and not isinstance(value, bool | Mapping | list | tuple):
        yield str(value)
    elif isinstance(value, str):
        for found in _USERINFO.finditer(value):
            if password := found["password"]:
                yield from (password, unquote(password))


def forms(secret: str) -> set[str]:
    """The ways in which a secret may be written."""
    raw = secret.encode("utf-8", "surrogatepass")
    found = {secret, quote_plus(raw)} | {quote(raw, safe=safe) for safe in _URL_SAFE}
    found |= {re.sub("%..", lambda encoded: encoded[0].lower(), text) for text in found}
    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {secret.replace("'", quoted) for quoted in ("'\"'\"'", r"'\''", r"\'")}
    found |= {re.sub(letters, r"\\\g<0>", secret) for letters in (r"[^\w@%+=:,./-]", r"[\"$`\\]")}
    found |= set(_base64_forms(raw))
    return {text for text in found if len(text) >= SHORTEST}


def _base64_forms(secret: bytes) -> Iterator[str]:
    """The secret alone, also in lines, and the letters that stand for it at each of the three positions in a longer text."""
    alone = base64.b64encode(secret).decode().rstrip("=")
    parts = [alone, *("\n".join(alone[at : at + width] for at in range(0, len(alone), width)) for width in (64, 76))]
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode()
        parts.append(encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6])
    for part in parts:
        yield from (part, part.translate(_URL_SAFE_BASE64))


class Redactor:
    """Hides known secrets."""

    def __init__(self, *sources: Mapping[str, Any]) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for source in sources:
            self.learn(source)

    def learn(self, variables: Mapping[str, Any]) -> None:
        """Adds the secrets of these variables to the known ones."""
        self._known |= {text for text in secrets_in(variables) if len(text) >= SHORTEST and text != HIDDEN}
        self._pattern = None

    def hide(self, value: Any, name: str = "") -> Any:
        """The same data, with secrets replaced, and with what is nested deeper than `DEEPEST` levels."""
        return self._hide(value, name, DEEPEST)

    def _hide(self, value: Any, name: str, levels: int) -> Any:
        if name and is_secret(name) and value not in (None, "", [], {}):
            return HIDDEN
        if isinstance(value, str):
            return self._hide_text(value)
        if isinstance(value, Mapping | list | tuple) and not levels:
            return HIDDEN
        if isinstance(value, Mapping):
            return {self._hide_text(str(key)): self._hide(entry, str(key), levels - 1) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._hide(entry, "", levels - 1) for entry in value]
        return HIDDEN if not isinstance(value, bool | None) and str(value) in self._known else value

    def _hide_text(self, text: str) -> str:
        if self._known and self._pattern is None:
            self._pattern = re.compile(_any_of({form for secret in self._known for form in forms(secret)}))
        text = self._pattern.sub(HIDDEN, text) if self._pattern else text
        return _USERINFO.sub(lambda found: f"{found['before']}{HIDDEN}@", text)


def _any_of(texts: Iterable[str]) -> str:
    """A regular expression for the longest of the texts. Common beginnings stand once, so that it stays fast."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for letter in text:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _branches(tree)


def _branches(tree: Mapping[str, Any]) -> str:
    run = ""
    while len(tree) == 1 and "" not in tree:
        ((letter, tree),) = tree.items()
        run += re.escape(letter)
    branches = [re.escape(letter) + _branches(below) for letter, below in tree.items() if letter]
    if not branches:
        return run
    return f"{run}(?:{'|'.join(branches)}){'?' if '' in tree else ''}"
