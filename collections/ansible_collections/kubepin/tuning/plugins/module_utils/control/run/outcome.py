# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host ended. Roles publish it in their facts; docs/facts.md says which fact has which value, and what it means."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Facts carry the value; the last four are those of hosts that ended without a role's verdict."""

    TUNED = "tuned"
    ALREADY_TUNED = "already_tuned"
    WOULD_TUNE = "would_tune"
    ROLLED_BACK = "rolled_back"
    NOT_TUNED = "not_tuned"
    REFUSED = "refused"
    UNDONE = "undone"
    UPGRADED = "upgraded"
    PARTLY_UPGRADED = "partly_upgraded"
    WOULD_UPGRADE = "would_upgrade"
    MEASURED = "measured"
    PARTLY_MEASURED = "partly_measured"
    NOT_BEGUN = "not_begun"
    OK = "ok"
    FAILED = "failed"
    CHANGED = "changed"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Whether it stands even if a later task of the host fails."""
        return self in _FINAL

    @property
    def incomplete(self) -> bool:
        """Whether something that was asked for is missing."""
        return self in _INCOMPLETE


_FINAL = frozenset(
    {
        Outcome.TUNED,
        Outcome.ALREADY_TUNED,
        Outcome.WOULD_TUNE,
        Outcome.ROLLED_BACK,
        Outcome.NOT_TUNED,
        Outcome.REFUSED,
        Outcome.UNDONE,
        Outcome.FAILED,
    }
)
_INCOMPLETE = frozenset(
    {
        Outcome.REFUSED,
        Outcome.UNDONE,
        Outcome.PARTLY_UPGRADED,
        Outcome.PARTLY_MEASURED,
        Outcome.NOT_BEGUN,
        Outcome.FAILED,
        Outcome.UNREACHABLE,
        Outcome.INTERRUPTED,
    }
)
