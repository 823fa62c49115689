# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import (
    GUARD_DROP_IN,
    GUARD_PROGRAM,
    GUARD_UNIT,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import DesiredState, Endpoint
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.boot_guard import (
    DesiredGuard,
    guard_changes,
)

PROGRAM = "import sys\n"
PATHS = {"cpu_manager": "/var/lib/kubelet/cpu_manager_state", "memory_manager": "/mnt/kubelet/memory_manager_state"}
ENDPOINT = Endpoint("http://127.0.0.1:10248/healthz", PATHS, 12)


def state(strict: bool = False) -> DesiredState:
    """A kubelet that reserves CPU 0."""
    return DesiredState("static", frozenset({0}), frozenset(range(4)), strict, "None")


def installed() -> dict[str, str | None]:
    """The guard's files on a node that has it."""
    return {change.path: change.after for change in guard_changes(DesiredGuard(PROGRAM, {}), state(), ENDPOINT)}


def test_it_is_three_files_that_are_all_taken_away_again() -> None:
    there = installed()
    assert sorted(there) == sorted([GUARD_PROGRAM, GUARD_UNIT, GUARD_DROP_IN])
    assert all(there.values())
    removal = guard_changes(DesiredGuard(None, there), state(), ENDPOINT)
    assert {change.path: (change.before, change.after) for change in removal} == {
        path: (text, None) for path, text in there.items()
    }


def test_nothing_is_to_do_where_it_is_as_wanted() -> None:
    assert guard_changes(DesiredGuard(PROGRAM, installed()), state(), ENDPOINT) == []
    assert guard_changes(DesiredGuard(None, {}), state(), ENDPOINT) == []


def test_a_program_of_another_version_is_replaced_only_with_something_else() -> None:
    there = {**installed(), GUARD_PROGRAM: "print()"}
    assert guard_changes(DesiredGuard(PROGRAM, there), state(), ENDPOINT) == []
    changed = guard_changes(DesiredGuard(PROGRAM, there), state(strict=True), ENDPOINT)
    assert [change.path for change in changed] == [GUARD_PROGRAM, GUARD_UNIT]
    assert "--strictly-reserved=0\n" in (changed[1].after or "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / Path(GUARD_UNIT).name
    unit.write_text(installed()[GUARD_UNIT] or "")
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    assert done.returncode == 0
