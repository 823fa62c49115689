# SPDX-License-Identifier: GPL-3.0-or-later
"""What every row of campaign `faults` has: its result, and the checks of what a fault left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.campaigns.base import AnsibleRun, expect
from tests.campaigns.worker import MARK, Worker


@dataclass
class FaultResult:
    """What one fault left behind, in words; `failed` says which check does not hold."""

    group: str
    fault: str
    kubelet: str = ""
    cordon: str = ""
    next_run: str = ""
    message: str = ""
    failed: str = ""
    seconds: int = 0


Act = Callable[[Worker, FaultResult], None]


@dataclass(frozen=True)
class Fault:
    """A row to be: its group, its title, and what it does and checks."""

    group: str
    title: str
    act: Act
    alone: bool = False
    """Whether no other row may run beside it."""


def check_up(worker: Worker, row: FaultResult) -> None:
    """The kubelet is up without help."""
    seconds = worker.wait_up()
    row.kubelet = "up" if seconds < 1 else f"up after {seconds:.0f} s"


def check_cordon(worker: Worker, row: FaultResult, before: bool = False) -> None:
    """The cordon is as before, without kubepin's mark."""
    cordoned, marked = worker.cordoned()
    expect(cordoned == before, f"cordoned: {cordoned}, before: {before}")
    expect(not marked, f"the annotation {MARK} was left")
    row.cordon = "as before"


def check_left_cordoned(worker: Worker, row: FaultResult, run: AnsibleRun, before: bool = False) -> None:
    """The cordon was left on purpose, marked as kubepin's unless it was there before, and the run says so."""
    found, expected = worker.cordoned(), (True, not before)
    expect(found == expected, f"cordoned and marked: {found}, expected {expected}")
    result = run.fact("kubepin_result", worker.name)
    reported = result.get("outcome"), result.get("left_cordoned")
    expect(reported == ("failed", True), f"outcome and left_cordoned in the fact: {reported}, expected failed and True")
    row.cordon = "left, and reported"


def check_module_again(worker: Worker, row: FaultResult) -> None:
    """The next switch ends as asked, undoing an interrupted one first, and a third run has nothing to do."""
    unfinished = worker.unfinished()
    result = worker.module()
    expect(not result.get("failed"), f"the next run fails: {result.get('msg')}")
    expect(
        bool(result.get("recovered")) == unfinished,
        f"unfinished journal: {unfinished}, undone: {result.get('recovered')}",
    )
    expect(worker.policy() == "static" and worker.up(), "the next run left another policy, or no kubelet")
    expect(not worker.unfinished(), "a journal is still unfinished")
    expect(not worker.drafts(), f"left after the next run: {worker.drafts()}")
    row.next_run = "undoes the interrupted switch, converges" if unfinished else "converges"


def check_playbook_again(worker: Worker, row: FaultResult, before: bool = False) -> None:
    """The next run of the playbook tunes the node and gives it back."""
    run = worker.playbook()
    expect(run.code == 0, f"the next run fails: {run.error}")
    expect(worker.policy() == "static" and worker.up(), "the next run left another policy, or no kubelet")
    expect(worker.cordoned() == (before, False), f"cordoned and marked after the next run: {worker.cordoned()}")
    row.next_run = "converges"
