# SPDX-License-Identifier: GPL-3.0-or-later
"""Values whose shape another program decides, such as facts and JSON files. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DEEPEST = 100  # levels of nested values; Python's own functions fail from about 300 on


def as_object(value: Any) -> Mapping[str, Any]:
    """The value if it is an object with keys, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> Sequence[Any]:
    """The value if it is a list, otherwise an empty one."""
    return value if isinstance(value, list | tuple) else ()


def is_deep(value: Any) -> bool:
    """Whether it has more than `DEEPEST` levels of objects and lists."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [entry for held in level for entry in _entries(held)]
        if not level:
            return False
    return True


def _entries(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else as_list(value)
