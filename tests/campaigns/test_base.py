# SPDX-License-Identifier: GPL-3.0-or-later
"""When a campaign's sandbox is made, its logs collected and it is removed, and how tables are written."""

from __future__ import annotations

import argparse

import pytest

from sandbox.settings import SandboxError
from tests.campaigns import base


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sandbox's commands that were called; the release 0.0.0 cannot be brought up."""
    called: list[str] = []

    def run_sandbox(*arguments: str) -> None:
        called.append(arguments[0])
        if arguments[0] == "up" and "0.0.0" in arguments:
            raise SandboxError("up failed")

    monkeypatch.setattr(base, "run_sandbox", run_sandbox)
    monkeypatch.setenv("KUBEPIN_SANDBOX", "another")
    return called


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    base.add_sandbox_arguments(parser, "lab", version="1.36.3", workers=2)
    return parser.parse_args(arguments)


def test_a_new_sandbox_replaces_a_left_one_and_is_removed(commands: list[str]) -> None:
    with base.sandbox_for(options()) as name:
        assert name == "lab"
        commands.append("run")
    assert commands == ["down", "up", "run", "down"]


def test_logs_are_collected_before_a_failed_run_s_sandbox_is_removed(commands: list[str]) -> None:
    with pytest.raises(base.CheckFailed), base.sandbox_for(options()):
        base.expect(False, "broken")
    assert commands == ["down", "up", "collect", "down"]


def test_a_sandbox_that_does_not_come_up_is_removed(commands: list[str]) -> None:
    with pytest.raises(SandboxError), base.sandbox_for(options("--k8s", "0.0.0")):
        pass
    assert commands == ["down", "up", "down"]


def test_a_given_sandbox_stays(commands: list[str]) -> None:
    with base.sandbox_for(options("--sandbox", "mine")) as name:
        assert name == "mine"
    assert commands == []


def test_cells_cannot_break_a_table() -> None:
    assert base.markdown_table(("a", "b"), [("x|y\nz", 1)], numeric=True).splitlines() == [
        "| a | b |",
        "|---|---:|",
        "| x\\|y z | 1 |",
    ]


OUTPUT = """
TASK [kubeadm_upgrade : Node | Install and start the new kubelet] **************
fatal: [worker-1]: FAILED! => {
    "changed": false,
    "msg": "/run/kubepin.lock is held.",
    "problems": [
        {
            "code": "node_locked",
            "text": "/run/kubepin.lock is held."
        }
    ]
}
failed: [worker-2 -> localhost] (item=a) => {"msg": "of a loop"}
fatal: [worker-2 -> localhost]: FAILED! => {"changed": false, "msg": "no answer", "status": null}
"""


def test_failures_are_read_from_the_output_of_a_playbook() -> None:
    results = base.failed_results(OUTPUT)
    assert [result["msg"] for result in results] == ["/run/kubepin.lock is held.", "no answer"]
    assert base.problem_codes(results) == {"node_locked"}
