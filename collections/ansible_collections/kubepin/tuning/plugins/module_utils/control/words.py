# SPDX-License-Identifier: GPL-3.0-or-later
"""Small texts that several reports share. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted

__all__ = ["counted", "duration", "listed", "wrapped"]

WIDTH = 110
"""Columns of a line of a report, without what stands before it, such as the node's name."""


def duration(seconds: float) -> str:
    """A duration as text, such as 8 s, 3 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: Sequence[str], most: int) -> str:
    """The first *most* names, separated by commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def wrapped(label: str, text: str) -> list[str]:
    """The label and the text in lines of at most `WIDTH` columns, the others indented below the first word of the text."""
    return textwrap.wrap(
        f"{label}{text}", WIDTH, subsequent_indent=" " * len(label), break_long_words=False, break_on_hyphens=False
    )
