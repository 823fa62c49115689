# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: Kubernetes quantities (apimachinery pkg/api/resource) and Go's durations, without a client library."""

from __future__ import annotations

import re
import typing as t
from fractions import Fraction

_SUFFIXES: t.Dict[str, Fraction] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """The seconds in a duration as Go prints it, such as ``10s``, ``1m30s`` or ``500ms``.

    :raises ValueError: if the text is not a duration
    """
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'"{text}" is not a duration: expected numbers with units, such as 10s or 1m30s')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_quantity(text: str) -> Fraction:
    """The value of a quantity such as ``500m``, ``1Gi`` or ``2e3``.

    :raises ValueError: if the text is not a quantity
    """
    match = _QUANTITY.match(str(text).strip())
    if not match:
        raise ValueError(
            f'"{text}" is no Kubernetes quantity: expected a number with a suffix such as m, k, M, Mi, G or Gi'
        )
    number, suffix, exponent = match.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * _SUFFIXES[suffix or ""]
