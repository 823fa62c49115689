# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of campaign `power-cuts` on a sandbox's machine: whole playbooks, whose cordon and last words are looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster import Sandbox
from sandbox.machines import Machine
from sandbox.settings import SandboxError
from tests.campaigns.base import AnsibleRun, CheckFailed, expect
from tests.campaigns.fault_checks import FaultResult, check_left_cordoned
from tests.campaigns.power_cut_results import CONFIRMATION, CutResult, keep
from tests.campaigns.worker import PLACED, Worker

TUNE, ROLL_BACK = "tune-gpu-nodes.yml", "rollback-gpu-nodes.yml"
# Each wait of a run: an emulated machine's kubelet is slow.
TIMEOUT = ("-e", "cpu_manager_timeout=240")
RUN_SECONDS = 900


@dataclass(frozen=True)
class ClusterCut:
    """A row to be: the playbook, the step that its name contains, and the policy after the next run."""

    kind: str
    playbook: str
    step: str
    policy: str


CUTS = (
    ClusterCut("held switch", TUNE, PLACED, "static"),
    ClusterCut("rollback", ROLL_BACK, "remove /var/lib/kubelet/cpu_manager_state", "none"),
    ClusterCut(CONFIRMATION, TUNE, "(committed, held)", "static"),
    ClusterCut("rollback", ROLL_BACK, "(committed)", "none"),
)
"""Each begins where the one before it ends."""


class ClusterCuts:
    """The rows on one machine, one after the other."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        expect(bool(sandbox.machines), f'sandbox "{sandbox.state.name}" has no machine')
        self.machine: Machine = sandbox.machines[0]
        self.worker = Worker(sandbox, self.machine)
        self.folder = folder

    def run(self, deadline: float) -> list[CutResult]:
        """All rows that begin before the deadline, by the monotonic clock; the first one that fails is the last one."""
        self.worker.install_hook()
        rows: list[CutResult] = []
        for cut in CUTS:
            if time.monotonic() > deadline or (rows and rows[-1].failed):
                break
            rows.append(self._row(cut))
            keep(rows[-1], self.folder)
            print(f"{time.strftime('%H:%M:%S')} {rows[-1].outcome}", flush=True)
        if self.machine.running():
            self.worker.remove_hook()
        return rows

    def _row(self, cut: ClusterCut) -> CutResult:
        row = CutResult(cut.kind, f"{cut.playbook}, before: {cut.step}", "writeback")
        started = time.monotonic()
        try:
            interrupted = self._cut(cut)
            row.message = interrupted.fact("kubepin_result", self.worker.name)["first_cause"]
            self._check(cut, row, interrupted)
        except (CheckFailed, SandboxError, KeyError, ValueError) as error:
            row.failed = str(error)
        row.seconds = round(time.monotonic() - started)
        return row

    def _cut(self, cut: ClusterCut) -> AnsibleRun:
        """Cut the power before the step; what the playbook, which goes on without the machine, says."""
        self.worker.arm(0, "hold", named=cut.step)
        running = self.worker.start_playbook(*TIMEOUT, playbook=cut.playbook)
        try:
            self.worker.wait_held(RUN_SECONDS)
            self.machine.power_cut()
            run = running.end(RUN_SECONDS)
        finally:
            if running.process.poll() is None:
                running.kill()
        expect(run.code != 0, "the run did not fail")
        return run

    def _check(self, cut: ClusterCut, row: CutResult, interrupted: AnsibleRun) -> None:
        worker = self.worker
        self.machine.boot()
        worker.wait_up(self.machine.BOOT_SECONDS)
        row.kubelet = f"up, policy {worker.policy()}"
        row.files = f"{len(worker.drafts())} drafts"
        left = FaultResult("run", cut.step)
        check_left_cordoned(worker, left, interrupted)
        begun = worker.unfinished()
        run = worker.start_playbook(*TIMEOUT, playbook=cut.playbook).end(RUN_SECONDS)
        expect(run.code == 0, f"the next run fails: {run.error}")
        expect(worker.policy() == cut.policy and worker.up(), "the next run left another policy, or no kubelet")
        expect(worker.cordoned() == (False, False), f"cordoned and marked after the next run: {worker.cordoned()}")
        expect(not worker.unfinished(), "a journal is still unfinished")
        expect(not worker.drafts(), f"left after the next run: {worker.drafts()}")
        row.cordon = f"{left.cordon}; taken off by the next run"
        row.next_run = "undoes the interrupted switch, converges" if begun else "converges"


def rows_of(sandbox: Sandbox, folder: Path, deadline: float) -> Sequence[CutResult]:
    """All rows on the sandbox's first machine."""
    return ClusterCuts(sandbox, folder).run(deadline)
