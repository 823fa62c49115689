# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# Pure: Kubernetes quantities (apimachinery pkg/api/resource) without a client library.
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


def parse_quantity(text: str) -> Fraction:
    """The number that a quantity such as ``500m``, ``1Gi`` or ``2e3`` stands for.

    :raises ValueError: if the text is no quantity
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
