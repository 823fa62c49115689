# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut the power of virtual machines at every step of what kubepin does on a node, and check what is left.

Each row is one cut (SIGKILL for QEMU): a program of kubepin is held exactly before a step, or cut at a random moment. Then the machine
boots. Each row checks: the kubelet comes up without help; each file has its old or its new text, owner and mode; the records can be read;
the interrupted run says what happened; the next run, the same as the interrupted one, undoes or finishes what was begun, leaves no draft,
and a third run has nothing to do. The machines have a kubelet of their own and no cluster, and so no cordon: `--sandbox` is for that, with
whole playbooks on a machine that is a worker. Rows stand in OUTPUT/rows.jsonl, all of them in OUTPUT/table.md.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.cluster import ready_sandbox
from sandbox.machine_image import machine_image
from sandbox.nodes import BUILDS_MOUNT
from sandbox.settings import DEFAULT_KUBERNETES, Paths, SandboxError, Version
from sandbox.shell import Log, Shell
from tests.campaigns import power_cut_cluster
from tests.campaigns.base import AnsibleRun, CheckFailed, add_output_argument, expect
from tests.campaigns.power_cut_checks import Look, end_problems, file_problems, how_whole, interrupted, refuse
from tests.campaigns.power_cut_guest import SHAPE, Guest, Laboratory, Saved, wait_told
from tests.campaigns.power_cut_results import CONFIRMATION, ROWS, CutResult, keep, show
from tests.campaigns.worker import PLACED, Running

CACHES = ("writeback", "none")
RUN_SECONDS = 420
# An emulated machine's kubelet is slow.
TIMEOUT = 180
HOLD_SECONDS = 60
END_SECONDS = 90
HELD = "(begun, held)"


@dataclass(frozen=True)
class Kind:
    """Something that kubepin does on a node."""

    name: str
    start: str
    """The machine that it starts from, as `Saved`."""
    run: Callable[[Guest], Running]
    again: Callable[[Guest], Running]
    """What a user runs after it was interrupted."""


@dataclass
class Learnt:
    """An undisturbed run: its steps, and the machine before and after."""

    steps: Sequence[str]
    seconds: float
    """From the first step to the last one."""
    before: Look
    after: Look


def cpu_manager(**more: Any) -> Callable[[Guest], Running]:
    """A run of the module that switches."""
    return lambda guest: guest.run_module("kubelet_cpu_manager", {"timeout": TIMEOUT, **more})


def upgrade(step: str) -> Callable[[Guest], Running]:
    """A run of a step of an upgrade."""

    def run(guest: Guest) -> Running:
        arguments = {
            "step": step,
            "version": str(guest.laboratory.target),
            "source": {"binaries": f"{BUILDS_MOUNT}/{{version}}"},
            "timeout": TIMEOUT,
        }
        return guest.run_module("kubeadm_node_upgrade", arguments)

    return run


def held_switch(guest: Guest) -> Running:
    """The two tasks of role cpu_manager."""
    return guest.run_playbook("fault_switch.yml", {"timeout": TIMEOUT, "hold": HOLD_SECONDS})


SWITCH = Kind("switch", "plain", cpu_manager(), cpu_manager())
HELD_SWITCH = Kind("held switch", "plain", held_switch, cpu_manager())
ROLLBACK = Kind("rollback", "tuned", cpu_manager(state="rolled_back"), cpu_manager(state="rolled_back"))
UPGRADE = Kind("upgrade", "prepared", upgrade("kubelet"), upgrade("kubelet"))
UNDOING = Kind("undoing", "interrupted", cpu_manager(state="recovered"), cpu_manager(state="recovered"))
KINDS = (SWITCH, HELD_SWITCH, ROLLBACK, UPGRADE, UNDOING)


@dataclass(frozen=True)
class Cut:
    """A row to be."""

    kind: Kind
    cache: str
    step: int = 0
    """Before which step; 0 at some moment after the first one."""
    name: str = ""
    """Of the step."""
    moment: float = 0.0
    """How many seconds after the first step."""
    group: str = ""

    @property
    def title(self) -> str:
        """When it is."""
        return f"before: {shown(self.name)}" if self.step else f"{self.moment:.1f} s after the first step"


def shown(step: str) -> str:
    """A step's name without what differs from run to run."""
    place, dot, rest = step.partition("/switches/")
    if dot and ".json" in rest:
        return f"{place.split()[0]} journal{rest.partition('.json')[2]}"
    return step.replace("/var/lib/kubepin/switches", "the journal's folder")


def cuts_of(kind: Kind, learnt: Learnt, moments: int, seed: int) -> list[Cut]:
    """The rows of a kind: a cut before each step and some at random moments, with one cache and the other in turn.

    :param moments: how many at random moments
    """
    caches = itertools.cycle(CACHES)
    cuts = []
    group = kind.name
    for number, name in enumerate(learnt.steps, 1):
        cuts.append(Cut(kind, next(caches), number, name, group=group))
        if HELD in name:
            group = CONFIRMATION
    chance = random.Random(f"{seed} {kind.name}")
    cuts += [
        Cut(kind, next(caches), moment=round(chance.uniform(0, learnt.seconds), 1), group=kind.name)
        for _ in range(moments)
    ]
    return cuts


# What must hold


def message_of(run: AnsibleRun) -> str:
    """What an interrupted run says.

    Raises CheckFailed if it did not notice.
    """
    if run.code == 0:
        return "the run had ended"
    expect(bool(run.last.get("unreachable")), f"the interrupted run does not say that the node is gone: {run.error}")
    return f"unreachable: {run.error[:90]}"


# The campaign


@dataclass
class Campaign:
    """All rows, on all machines at once. What a kind starts from is made as soon as its turn comes."""

    laboratory: Laboratory
    folder: Path
    kinds: Sequence[Kind]
    moments: int
    seed: int
    deadline: float
    """When the last row begins, by the monotonic clock."""
    saved: dict[str, Saved] = field(default_factory=dict)
    rows: list[CutResult] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    planned: int = 0

    def __post_init__(self) -> None:
        self._tasks: queue.PriorityQueue[tuple[int, int, Callable[[Guest], None]]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open = 0

    def run(self, base: Saved, machines: int) -> None:
        """Everything, until it is done or the time is over."""
        self.saved["base"] = base
        self._add(0, self._make_plain)
        guests = [Guest(self.laboratory, number) for number in range(machines)]
        threads = [threading.Thread(target=self._work, args=(guest,), daemon=True) for guest in guests]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for guest in guests:
                guest.end()

    def _add(self, rank: int, task: Callable[[Guest], None]) -> None:
        with self._changed:
            self._open += 1
            self._tasks.put((rank, next(self._number), task))
            self._changed.notify_all()

    def _next(self) -> Callable[[Guest], None] | None:
        with self._changed:
            while self._open and time.monotonic() < self.deadline:
                if not self._tasks.empty():
                    return self._tasks.get()[2]
                self._changed.wait(1)
        return None

    def _work(self, guest: Guest) -> None:
        while task := self._next():
            try:
                task(guest)
            except (CheckFailed, SandboxError, KeyError, ValueError, OSError) as error:
                self._say(f"FAILED: {error}")
                self.errors.append(str(error))
            finally:
                guest.end()
                with self._changed:
                    self._open -= 1
                    self._changed.notify_all()

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    # What kinds start from

    def _make_plain(self, guest: Guest) -> None:
        guest.start(self.saved["base"], "writeback")
        guest.install(self.laboratory.version)
        self._keep(guest, "plain")

    def _make_prepared(self, guest: Guest) -> None:
        guest.start(self.saved["tuned"], "writeback")
        succeed(upgrade("prepare")(guest))
        self._keep(guest, "prepared")

    def _make_interrupted(self, learnt: Learnt, guest: Guest) -> None:
        """A switch that a power cut interrupted after all files were replaced, after the next boot."""
        guest.start(self.saved["plain"], "writeback")
        placed = learnt.steps.index(PLACED)
        self._cut(guest, Cut(SWITCH, "writeback", placed + 2, learnt.steps[placed + 1]))
        guest.boot()
        expect(guest.look().up is not None, "no kubelet after a cut")
        self._keep(guest, "interrupted")

    def _keep(self, guest: Guest, name: str) -> None:
        """Save the machine, and plan what can start from it."""
        self.saved[name] = guest.save(name)
        self._say(f"{name}: saved")
        for kind in self.kinds:
            if kind.start == name:
                self._add(0, partial(self._learn, kind))

    def _learn(self, kind: Kind, guest: Guest) -> None:
        guest.start(self.saved[kind.start], "writeback")
        before = guest.look()
        guest.arm(0, "none")
        succeed(kind.run(guest))
        began, ended = guest.shell("stat -c '%W %Y' /run/kubepin-fault/trace").split()
        learnt = Learnt(guest.trace(), float(ended) - float(began), before, guest.look())
        self._say(f"{kind.name}: {len(learnt.steps)} steps in {learnt.seconds:.0f} s")
        cuts = cuts_of(kind, learnt, self.moments, self.seed)
        # In any order, kinds in turn: a campaign that the time is over for has done some of everything.
        for rank, cut in enumerate(random.Random(self.seed).sample(cuts, len(cuts)), 1):
            self.planned += 1
            self._add(rank, partial(self._row, cut, learnt))
        if kind is SWITCH:
            self._keep(guest, "tuned")
            starts = {each.start for each in self.kinds}
            if "prepared" in starts:
                self._add(0, self._make_prepared)
            if "interrupted" in starts:
                self._add(0, partial(self._make_interrupted, learnt))

    # Rows

    def _row(self, cut: Cut, learnt: Learnt, guest: Guest) -> None:
        row = CutResult(cut.group, cut.title, cut.cache)
        started = time.monotonic()
        try:
            guest.start(self.saved[cut.kind.start], cut.cache)
            row.message = self._cut(guest, cut)
            guest.boot()
            self._check(guest, cut, learnt, row)
        except (CheckFailed, SandboxError, KeyError, ValueError, OSError) as error:
            row.failed = str(error)
        row.seconds = round(time.monotonic() - started)
        with self._lock:
            self.rows.append(row)
            keep(row, self.folder)
            count = f"[{len(self.rows)}/{self.planned}]"
        self._say(f"{count} {row.outcome}")

    def _cut(self, guest: Guest, cut: Cut) -> str:
        """Cut the power where the row wants it; what the interrupted run says."""
        guest.arm(cut.step or 1, "hold" if cut.step else "tell")
        with guest.listen() as connection:
            running = cut.kind.run(guest)
            try:
                told = wait_told(connection, running, RUN_SECONDS)
                time.sleep(cut.moment)
                guest.cut()
                run = running.end(END_SECONDS)
            finally:
                if running.process.poll() is None:
                    running.kill()
        expect(not cut.step or shown(told) == shown(cut.name), f"held before: {told}")
        return message_of(run)

    def _check(self, guest: Guest, cut: Cut, learnt: Learnt, row: CutResult) -> None:
        found = guest.look()
        expect(found.up is not None, f"the kubelet does not come up: {found.log[-600:]}")
        row.kubelet = f"up, policy {found.policy}" if found.policy else "up, no state file yet"
        row.files = how_whole(learnt.before, learnt.after, found)
        refuse(file_problems(learnt.before, learnt.after, found))
        begun = interrupted(found)
        result = succeed(cut.kind.again(guest))
        if cut.kind is not UPGRADE:
            undone = bool(result.get("recovered"))
            expect(undone == begun, f"an unfinished switch: {begun}; the next run says that it undid one: {undone}")
        refuse(end_problems(learnt.after, guest.look()))
        third = succeed(cut.kind.again(guest))
        expect(not third["changed"], "a third run still changes something")
        row.next_run = next_run(cut.kind, bool(result["changed"]), begun)


def next_run(kind: Kind, changed: bool, begun: bool) -> str:
    """What the next run did, in words."""
    if begun:
        return "reports and undoes the interrupted switch" + ("" if kind is UNDOING else ", converges")
    return "converges" if changed else "nothing to do"


def succeed(running: Running) -> Mapping[str, Any]:
    """The result of a run.

    Raises CheckFailed if it failed.
    """
    run = running.end(RUN_SECONDS)
    expect(run.code == 0, f"the run fails: {run.error}")
    return run.last


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--sandbox", metavar="NAME", help="cut whole playbooks on its machine instead: four rows")
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="with --sandbox: leave out rows that passed in FOLDER before",
    )
    parser.add_argument("--k8s", default=DEFAULT_KUBERNETES, metavar="VERSION", help="default: %(default)s")
    parser.add_argument("--machines", type=int, default=1, metavar="N", help="at the same time (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=7200, help="no row begins later (default: %(default)s)")
    parser.add_argument(
        "--moments", type=int, default=4, metavar="N", help="random ones of each kind (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help=f"a part of: {', '.join(map(repr, NAMES))}")
    add_output_argument(parser, "power-cuts")


NAMES = tuple(kind.name for kind in KINDS)


def wanted_kinds(names: Sequence[str] | None) -> list[Kind]:
    """The kinds of these names, and what they need.

    Raises CheckFailed for a name that there is not.
    """
    unknown = [name for name in names or () if name not in NAMES]
    expect(not unknown, f"unknown kind {', '.join(unknown)}: expected some of {', '.join(NAMES)}")
    return [kind for kind in KINDS if names is None or kind.name in names or kind is SWITCH]


def run(options: argparse.Namespace) -> int:
    """The exit status is 1 if a row fails, or if there is none."""
    kinds = wanted_kinds(options.kinds)
    deadline = time.monotonic() + options.seconds
    options.output.mkdir(parents=True, exist_ok=True)
    expect(
        not options.go_on or bool(options.sandbox), "--continue needs --sandbox: other rows do not build on each other"
    )
    if not options.go_on:
        (options.output / ROWS).unlink(missing_ok=True)
    paths = Paths.from_environment()
    if options.sandbox:
        with ready_sandbox(paths, options.sandbox) as sandbox:
            rows = power_cut_cluster.rows_of(sandbox, options.output, deadline)
        return int(show(rows, options.output) > 0 or not rows)
    shell = Shell(Log(options.output / "commands.log"))
    image = machine_image(paths, SHAPE.debian)
    expect(image.folder.exists(), "there is no machine image: `python3 -m sandbox up --machines 1` makes it")
    with tempfile.TemporaryDirectory(prefix="power-cuts-") as folder:
        consoles = options.output / "consoles"
        laboratory = Laboratory(paths, image, shell, Path(folder), consoles, Version.parse(options.k8s))
        base = laboratory.prepare()
        campaign = Campaign(laboratory, options.output, kinds, options.moments, options.seed, deadline)
        campaign.run(base, options.machines)
    failed = show(campaign.rows, options.output)
    return int(failed > 0 or bool(campaign.errors) or not campaign.rows)
