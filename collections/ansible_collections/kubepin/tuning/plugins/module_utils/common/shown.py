# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: values of settings as people write them, and not as Python does."""

from __future__ import annotations

import json
import typing as t


def shown(value: t.Any) -> str:
    """The value of a kubelet setting as text: "not set", ``name=value`` for a mapping, amounts for each NUMA node for
    reservedMemory, and anything else as JSON."""
    if value is None or value in ("", [], {}, ()):
        return "not set"
    if isinstance(value, str):
        return value
    if isinstance(value, t.Mapping):
        return ", ".join(f"{name}={shown(each)}" for name, each in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_entry, value))
    return json.dumps(value, default=str)


def _entry(entry: t.Any) -> str:
    if isinstance(entry, t.Mapping) and {*entry} == {"numaNode", "limits"}:
        return f"NUMA node {entry['numaNode']} {shown(entry['limits'])}"
    return shown(entry)
