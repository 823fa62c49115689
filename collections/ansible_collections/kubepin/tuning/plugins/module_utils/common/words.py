# SPDX-License-Identifier: GPL-3.0-or-later
"""Small texts that modules of both sides share. Pure."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """A number with its noun, such as 1 node, 2 nodes or 1.5 CPUs."""
    text = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
