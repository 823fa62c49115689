# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard and the lock of a node. systemd is a list of commands here; `make fault-campaign` kills real modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils import _node
from ansible_collections.kubepin.tuning.plugins.module_utils._errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils._node import LOCK, Node, NodeLock


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
    monkeypatch.setattr(_node, "HOME", str(tmp_path))
    monkeypatch.setattr(_node, "LOCK", str(tmp_path / "lock"))
    with NodeLock(check_mode=False), pytest.raises(TuningError, match="another run is changing this node"):
        NodeLock(check_mode=False).__enter__()


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(_node, "HOME", str(tmp_path / "file"))
    monkeypatch.setattr(_node, "LOCK", str(tmp_path / "file" / "lock"))
    with pytest.raises(TuningError, match=r"file/lock cannot be written: .* Nothing was changed"):
        NodeLock(check_mode=False).__enter__()
