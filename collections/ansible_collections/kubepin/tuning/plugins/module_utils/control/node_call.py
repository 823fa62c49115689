# SPDX-License-Identifier: GPL-3.0-or-later
"""How decisions on the control node use modules on a managed node."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import PROGRAM_BYTES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.problems import file_system_full

Result = dict[str, t.Any]
Call = t.Callable[[str, Result], Result]
"""Runs a module of this collection on the node and returns its result, or raises `ModuleFailed`."""


class ModuleFailed(Exception):
    """A module failed on the node; `result` is what it returned."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.get("msg"))
        self.result = result


TEMPORARY_FOLDERS = ("/tmp", "/var/tmp")
"""Where Python makes temporary files unless the environment says otherwise (tempfile.gettempdir)."""
_NO_ROOM = ("No space left on device", "No usable temporary directory")
"""ENOSPC, and what `tempfile` makes of it (Python: Lib/tempfile.py)."""


def found_no_room(result: Result) -> bool:
    """Whether Ansible's program ended before the module began, because it could not unpack itself."""
    output = f"{result.get('module_stderr')} {result.get('module_stdout')}"
    return "module_stdout" in result and any(text in output for text in _NO_ROOM)


def full_file_systems(report: str) -> list[Problem]:
    """The file systems that have no room for Ansible's program.

    :param report: what `df -Pk` prints of `TEMPORARY_FOLDERS`, in their order (POSIX: df)
    """
    rows = [line.split(None, 5) for line in report.splitlines()[1:]]
    free = {row[5]: int(row[3]) << 10 for row in rows if len(row) == 6 and row[3].isdigit()}
    return [
        file_system_full(mount_point, size, PROGRAM_BYTES, TEMPORARY_FOLDERS)
        for mount_point, size in free.items()
        if size < PROGRAM_BYTES
    ]
