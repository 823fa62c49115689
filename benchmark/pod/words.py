# SPDX-License-Identifier: GPL-3.0-or-later
"""Small texts that the program in the pod and the reports share."""


def count(value: float, noun: str) -> str:
    """A number with its noun, such as 1 round, 3 rounds or 1.5 CPUs."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
