# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade a tuned cluster from 1.21.14 to 1.22.17, kill the run at every task, and run it again until it is done.

On a sandbox of its own with two workers in one batch. Each run is killed (-9, with all its children) where none was killed yet: as soon as
a task that changes something is announced, once more while it works on a node (or at the next task, if it ends sooner), and as soon as the
next one is announced. Tasks between, which only read and compare, leave the same behind as the one before. What a killed run began on a
node goes on by itself, as after a cut network. Fails if no run was killed at one of these tasks. Ends with the checks of molecule/upgrade
and a run that must change nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.base import (
    JSON_LINES,
    ROOT,
    AnsibleRun,
    CheckFailed,
    expect,
    new_sandbox,
    no_answer,
    playbook,
    print_table,
)

NAME, BEFORE, AFTER = "interrupted", "1.21.14", "1.22.17"
PLAYBOOK = ["ansible-playbook", "upgrade-cluster.yml", "-e", '{"kubeadm_upgrade_batches": [2]}']
SUITED = {"prepare": ("Step",), "apply": ("Step", "Apply"), "node": ("Step", "Node", "Release")}
"""Action of a step -> the tasks that do something in it, by the first word of their name."""
CHANGES = {
    "Step | Back up the node, and fetch the new version": 3.0,
    "Apply | Upgrade the control plane": 15.0,
    "Node | Write the new configuration with kubeadm": 2.0,
    "Node | Cordon the node and evict its pods": 3.0,
    "Node | Install and start the new kubelet": 4.0,
    "Release | Uncordon the node, unless another user had cordoned it": None,
}
"""Tasks that change something -> after how many seconds a run is killed in the middle of them."""
BEGIN = "Step | Record the start time"
"""The first task of each step."""
LIMIT_SECONDS = 900
REFUSED_SECONDS, REFUSED_TIMES = 10, 30
RESCUE = "Step | Fail with the state of the cluster and the next step"

ROLE = "kubeadm_upgrade : "


@dataclass(frozen=True)
class Point:
    """Where a run is killed: a task of one step, `seconds` after it was announced."""

    hosts: str
    action: str
    task: str
    seconds: float


@dataclass
class RunOutcome:
    """One run, and where it was killed; None: it ended by itself."""

    run: AnsibleRun = field(default_factory=AnsibleRun)
    killed: Point | None = None
    seconds: float = 0.0

    @property
    def plan(self) -> Mapping[str, Any]:
        """What it found and planned; empty if it was killed before, or could not read the cluster."""
        return self.run.fact("kubepin_upgrade_plan")

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        return list(self.plan.get("steps") or ())


def children(mark: str) -> Iterator[int]:
    """Every process that has *mark* in its environment: forks of Ansible lead sessions of their own."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                yield int(folder.name)


def kill(mark: str) -> None:
    """Kill all of a run; again, for what was forked meanwhile."""
    for _ in range(3):
        for pid in children(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def run_until(hit: set[Point]) -> RunOutcome:
    """One run, killed at the first point that is not in *hit*."""
    outcome, mark, started = RunOutcome(), f"INTERRUPTED_RUN={uuid.uuid4()}", time.monotonic()
    environment = {**os.environ, **dict([mark.split("=")]), **JSON_LINES, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(PLAYBOOK, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert process.stdout
    number, due, point, rest, changed = -1, None, None, b"", False
    while True:
        wait = max(0.0, due - time.monotonic()) if due else LIMIT_SECONDS
        ready, _, _ = select.select([process.stdout], [], [], wait)
        if not ready or (due and time.monotonic() >= due):
            kill(mark)
            outcome.killed = point
            break
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            outcome.run.code = process.wait()
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in (line.decode(errors="replace") for line in lines):
            announced = outcome.run.read(line) or ""
            if not announced.startswith(ROLE):
                continue
            task = announced.removeprefix(ROLE)
            if point and due:
                if task != point.task:  # it ended sooner; later tasks would never be hit if the run went on
                    due = time.monotonic()
                continue
            group = task.partition(" | ")[0]
            number += task == BEGIN
            if not 0 <= number < len(outcome.steps) or task == RESCUE:
                continue
            action, hosts = outcome.steps[number]["action"], ", ".join(outcome.steps[number]["hosts"])
            if group not in SUITED[action]:
                continue
            changes = task in CHANGES and (action == "prepare" or group != "Step")  # else it is done already
            within = CHANGES[task] if changes else None
            times = [*([0.0] if changed or changes else []), *([within] if within else [])]
            changed = changes
            point = next((p for p in (Point(hosts, action, task, s) for s in times) if p not in hit), None)
            due = time.monotonic() + point.seconds if point else None
    process.stdout.close()
    process.wait()
    outcome.seconds = time.monotonic() - started
    return outcome


def place(node: Mapping[str, Any]) -> str:
    """A node's state in the plan, as short as the table wants it."""
    words = [f"API server {node['api_server']}"] if node["api_server"] else []
    words += [f"kubelet {node['kubelet']}", f"policy {node['policy']}"]
    words += [word for word, key in (("interrupted", "in_progress"), ("cordoned", "cordoned")) if node[key]]
    return f"{node['node'].removeprefix(f'{NAME}-')}: {', '.join(words)}"


def refusal(run: AnsibleRun) -> str | None:
    """Why a run was refused that came too early after a killed one; None if it was not."""
    if {"node_locked", "another_run_active"} & run.problems().keys():
        return "refused, nothing changed: what a killed run began still works on the node"
    if any(no_answer(result.values) for result in run.failures):
        return "refused, nothing changed: kubeadm, which a killed run began, restarts the API server"
    return None


def interrupt() -> list[tuple[RunOutcome, str]]:
    """Runs until one comes to its end."""
    hit: set[Point] = set()
    runs: list[tuple[RunOutcome, str]] = []
    refused = 0
    while True:
        outcome = run_until(hit)
        refused_because = refusal(outcome.run)
        if outcome.killed:
            refused = 0
            hit.add(outcome.killed)
            ended = f"{outcome.killed.action} {outcome.killed.hosts.replace(f'{NAME}-', '')}: {outcome.killed.task}" + (
                f" after {outcome.killed.seconds:g} s" if outcome.killed.seconds else ""
            )
        elif outcome.run.code == 0:
            ended = "done"
        elif refused_because and refused < REFUSED_TIMES:
            ended = refused_because
            refused += 1
            time.sleep(REFUSED_SECONDS)
        else:
            raise CheckFailed(f"after {len(runs)} runs, the next one did not go on: {outcome.run.error}")
        runs.append((outcome, ended))
        print(f"{len(runs):>3}. {ended} ({outcome.seconds:.0f} s)", flush=True)
        if ended == "done":
            return runs


def spared(runs: list[tuple[RunOutcome, str]]) -> list[str]:
    """The tasks that change something at which no run was killed."""
    killed = {outcome.killed.task for outcome, _ in runs if outcome.killed}
    return [task for task in CHANGES if task not in killed]


def show(runs: list[tuple[RunOutcome, str]]) -> None:
    """What each run found, and where it was killed."""
    rows = []
    before: list[str] = []
    for number, (outcome, ended) in enumerate(runs, start=1):
        found = [place(node) for node in outcome.plan.get("position") or ()]
        changes = [line for line in found if line not in before] or (["as before"] if found else ["not read"])
        rows.append((str(number), "\n".join(changes), str(len(outcome.steps)), ended))
        before = found or before
    print_table(
        f"{BEFORE} -> {AFTER}, killed {sum(outcome.killed is not None for outcome, _ in runs)} times",
        ("run", "found", "steps left", "killed at"),
        rows,
    )


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_options: argparse.Namespace) -> int:
    """On a sandbox of its own."""
    with new_sandbox(NAME, BEFORE, workers=2, builds=(AFTER,)):
        playbook("molecule/upgrade/prepare.yml")
        runs = interrupt()
        show(runs)
        playbook("molecule/upgrade/verify.yml")
        last = run_until(set())
        nothing_done = last.run.code == 0 and last.run.changed_nothing
        expect(nothing_done, f"a further run was to change nothing: {last.run.stats} {last.run.error}")
        print("a further run: changed=0 on every host")
        expect(not spared(runs), f"no run was killed at: {', '.join(spared(runs))}")
    return 0
