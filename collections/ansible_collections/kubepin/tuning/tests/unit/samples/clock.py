# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock for code that polls: only its sleeps take time, and they take none of the test's."""

from __future__ import annotations

import time


class Clock:
    """Stands for the module `time` in a module; `now` is in seconds since the start of the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
