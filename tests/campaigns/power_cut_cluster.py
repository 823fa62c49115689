# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of campaign `power-cuts` on a sandbox's machine: whole playbooks, whose cordon and last words are looked at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sandbox.cluster import Sandbox
from sandbox.machines import Machine
from sandbox.settings import SandboxError
from sandbox.shell import wait_for
from tests.campaigns import fault_hook, power_cut_look
from tests.campaigns.base import AnsibleRun, CheckFailed, expect
from tests.campaigns.fault_checks import FaultResult, check_left_cordoned
from tests.campaigns.power_cut_checks import Look, end_problems, file_problems, how_whole, interrupted, refuse
from tests.campaigns.power_cut_results import CONFIRMATION, CutResult, keep, passed
from tests.campaigns.worker import PLACED, Running, Worker

TUNE, ROLL_BACK = "tune-gpu-nodes.yml", "rollback-gpu-nodes.yml"
# Each wait of a run: an emulated machine's kubelet is slow.
TIMEOUT = ("-e", "cpu_manager_timeout=240")
RUN_SECONDS = 1500
UP_SECONDS = 300
# As docs/operations.md says, and some for two CPUs that are busy.
NOTICED_SECONDS = 60


@dataclass(frozen=True)
class ClusterCut:
    """A row to be: the playbook, the step that its name contains, and the policy after the next run."""

    kind: str
    playbook: str
    step: str
    policy: str
    cordoned: bool = False
    """Whether another user has cordoned the node before."""

    @property
    def starts_with(self) -> str:
        """The policy that its run changes."""
        return "none" if self.playbook == TUNE else "static"

    @property
    def title(self) -> str:
        """When the cut is."""
        return f"{self.playbook}, before: {self.step}" + (" (node cordoned by another user)" if self.cordoned else "")


CUTS = (
    ClusterCut("held switch", TUNE, PLACED, "static"),
    ClusterCut("rollback", ROLL_BACK, "remove /var/lib/kubelet/cpu_manager_state", "none", cordoned=True),
    ClusterCut(CONFIRMATION, TUNE, "(committed, held)", "static"),
    ClusterCut("rollback", ROLL_BACK, "(committed)", "none"),
)
"""In this order, each begins where the one before it ends."""


def next_cut(left: Sequence[ClusterCut], policy: str | None) -> ClusterCut | None:
    """The first of the rows that are left that begins with the machine's policy; None if there is none."""
    return next((cut for cut in left if cut.starts_with == policy), None)


def cut_before(
    step: str, worker: Worker, machine: Machine, start: Callable[[], Running]
) -> tuple[AnsibleRun, datetime]:
    """Cut a machine's power before a step of a run; what the run, which goes on without the machine, reports, and when the
    cut was.

    Raises CheckFailed if the run ends before the step, or without an error.
    """
    worker.arm(0, "hold", named=step)
    running = start()

    def held() -> bool:
        if running.process.poll() is not None:
            raise CheckFailed(f"the run ends before the step: {running.end().error}")
        return worker.there(fault_hook.HELD)

    try:
        wait_for(f"{worker.name}: the run is held", held, RUN_SECONDS, 2)
        cut_at = datetime.now(UTC)
        machine.power_cut()
        run = running.end(RUN_SECONDS)
    finally:
        if running.process.poll() is None:
            running.kill()
    expect(run.code != 0, "the run did not fail")
    return run, cut_at


class ClusterCuts:
    """The rows on one machine, one after the other."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        expect(bool(sandbox.machines), f'sandbox "{sandbox.state.name}" has no machine')
        self.machine: Machine = sandbox.machines[0]
        self.worker = Worker(sandbox, self.machine)
        self.folder = folder
        self._ends: dict[str, Look] = {}
        """Policy -> the machine when it first had it: at the start, or at the end of a row."""

    def run(self, deadline: float) -> list[CutResult]:
        """All rows that begin before the deadline, by the monotonic clock, and did not pass before; the first one that
        fails is the last one."""
        rows = passed(self.folder)
        titles = {row.cut for row in rows}
        self.worker.install_hook()
        self.machine.run("sync")  # a cut loses what the kernel has not written yet
        start = self.look()
        left = [cut for cut in CUTS if cut.title not in titles]
        while (cut := next_cut(left, start.policy)) and time.monotonic() <= deadline:
            left.remove(cut)
            self._ends.setdefault(str(start.policy), start)
            row, start = self._row(cut, start)
            rows.append(row)
            keep(row, self.folder)
            print(f"{time.strftime('%H:%M:%S')} {row.outcome}", flush=True)
            if row.failed:
                break
        if left:
            print(f"{len(left)} rows are left; the machine has the policy {start.policy}", flush=True)
        if self.machine.running():
            self.worker.remove_hook()
        return rows

    def look(self) -> Look:
        """The machine's files, once its kubelet answers."""
        text = Path(power_cut_look.__file__).read_text()
        return Look(**json.loads(self.machine.run("python3", "-", str(UP_SECONDS), stdin=text)))

    def _row(self, cut: ClusterCut, before: Look) -> tuple[CutResult, Look]:
        """The row, and the machine after it; as before if the row failed."""
        row = CutResult(cut.kind, cut.title, "writeback")
        started, after = time.monotonic(), before
        try:
            after = self._check(cut, row, before)
        except (CheckFailed, SandboxError, KeyError, ValueError) as error:
            row.failed = str(error)
        row.seconds = round(time.monotonic() - started)
        return row, after

    def _check(self, cut: ClusterCut, row: CutResult, before: Look) -> Look:
        worker = self.worker
        if cut.cordoned:
            worker.cordon()
        run, cut_at = cut_before(
            cut.step, worker, self.machine, lambda: worker.start_playbook(*TIMEOUT, playbook=cut.playbook)
        )
        row.message = message_of(run, worker.name, cut_at)
        self.machine.boot()
        found = self.look()
        expect(found.up is not None, f"the kubelet does not come up: {found.log[-600:]}")
        row.kubelet = f"up, policy {found.policy}" if found.policy else "up, no state file yet"
        left = FaultResult("run", cut.step)
        check_left_cordoned(worker, left, run, before=cut.cordoned)
        begun = interrupted(found)
        again = worker.start_playbook(*TIMEOUT, playbook=cut.playbook).end(RUN_SECONDS)
        expect(again.code == 0, f"the next run fails: {again.error}")
        after = self.look()
        row.files = how_whole(before, after, found)
        refuse(file_problems(before, after, found))
        # A rollback leaves what was there before the tune.
        refuse(end_problems(self._ends.get(cut.policy, after), after))
        expect(after.policy == cut.policy, f"the next run left the policy {after.policy}, not {cut.policy}")
        expected = (cut.cordoned, False)
        expect(worker.cordoned() == expected, f"cordoned and marked after the next run: {worker.cordoned()}")
        if cut.cordoned:
            worker.uncordon()
        row.cordon = "the other user's, kept" if cut.cordoned else "kubepin's, reported; taken off by the next run"
        row.next_run = "undoes the interrupted switch, converges" if begun else "converges"
        return after


def message_of(run: AnsibleRun, node: str, cut_at: datetime) -> str:
    """What an interrupted run reports as the first cause, and how long after the cut it noticed, and ended.

    Raises CheckFailed if the cause is not the loss of the node, or this was not noticed in time.
    """
    cause = str(run.fact("kubepin_result", node).get("first_cause"))
    gone = [result.ended for result in run.results if result.host == node and result.values.get("unreachable")]
    expect(bool(gone) and "cannot be reached" in cause, f"the run does not report that the node is gone: {cause}")
    noticed, ended = (
        (moment - cut_at).total_seconds() for moment in (gone[0] or cut_at, run.results[-1].ended or cut_at)
    )
    expect(noticed <= NOTICED_SECONDS, f"noticed {noticed:.0f} s after the cut, expected {NOTICED_SECONDS} s at most")
    return f"{cause[:120]} (noticed after {noticed:.0f} s, the run ends after {ended:.0f} s)"


def rows_of(sandbox: Sandbox, folder: Path, deadline: float) -> Sequence[CutResult]:
    """All rows on the sandbox's first machine."""
    return ClusterCuts(sandbox, folder).run(deadline)
