# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade a tuned cluster from 1.21.14 to 1.22.17, kill the run at every task, and run it again until it is done.

On a sandbox of its own with two workers in one batch. Each run is killed (-9, with all its children) where none was killed yet: as soon as
a task that changes something is announced, once more while it works on a node, and as soon as the next one is announced. Tasks between,
which only read and compare, leave the same behind as the one before. What a killed run began on a node goes on by itself, as after a cut
network. Ends with the checks of molecule/upgrade and a run that must change nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.base import (
    ROOT,
    CheckFailed,
    expect,
    failed_results,
    new_sandbox,
    playbook,
    print_table,
    problem_codes,
)

NAME, BEFORE, AFTER = "interrupted", "1.21.14", "1.22.17"
PLAYBOOK = ["ansible-playbook", "upgrade-cluster.yml", "-e", '{"kubeadm_upgrade_batches": [2]}']
SUITED = {"prepare": ("Step",), "apply": ("Step", "Apply"), "node": ("Step", "Node", "Release")}
"""Action of a step -> the tasks that do something in it, by the first word of their name."""
CHANGES = {
    "Keep what there is, and fetch what comes": 3.0,
    "Upgrade the control plane": 15.0,
    "Let kubeadm write the new configuration": 2.0,
    "Cordon the node, marked as ours in case this run is interrupted, and evict its pods": 3.0,
    "Install and start the new kubelet": 4.0,
    "Uncordon the node and take our mark off, unless it was found cordoned": None,
}
"""Tasks that change something -> after how many seconds a run is killed in the middle of them."""
LIMIT_SECONDS = 900
REFUSED_SECONDS, REFUSED_TIMES = 10, 30
RESCUE = "Say what happened, where the cluster is, and how to go on or back"

TASK = re.compile(r"^TASK \[kubeadm_upgrade : (\w+) \| (.*)\] \**$")
STEP = re.compile(r'^\s*" *\d+\. \S+   (.+?)   (keep copies|kubeadm upgrade apply|node:)')
PLACE = re.compile(r'^\s*"  (\S+ .*kubelet \d.*?)",?$')
RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)")
ACTIONS = {"keep copies": "prepare", "kubeadm upgrade apply": "apply", "node:": "node"}


@dataclass(frozen=True)
class Point:
    """Where a run is killed: a task of one step, `seconds` after it was announced."""

    hosts: str
    action: str
    task: str
    seconds: float


@dataclass
class RunOutcome:
    """What one run found and how it ended; `killed` None: by itself."""

    found: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    killed: Point | None = None
    code: int | None = None
    recap: list[tuple[int, int, int]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    seconds: float = 0.0


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
    whole_lines = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **dict([mark.split("=")]), **whole_lines}
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
            outcome.code = process.wait()
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in (line.decode(errors="replace") for line in lines):
            outcome.output.append(line)
            if step := STEP.match(line):
                outcome.steps.append((ACTIONS[step[2]], step[1]))
            elif place := PLACE.match(line):
                outcome.found.append(place[1])
            elif recap := RECAP.match(line):
                outcome.recap.append((int(recap[1]), int(recap[2]), int(recap[3])))
            task = TASK.match(line)
            if not task or due:
                continue
            number += task[2] == "Note when it began"
            if not 0 <= number < len(outcome.steps) or task[2] == RESCUE:
                continue
            action, hosts = outcome.steps[number]
            if task[1] not in SUITED[action]:
                continue
            changes = task[2] in CHANGES and (action == "prepare" or task[1] != "Step")  # else it is done already
            within = CHANGES[task[2]] if changes else None
            times = [*([0.0] if changed or changes else []), *([within] if within else [])]
            changed = changes
            point = next(
                (p for p in (Point(hosts, action, f"{task[1]} | {task[2]}", s) for s in times) if p not in hit), None
            )
            due = time.monotonic() + point.seconds if point else None
    process.stdout.close()
    process.wait()
    outcome.seconds = time.monotonic() - started
    return outcome


def place(line: str) -> str:
    """A node's line of the plan, as short as the table wants it."""
    words = re.sub(rf"^{NAME}-", "", re.sub(r" {2,}", ": ", line))
    words = re.sub(r"kubeadm \S+, |CPU manager ", "", words)
    return words.replace("cordoned by an interrupted upgrade", "interrupted").replace("stays cordoned", "cordoned")


def refusal(output: str) -> str | None:
    """Why a run was refused that came too early after a killed one; None if it was not."""
    results = failed_results(output)
    if {"node_locked", "another_run_active"} & problem_codes(results):
        return "refused, nothing changed: what a killed run began still works on the node"
    if any("status" in result and result["status"] is None for result in results):  # no answer from the API server
        return "refused, nothing changed: kubeadm, which a killed run began, restarts the API server"
    return None


def interrupt() -> list[tuple[RunOutcome, str]]:
    """Runs until one comes to its end."""
    hit: set[Point] = set()
    runs: list[tuple[RunOutcome, str]] = []
    refused = 0
    while True:
        outcome = run_until(hit)
        text = "\n".join(outcome.output)
        refused_because = refusal(text)
        if outcome.killed:
            refused = 0
            hit.add(outcome.killed)
            ended = f"{outcome.killed.action} {outcome.killed.hosts.replace(f'{NAME}-', '')}: {outcome.killed.task}" + (
                f" after {outcome.killed.seconds:g} s" if outcome.killed.seconds else ""
            )
        elif outcome.code == 0:
            ended = "done"
        elif refused_because and refused < REFUSED_TIMES:
            ended = refused_because
            refused += 1
            time.sleep(REFUSED_SECONDS)
        else:
            print(text)
            raise CheckFailed(f"after {len(runs)} runs, the next one did not go on: see above")
        runs.append((outcome, ended))
        print(f"{len(runs):>3}. {ended} ({outcome.seconds:.0f} s)", flush=True)
        if ended == "done":
            return runs


def show(runs: list[tuple[RunOutcome, str]]) -> None:
    """What each run found, and where it was killed."""
    rows = []
    before: list[str] = []
    for number, (outcome, ended) in enumerate(runs, start=1):
        found = [place(line) for line in outcome.found]
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
        show(interrupt())
        playbook("molecule/upgrade/verify.yml")
        last = run_until(set())
        nothing_done = last.code == 0 and bool(last.recap) and not any(any(numbers) for numbers in last.recap)
        expect(nothing_done, "a further run was to change nothing:\n" + "\n".join(last.output))
        print("a further run: changed=0 on every host")
    return 0
