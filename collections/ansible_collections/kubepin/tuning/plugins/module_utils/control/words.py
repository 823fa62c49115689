# SPDX-License-Identifier: GPL-3.0-or-later
"""Small texts that several reports share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted

__all__ = ["counted", "duration", "listed"]


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
