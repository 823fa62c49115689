# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the fields of one configuration file of a kubelet, decoded as strictly as the kubelet does.

A kubelet does not start if a value has the wrong type, also deep in a field. It ignores fields that it does not know: it
decodes the file strictly, and if that fails only because of unknown or duplicate fields, leniently
(pkg/kubelet/kubeletconfig/util/codec, the same from 1.20 to 1.37). Of a drop-in it decodes only the syntax strictly, and
the types after all files are merged (mergeKubeletConfigurations in cmd/kubelet/app/server.go): there a duplicate field
is fatal.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import FIELDS, NEWEST_MINOR
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import OLDEST_MINOR, minor_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.values import is_duration, is_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.yaml_text import (
    Document,
    Value,
    YamlError,
    parse_yaml_text,
)

Fields = dict[str, t.Any]
"""KubeletConfiguration field -> value, in the form of a configuration file."""

ROOT = "KubeletConfiguration"
API_VERSION = "kubelet.config.k8s.io/v1beta1"

_TEXT = "text (in quotes)"
_WHOLE = "a whole number"
_DURATION = "a duration in quotes, such as 10s or 1m30s"
_RANGES = {"int32": (-(2**31), 2**31), "int64": (-(2**63), 2**63), "uint32": (0, 2**32), "uint64": (0, 2**64)}
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})", re.ASCII
)
_SHORT = 60
"""Characters of a wrong value that a problem shows."""
_ALIKE = 0.8
"""How alike (difflib's ratio) a misspelt name is to the right one; reservedCpus for reservedSystemCPUs is 0.8."""
_MOST_UNKNOWN = 100
"""For how many unknown names of a file a right one is looked up: it takes a millisecond each."""


def decode(content: str, path: str, version: str, drop_in: bool = False) -> tuple[Fields, list[Problem]]:
    """The fields that a configuration file sets, and every reason why a kubelet would refuse or ignore part of it.

    Fields are those that the kubelet's version knows, each with a value of its type; null, which resets a field in a
    drop-in, is None. Without a problem, values in maps and lists have their types too: texts in kubeReserved,
    quantities as text or number, and every entry of reservedMemory has `numaNode` and `limits`. A field with a wrong
    value is not there.

    Problems that are not waivable keep the kubelet from starting. Waivable ones it would ignore: a misspelt field, a
    field that is there twice, text that it does not read.

    :param content: the text of the file
    :param path: names the file in problems
    :param version: the kubelet's, such as 1.22.17; ``minor_of`` says which are valid
    :param drop_in: whether the file is from --config-dir
    :raises ValueError: if the version is not a Kubernetes 1.x version
    """
    try:
        document = parse_yaml_text(content)
    except YamlError as error:
        return {}, [problems.not_yaml(path, error)]
    fields, found = decode_value(document.value, path, version, drop_in)
    return fields, [*_reading_problems(document, path, drop_in), *found]


def decode_value(value: Value, path: str, version: str, drop_in: bool = False) -> tuple[Fields, list[Problem]]:
    """Like `decode`, for a file that has been parsed already."""
    if not isinstance(value, dict):
        return {}, [problems.config_not_a_mapping(path)]
    decoder = _Decoder(minor_of(version), path, drop_in)
    decoder.check_kind(value)
    content = {name: each for name, each in value.items() if name not in ("apiVersion", "kind")}
    return decoder.struct(content, ROOT, ""), decoder.found


def _reading_problems(document: Document, path: str, drop_in: bool) -> list[Problem]:
    found = [problems.config_key_twice(path, each.key, each.line, drop_in) for each in document.duplicates]
    if document.unread_line is not None:
        found.append(problems.config_not_read(path, document.unread_line))
    return found


class _Wrong(Exception):
    """A value has the wrong type; the problem is noted."""


class _Decoder:
    """Converts values to Go types, one file at a time, and collects all problems.

    Its methods raise `_Wrong` for a value that cannot be converted.
    """

    def __init__(self, minor: int, path: str, drop_in: bool) -> None:
        self.found: list[Problem] = []
        self._minor = minor
        self._path = path
        self._drop_in = drop_in
        self._unknown = 0

    def check_kind(self, value: dict[str, Value]) -> None:
        """apiVersion and kind. Of the file, the kubelet reads both in any case of letters (json.SimpleMetaFactory)."""
        names = value if self._drop_in else {name.lower(): each for name, each in value.items()}
        key = "apiVersion" if self._drop_in else "apiversion"
        if names.get("kind") != ROOT or names.get(key) != API_VERSION:
            self.found.append(problems.config_without_kind(self._path, self._drop_in))

    def struct(self, value: Value, struct: str, where: str) -> Fields:
        if not isinstance(value, dict):
            raise self._wrong(where, value, "a mapping")
        known = known_fields(struct, self._minor)
        result: Fields = {}
        wrong = False
        for name, content in value.items():
            place = f"{where}.{name}" if where else name
            if name not in known:
                self._check_spelling(name, place, struct)
            elif content is None and (self._drop_in or known[name] != "duration"):
                result[name] = None
            else:
                try:
                    result[name] = self._convert(content, known[name], place)
                except _Wrong:
                    wrong = True
        if wrong and struct != ROOT:
            raise _Wrong
        if struct == "MemoryReservation":  # Go's zero values
            return {"numaNode": result.get("numaNode") or 0, "limits": result.get("limits") or {}}
        return result

    def _check_spelling(self, name: str, place: str, struct: str) -> None:
        is_kind = struct == ROOT and not self._drop_in and name.lower() in ("apiversion", "kind")
        if name in FIELDS[struct] or is_kind or self._unknown >= _MOST_UNKNOWN:
            return
        self._unknown += 1
        known = {each.lower(): each for each in known_fields(struct, self._minor)}
        alike = difflib.get_close_matches(name.lower()[:_SHORT], known, n=1, cutoff=_ALIKE)
        if alike:
            # merged drop-ins are decoded by encoding/json, which takes names in any case of letters
            is_ignored = not (self._drop_in and name.lower() in known)
            self.found.append(problems.config_field_misspelt(self._path, place, known[alike[0]], is_ignored))

    def _convert(self, value: Value, kind: str, where: str) -> t.Any:
        """The value as a Go type of the table in fields.py."""
        if kind.startswith("[]"):
            return self._list(value, kind[len("[]") :], where)
        if kind.startswith("map[string]"):
            return self._map(value, kind[len("map[string]") :], where)
        if kind in FIELDS:
            return self.struct(value, kind, where)
        expected = _expected(value, kind)
        if expected:
            raise self._wrong(where, value, expected)
        return value

    def _list(self, value: Value, kind: str, where: str) -> list[t.Any]:
        if not isinstance(value, list):
            raise self._wrong(where, value, "a list")
        items = [_zero(kind) if item is None else item for item in value]
        return self._all([(item, f"{where}[{index}]") for index, item in enumerate(items)], kind)

    def _map(self, value: Value, kind: str, where: str) -> dict[str, t.Any]:
        if not isinstance(value, dict):
            raise self._wrong(where, value, "a mapping")
        # null removes a key when drop-ins are merged; in the file it is Go's zero value
        removed = {key: None for key, item in value.items() if item is None and self._drop_in}
        kept = {key: _zero(kind) if item is None else item for key, item in value.items() if key not in removed}
        converted = self._all([(item, f"{where}.{key}") for key, item in kept.items()], kind)
        return {**dict(zip(kept, converted, strict=True)), **removed}

    def _all(self, items: list[tuple[Value, str]], kind: str) -> list[t.Any]:
        """Every item converted, with the problems of all of them."""
        converted = []
        for item, place in items:
            try:
                converted.append(self._convert(item, kind, place))
            except _Wrong:
                continue
        if len(converted) < len(items):
            raise _Wrong
        return converted

    def _wrong(self, where: str, value: Value, expected: str) -> _Wrong:
        self.found.append(problems.config_type(self._path, where, _shown(value), expected))
        return _Wrong()


@functools.cache
def known_fields(struct: str, minor: int) -> dict[str, str]:
    """The JSON names and types of a struct's fields in a minor version, or in the nearest one in the table."""
    minor = min(max(minor, OLDEST_MINOR), NEWEST_MINOR)
    return {
        name: kind for name, spans in FIELDS[struct].items() for kind, first, last in spans if first <= minor <= last
    }


def _zero(kind: str) -> t.Any:
    """What Go makes of null in a map or list."""
    if kind.startswith("[]"):
        return []
    if kind in FIELDS or kind.startswith("map["):
        return {}
    return {"string": "", "bool": False, "quantity": "0"}.get(kind, 0)


def _expected(value: Value, kind: str) -> str:
    """What a value of this simple type is, in words; empty if this value is one."""
    is_text = isinstance(value, str)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "string":
        return "" if is_text else _TEXT
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind in _RANGES:
        low, above = _RANGES[kind]
        if not (is_number and isinstance(value, int)):
            return _WHOLE
        return "" if low <= value < above else f"{_WHOLE} from {low} to {above - 1}"
    if kind == "float64":
        return "" if is_number and math.isfinite(value) else "a number"
    if kind == "duration or int64" and not is_text:
        return _expected(value, "int64") and f"{_DURATION}, or nanoseconds as a whole number"
    if kind.endswith("duration") or kind == "duration or int64":
        return "" if is_text and is_duration(value) else _DURATION
    if kind == "quantity":
        return "" if is_number or (is_text and is_quantity(value.strip())) else "a quantity, such as 512Mi or 1Gi"
    if kind == "time":
        return "" if is_text and _TIME.fullmatch(value) else "a time, such as 2026-01-31T12:00:00Z"
    raise AssertionError(f"no rule for the type {kind}")


def _shown(value: Value) -> str:
    """A wrong value as a problem shows it."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return shown if len(shown) <= _SHORT else f"{shown[:_SHORT]}..."
