# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the stages of `make check`, `make test` and `make test-all` in lanes side by side, and sums them up.

A lane is a queue of stages that share something, such as a cluster, and run one after the other. Lanes run at the same
time: most of what a cluster does is waiting, so that two clusters and the unit tests fit on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from sandbox.progress import Durations, duration, roughly
from sandbox.settings import Paths
from tools.stages import SUITES, Lane, Stage

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "test-results"
DURATIONS = Paths.from_environment().cache / "stage-seconds.json"
HEARTBEAT_SECONDS = 60.0
TAIL_LINES = 80
LOG_LINES_IN_SUMMARY = 15
MESSAGE_LINES_IN_SUMMARY = 3
TESTS_IN_SUMMARY = 20
EXIT_NO_ENGINE = 3
MACHINE_HOST = "x86_64"
MEMORY_FOR_TESTS = 4 << 30
"""In bytes: far more than the temporary folders of a run take."""


class Outcome(Enum):
    """How a stage ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """A stage's outcome; `reason` says why it was not run."""

    stage: Stage
    lane: str
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Board:
    """What all lanes know of each other: results, running stages, processes to end on Ctrl-C."""

    lanes: Sequence[Lane]
    folder: Path
    durations: Mapping[str, float]
    started: float = field(default_factory=time.monotonic)
    results: list[Result] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def log(self, stage: Stage) -> Path:
        """The file with a stage's whole output."""
        return self.folder / f"{stage.slug}.log"

    def say(self, text: str) -> None:
        """Print one line with the time since the start."""
        elapsed = round(time.monotonic() - self.started)
        print(f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {text}", flush=True)

    def left(self) -> str:
        """The time left, from earlier runs: that of the slowest lane. Empty if a stage was never timed."""
        ended = {result.stage.name for result in self.results}
        now = time.monotonic()
        totals = []
        for lane in self.lanes:
            rest = 0.0
            for stage in lane.stages:
                if stage.name in ended:
                    continue
                if stage.name not in self.durations:
                    return ""
                spent = now - self.running[stage.name] if stage.name in self.running else 0.0
                rest += max(self.durations[stage.name] - spent, 0.0)
            totals.append(rest)
        return f"; {roughly(max(totals, default=0.0))} left"

    def begin(self, stage: Stage) -> None:
        """Note that a stage has started."""
        with self.lock:
            self.running[stage.name] = time.monotonic()
            self.say(f"started  {stage.name}")

    def end(self, result: Result) -> None:
        """Note a stage's result, and show the end of its output if it failed."""
        with self.lock:
            self.running.pop(result.stage.name, None)
            self.results.append(result)
            count = f"{len(self.results)} of {sum(len(lane.stages) for lane in self.lanes)}"
            if result.outcome is Outcome.NOT_RUN:
                self.say(f"not run  {result.stage.name}: {result.reason} ({count})")
                return
            self.say(f"{result.outcome.value:8} {result.stage.name} ({duration(result.seconds)}; {count})")
            if result.outcome is Outcome.FAILED:
                log = self.log(result.stage)
                print(f"----- end of {log}", *tail(log, TAIL_LINES), "-----", sep="\n", flush=True)

    def heartbeat(self) -> None:
        """Say what runs, and for how long."""
        with self.lock:
            now = time.monotonic()
            parts = [f"{name} ({duration(now - since)})" for name, since in self.running.items()]
            if parts:
                self.say(f"running  {', '.join(parts)}{self.left()}")

    def stop(self) -> None:
        """End what runs; no further stage starts."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                os.killpg(process.pid, signal.SIGTERM)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    return path.read_text(errors="replace").splitlines()[-lines:]


def temporary_root(in_memory: str = "/dev/shm") -> dict[str, str]:
    """What makes pytest keep its temporary folders in memory, where that has room and runs programs.

    Tests of interrupted upgrades remove some 30,000 folders, which on a disk takes as long as the tests themselves.
    """
    try:
        status = os.statvfs(in_memory)
    except OSError:
        return {}
    if status.f_bavail * status.f_frsize < MEMORY_FOR_TESTS or status.f_flag & os.ST_NOEXEC:
        return {}
    return {"PYTEST_DEBUG_TEMPROOT": in_memory}


def execute(board: Board, stage: Stage) -> int:
    """Run a stage's command with its output in its log; return the exit status."""
    with board.log(stage).open("wb") as log:
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env={**temporary_root(), **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # not a session of its own: the scheduler would group by session, and nice would not count
        )
        board.processes.add(process)
        try:
            return process.wait()
        finally:
            board.processes.discard(process)


def run_lane(board: Board, lane: Lane, no_engine: str) -> None:
    """Run a lane's stages in order. After a stage that the others need has failed, they are not run."""
    missing = no_engine if lane.needs_engine else ""
    if lane.needs_machines and platform.machine() != MACHINE_HOST:
        missing = f"virtual machines are made for {MACHINE_HOST} hosts only, and this one is {platform.machine()}"
    begun = False
    for stage in lane.stages:
        if board.stopped:
            missing = "stopped"
        if missing and not (stage.always and begun):
            board.end(Result(stage, lane.name, Outcome.NOT_RUN, reason=missing))
            continue
        begun = True
        board.begin(stage)
        started = time.monotonic()
        status = execute(board, stage)
        outcome = Outcome.FAILED if status else Outcome.PASSED
        board.end(Result(stage, lane.name, outcome, time.monotonic() - started))
        if status and stage.required:
            missing = f'"{stage.name}" failed'


def set_up_engine(machines: bool) -> str:
    """Prepare the host for sandboxes, and for virtual machines in them if asked; return why there can be none, or nothing.

    Raises SystemExit if the set-up itself failed.
    """
    what = "machines" if machines else "sandbox"
    status = subprocess.run(["tools/setup", what], cwd=ROOT, check=False).returncode
    if status == EXIT_NO_ENGINE:
        return "this machine cannot run a Docker engine (see above), so no kubelet was switched"
    if status:
        raise SystemExit("the set-up of this machine for sandboxes failed (see above)")
    return ""


def write_junit(board: Board, results: Sequence[Result]) -> None:
    """Write junit.xml with a test case for each stage."""
    counts = {outcome: sum(r.outcome is outcome for r in results) for outcome in Outcome}
    suite = ElementTree.Element(
        "testsuite",
        name="kubepin",
        tests=str(len(results)),
        failures=str(counts[Outcome.FAILED]),
        skipped=str(counts[Outcome.NOT_RUN]),
        time=f"{sum(r.seconds for r in results):.0f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", name=result.stage.name, classname=result.lane, time=f"{result.seconds:.0f}"
        )
        if result.outcome is Outcome.FAILED:
            log = board.log(result.stage)
            failure = ElementTree.SubElement(case, "failure", message=f"see {log.name}")
            failure.text = printable("\n".join(tail(log, TAIL_LINES)))
        elif result.outcome is Outcome.NOT_RUN:
            ElementTree.SubElement(case, "skipped", message=result.reason)
    tree = ElementTree.ElementTree(suite)
    tree.write(board.folder / "junit.xml", encoding="unicode", xml_declaration=True)


def printable(text: str) -> str:
    """The text without control characters, which XML does not allow."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


def failed_tests(report: Path) -> list[str]:
    """The tests that a JUnit file says have failed, each with the first lines of its message.

    :returns: lines to print; empty if the file is missing or incomplete, or if no test failed
    """
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []
    failures = [(case, end) for case in cases for end in case if end.tag in ("failure", "error")]
    lines = []
    for case, end in failures[:TESTS_IN_SUMMARY]:
        lines.append(f"{case.get('classname')}::{case.get('name')}")
        message = (end.get("message") or "").splitlines()
        lines += [f"  {line}" for line in message[:MESSAGE_LINES_IN_SUMMARY]]
    if len(failures) > TESTS_IN_SUMMARY:
        lines.append(f"and {len(failures) - TESTS_IN_SUMMARY} more in {report.name}")
    return lines


def causes(board: Board, stage: Stage) -> list[str]:
    """Why a stage has failed: its failed tests, or the end of its log if it has no JUnit file that names any."""
    found = failed_tests(board.folder / stage.junit) if stage.junit else []
    return found or tail(board.log(stage), LOG_LINES_IN_SUMMARY)


def summarise(board: Board, results: Sequence[Result]) -> int:
    """Print a line a stage, why stages have failed, and the totals; return the exit status.

    The causes stand here once more, because a long run's output is often kept from its end only.
    """
    elapsed = duration(time.monotonic() - board.started)
    print(f"\nsummary ({elapsed}; logs and junit.xml in {board.folder.name}/)")
    for result in results:
        remark = f"  {result.reason}" if result.reason else ""
        print(f"  {result.outcome.value:8} {result.seconds:6.0f} s  {result.stage.name}{remark}")
    for result in results:
        if result.outcome is Outcome.FAILED:
            print(
                f"\nfailed: {result.stage.name}", *(f"  {line}" for line in causes(board, result.stage)), "", sep="\n"
            )
    passed, failed, skipped = (
        sum(result.outcome is outcome for result in results)
        for outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.NOT_RUN)
    )
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


def run(
    lanes: Sequence[Lane],
    folder: Path = RESULTS,
    durations: Path = DURATIONS,
    prepare_engine: Callable[[bool], str] = set_up_engine,
) -> int:
    """Run all lanes side by side; return the exit status.

    :param folder: where logs and junit.xml go; those of an earlier run are removed
    :param durations: the file that keeps how long stages take
    :param prepare_engine: called if a lane needs an engine, with whether one needs machines; returns why there is none, or nothing
    """
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob("*.log"), *folder.glob("*.xml")):
        old.unlink()
    record = Durations(durations)
    board = Board(lanes, folder, record.read())
    needs_machines = any(lane.needs_machines for lane in lanes) and platform.machine() == MACHINE_HOST
    no_engine = prepare_engine(needs_machines) if any(lane.needs_engine for lane in lanes) else ""
    threads = [threading.Thread(target=run_lane, args=(board, lane, no_engine), name=lane.name) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        beat = time.monotonic() + HEARTBEAT_SECONDS
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            if time.monotonic() >= beat:
                board.heartbeat()
                beat += HEARTBEAT_SECONDS
    except KeyboardInterrupt:
        board.stop()
    for thread in threads:
        thread.join()
    order = {stage.name: index for index, stage in enumerate(stage for lane in lanes for stage in lane.stages)}
    results = sorted(board.results, key=lambda result: order[result.stage.name])
    record.add({result.stage.name: result.seconds for result in results if result.outcome is Outcome.PASSED})
    write_junit(board, results)
    return summarise(board, results) or int(board.stopped)


def main() -> int:
    """`SUITE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=list(SUITES))
    return run(SUITES[parser.parse_args().suite]())


if __name__ == "__main__":
    sys.exit(main())
