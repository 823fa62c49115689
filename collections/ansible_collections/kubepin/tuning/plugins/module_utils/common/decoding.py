# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON to frozen dataclasses, by their type hints: nothing is accepted that the class does not say."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import typing as t

T = t.TypeVar("T")


def decode(kind: t.Type[T], data: object, name: str = "it") -> T:
    """The dataclass *kind* that `dataclasses.asdict` and JSON made *data* of.

    :param name: what *data* is called in errors
    :raises ValueError: for a value of another type, an unknown field, or a missing one without a default
    """
    if not isinstance(data, dict):
        raise ValueError(f"{name} is {_short(data)}")
    prefix = "" if name == "it" else f"{name}."
    hints = t.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(t.cast("t.Any", kind))}
    for key in data.keys() - fields.keys():
        raise ValueError(f"{prefix}{key} is unknown")
    for key, field in fields.items():
        if key not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{key} is missing")
    return kind(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in data.items()})


def _value(kind: t.Any, value: object, name: str) -> t.Any:
    origin, arguments = t.get_origin(kind), t.get_args(kind)
    if kind is t.Any:
        return value
    if dataclasses.is_dataclass(kind):
        return decode(t.cast("t.Type[t.Any]", kind), value, name)
    if origin is t.Union:  # Optional
        return None if value is None else _value(arguments[0], value, name)
    if origin in (tuple, frozenset) and isinstance(value, list):
        return origin(_value(arguments[0], each, f"one of {name}") for each in value)
    if origin in (dict, collections.abc.Mapping) and isinstance(value, dict):
        return {key: _value(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if origin is None and _is(kind, value):
        return value
    raise ValueError(f"{name} is {_short(value)}")


def _is(kind: t.Any, value: object) -> bool:
    if isinstance(value, bool):  # which is an int, too
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _short(value: object) -> str:
    return json.dumps(value)[:40]
