# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's colours can be told from what they stand on (WCAG 2.2: 1.4.3 texts 4.5:1, 1.4.11 graphics 3:1)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[3] / "benchmark" / "templates" / "report.css").read_text(encoding="utf-8")
LIGHT, DARK = (dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{([^}]*)\}", CSS))
TEXTS = ("text", "muted", "faster", "slower", "equal", "invalid")
GRAPHICS = ("faster", "slower", "equal", "edge", "round", "today", "threads", "exclusive")


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it, 0 to 1."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("names", "ground", "least"),
    [(TEXTS, "page", 4.5), (TEXTS, "card", 4.5), (GRAPHICS, "page", 3), (GRAPHICS, "card", 3)],
)
def test_texts_and_graphics_stand_out(
    colours: dict[str, str], names: tuple[str, ...], ground: str, least: float
) -> None:
    faint = {name: found for name in names if (found := contrast(colours[name], colours[ground])) < least}
    assert not faint


def test_each_class_of_a_mark_has_a_colour() -> None:
    for tone in ("faster", "slower", "equal", "unknown", "round", "today", "threads", "exclusive", "a", "b"):
        assert re.search(rf"(^|[\s.]){tone} \{{[^}}]*fill", CSS, re.MULTILINE)
