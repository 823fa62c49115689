# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host ended. Roles publish it in their facts; docs/facts.md lists the values of each fact and their meaning."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Facts contain the value; the last four are for hosts that ended without a role's verdict."""

    TUNED = "tuned"
    ALREADY_TUNED = "already_tuned"
    WOULD_TUNE = "would_tune"
    ROLLED_BACK = "rolled_back"
    NOT_TUNED = "not_tuned"
    UNINSTALLED = "uninstalled"
    NOT_INSTALLED = "not_installed"
    WOULD_UNINSTALL = "would_uninstall"
    REFUSED = "refused"
    UNDONE = "undone"
    UPGRADED = "upgraded"
    PARTLY_UPGRADED = "partly_upgraded"
    WOULD_UPGRADE = "would_upgrade"
    AS_PLANNED = "as_planned"
    UNTUNED = "untuned"
    DRIFTED = "drifted"
    NOT_CHECKED = "not_checked"
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
        """Whether it remains even if a later task of the host fails."""
        return self in _FINAL

    @property
    def differs(self) -> bool:
        """Whether a check found the host otherwise than planned."""
        return self in (Outcome.UNTUNED, Outcome.DRIFTED)

    @property
    def incomplete(self) -> bool:
        """Whether something that was requested is missing."""
        return self in _INCOMPLETE


_FINAL = frozenset(
    {
        Outcome.TUNED,
        Outcome.ALREADY_TUNED,
        Outcome.WOULD_TUNE,
        Outcome.ROLLED_BACK,
        Outcome.NOT_TUNED,
        Outcome.UNINSTALLED,
        Outcome.NOT_INSTALLED,
        Outcome.WOULD_UNINSTALL,
        Outcome.REFUSED,
        Outcome.UNDONE,
        Outcome.AS_PLANNED,
        Outcome.UNTUNED,
        Outcome.DRIFTED,
        Outcome.NOT_CHECKED,
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
        Outcome.NOT_CHECKED,
        Outcome.FAILED,
        Outcome.UNREACHABLE,
        Outcome.INTERRUPTED,
    }
)
