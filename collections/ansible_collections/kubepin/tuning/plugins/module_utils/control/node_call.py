# SPDX-License-Identifier: GPL-3.0-or-later
"""How decisions on the control node use modules on a managed node."""

from __future__ import annotations

import typing as t

Result = dict[str, t.Any]
Call = t.Callable[[str, Result], Result]
"""Runs a module of this collection on the node and returns its result, or raises `ModuleFailed`."""


class ModuleFailed(Exception):
    """A module failed on the node; `result` is what it returned."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.get("msg"))
        self.result = result
