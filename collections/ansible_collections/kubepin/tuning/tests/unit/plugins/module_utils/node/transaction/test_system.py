# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, guard and lock of a node. systemd is a list of commands here; `make campaign WHAT=faults` kills real modules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import system
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import LOCK, Node, NodeLock


def test_the_guard_waits_for_the_lock_and_is_gone_after_an_error_too() -> None:
    commands: list[list[str]] = []
    node = Node(lambda argv: (commands.append(argv), (0, "", ""))[1])  # type: ignore[func-returns-value]
    with pytest.raises(ZeroDivisionError), node.guarded():
        1 / 0  # noqa: B018
    started, stopped = commands
    assert started[0] == "systemd-run"
    assert started[-5:] == ["flock", LOCK, "systemctl", "start", "kubelet"]
    assert stopped == ["systemctl", "stop", started[started.index("--unit") + 1]]


def test_without_a_guard_nothing_begins() -> None:
    node = Node(lambda argv: (1, "", "Failed to connect to bus"))
    with pytest.raises(TuningError, match=r"guard .*Failed to connect to bus Nothing was changed"), node.guarded():
        pytest.fail("the switch began without its guard")


def test_the_second_run_on_a_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "HOME", str(tmp_path))
    monkeypatch.setattr(system, "LOCK", str(tmp_path / "lock"))
    with NodeLock(check_mode=False), pytest.raises(TuningError, match="another run is changing this node"):
        NodeLock(check_mode=False).__enter__()


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(system, "HOME", str(tmp_path / "file"))
    monkeypatch.setattr(system, "LOCK", str(tmp_path / "file" / "lock"))
    with pytest.raises(TuningError, match=r"file/lock cannot be written: .* Nothing was changed"):
        NodeLock(check_mode=False).__enter__()


def answering(commands: list[list[str]], pid: int, fails: tuple[str, ...] = ()) -> Node:
    """A node whose systemctl shows a service with that process, and fails once for each of these verbs."""
    left = list(fails)

    def run(argv: list[str]) -> tuple[int, str, str]:
        commands.append(argv)
        if argv[1] in left:
            left.remove(argv[1])
            return 1, "", "start-limit-hit"
        return 0, f"ActiveState=deactivating\nSubState=stop-sigkill\nMainPID={pid}\nNRestarts=0\n", ""

    return Node(run)


def test_a_kubelet_that_outlives_its_stop_is_named() -> None:
    with pytest.raises(TuningError, match=rf"kubelet is deactivating \(PID {os.getpid()} is still there\)"):
        answering([], os.getpid()).stop_kubelet()


def test_a_service_that_systemd_gave_up_on_is_started_all_the_same() -> None:
    commands: list[list[str]] = []
    answering(commands, 0, ("start",)).start_kubelet()
    assert [argv[1] for argv in commands] == ["start", "reset-failed", "start"]
