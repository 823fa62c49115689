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
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,18}))?", re.ASCII)
_MAX_DIGITS = 1000
_MAX_EXPONENT = 2 * _MAX_DIGITS
"""A number of up to 1000 digits that is not 0 is out of range with any exponent beyond this."""
_LARGEST = Fraction(2**63 - 1)
_SMALLEST = Fraction(1, 10**9)

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)


def parse_duration(text: str) -> float:
    """The seconds in a duration as Go prints it, such as ``10s``, ``1m30s`` or ``500ms``.

    :raises ValueError: if the text is not a duration
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{_shortened(text)}" is not a duration: expected numbers with units, such as 10s or 1m30s')
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def parse_quantity(text: str) -> Fraction:
    """The value of a quantity such as ``500m``, ``1Gi`` or ``2e3``.

    As in apimachinery (pkg/api/resource/quantity.go), a magnitude above 2^63-1 is that, and one below 1n, other than 0,
    is 1n.

    :raises ValueError: if the text is not a quantity
    """
    match = _QUANTITY.fullmatch(str(text).strip())
    if not match or len(match[1]) > _MAX_DIGITS:
        raise ValueError(
            f'"{_shortened(text)}" is not a Kubernetes quantity: expected a number with a suffix such as m, k, M, Mi, G or Gi'
        )
    number, suffix, exponent = match.groups()
    power = max(-_MAX_EXPONENT, min(int(exponent or 0), _MAX_EXPONENT))
    value = Fraction(number) * Fraction(10) ** power * _SUFFIXES[suffix or ""]
    magnitude = min(max(abs(value), _SMALLEST), _LARGEST) if value else value
    return -magnitude if value < 0 else magnitude


def _shortened(text: object) -> str:
    """The text as messages quote it."""
    quoted = str(text)
    return quoted if len(quoted) <= 60 else f"{quoted[:57]}..."
