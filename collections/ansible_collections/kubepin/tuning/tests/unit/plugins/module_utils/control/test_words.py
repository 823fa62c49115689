# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import (
    counted,
    duration,
    listed,
)


def test_durations() -> None:
    assert [duration(seconds) for seconds in (8.4, 185, 7800)] == ["8 s", "3 min 5 s", "2 h 10 min"]


def test_names_beyond_the_limit_are_counted() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"


def test_nouns() -> None:
    assert [counted(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
