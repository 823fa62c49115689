# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a verb: from the request to the result; writes the folder and handles a stop."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

from orchestrator import runs
from orchestrator.model import VERBS, Event, HostResult, PlayResult, RunRequest, RunResult, RunVerdict, UsageError
from orchestrator.ownership import Owner
from orchestrator.play import Play, PlayError, run_play
from orchestrator.reading import benchmark_round
from orchestrator.redaction import Redactor
from orchestrator.scratch import places, scratch_folder, sweep
from orchestrator.values import as_list, as_object

Listener = Callable[[Event], None]

_NODES_STOP = "current nodes will finish (or be uncordoned if still draining); no new node will start"
_PODS_STOP = "running benchmark pods will finish their current round; no new round will start"
_ON_STOP: Mapping[str, str] = {
    "tune": _NODES_STOP,
    "rollback": _NODES_STOP,
    "uninstall": _NODES_STOP,
    "benchmark": _PODS_STOP,
    "compare": _PODS_STOP,
    "upgrade": "the current step will finish; no new step will start",
}
_READ_ONLY_STOP = "it changes no node, so it will run to its end"
_READY = "ready"  # becomes the stop file
_ROUNDS = "gpu_benchmark_rounds"


class Control:
    """Stops a run. Safe to use from any thread or signal handler."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._cancel = threading.Event()

    def stop(self) -> None:
        """Finish the current work and start nothing new."""
        self._stop.set()

    def cancel(self) -> None:
        """End immediately. Work on a node finishes or is undone there, or by the next run."""
        self._stop.set()
        self._cancel.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` or `cancel` was called."""
        return self._stop.is_set()

    @property
    def cancelling(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancel.is_set()


def conduct(request: RunRequest, listen: Listener = lambda event: None, control: Control | None = None) -> RunResult:
    """Runs a verb to its end, and records it in a folder below runs/.

    :param listen: called with each event, in order, in this thread; an exception ends the run
    :param control: stops the run
    :raises UsageError: if the run cannot start; then nothing was changed and there is no folder
    """
    sweep()
    request = runs.resumed(request)
    _check_rounds(request)
    redactor = Redactor(runs.environment_secrets(), request.variables, {"password": request.become_password})
    inventory = runs.read_inventory(request)
    redactor.learn(inventory)
    owner = Owner()
    with _control_folder(owner) as control_folder:
        folder = runs.begin(request, inventory, redactor, owner)
        with folder.released():
            return _Run(request, folder, _Messages(control_folder), owner, listen, control or Control()).conduct()


def _check_rounds(request: RunRequest) -> None:
    value = request.variables.get(_ROUNDS, 1)
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", str(value), re.ASCII):
        raise UsageError(f"`{_ROUNDS}` is {value!r}: expected a whole number of at least 1, such as 5.")


@contextmanager
def _control_folder(owner: Owner) -> Iterator[Path]:
    """:raises UsageError: if it cannot be made"""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(owner))
            (folder / _READY).touch()
        except OSError as error:
            raise UsageError(f"no folder can be made in {places()[0]}: {error.strerror}. Free space there.") from error
        yield folder


class _Messages:
    """The folder for messages to and from the playbooks: the stop file, and the progress of drains and measurements."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_file = folder / "stop"

    def stop(self) -> None:
        """Tells the playbooks to stop. A rename needs no space.

        :raises OSError: if they cannot be told
        """
        (self.folder / _READY).rename(self.stop_file)

    def drains(self) -> dict[str, tuple[str, ...]]:
        """Node to the pods that its drain waits for. A file that cannot be read counts as none."""
        found = {}
        for path in sorted(self.folder.glob("drain-*.json")):
            with suppress(OSError, ValueError, RecursionError):
                remaining = as_list(as_object(json.loads(path.read_bytes())).get("remaining"))
                found[path.stem.removeprefix("drain-")] = tuple(map(str, remaining))
        return found

    def rounds(self) -> Iterator[Event]:
        """The rounds that the benchmark pods of each host have finished. A file that cannot be read counts as none."""
        for path in sorted(self.folder.glob("rounds-*.json")):
            with suppress(OSError, ValueError, RecursionError):
                for finished in as_list(as_object(json.loads(path.read_bytes())).get("rounds")):
                    yield benchmark_round(path.stem.removeprefix("rounds-"), as_object(finished))


class _Run:
    """One run in progress."""

    def __init__(
        self,
        request: RunRequest,
        folder: runs.RunFolder,
        messages: _Messages,
        owner: Owner,
        listen: Listener,
        control: Control,
    ) -> None:
        self._request = request
        self._folder = folder
        self._messages = messages
        self._owner = owner
        self._listen = listen
        self._control = control
        self._started = time.time()
        self._stop_passed_on = False
        self._write_error: str = ""
        self._write_error_told = False
        self._drains: dict[str, tuple[str, ...]] = {}
        self._finished_rounds: set[str] = set()

    def conduct(self) -> RunResult:
        request = self._request
        self._emit(Event("run_started", {"run": self._folder.name, "verb": request.verb, "check": request.check}))
        played: PlayResult | PlayError
        try:
            played = self._play()
        except PlayError as error:
            played = error
        result = self._result(played)
        try:
            self._folder.write_result(result)
        except OSError as error:
            self._cannot_write(error)
            result = self._result(played)
            self._folder.note_verdict(result.verdict)
        ended = {
            "run": result.run,
            "verdict": result.verdict,
            "exit_code": result.exit_code,
            "sentence": result.sentence,
        }
        self._emit(Event("run_ended", {**ended, "next_step": result.next_step, "folder": str(result.folder)}))
        return result

    def _cannot_write(self, error: OSError) -> None:
        """Keeps the first error, and stops the run as Ctrl-C does: what is in progress finishes."""
        if not self._write_error:
            self._write_error = f"{self._folder.path} cannot be written: {error.strerror}"
            self._control.stop()

    def _play(self) -> PlayResult:
        request = self._request
        play = Play(
            project=request.project,
            playbook=request.playbook,
            inventory=request.inventory,
            limit=request.limit,
            variables={
                **request.variables,
                "kubepin_run": self._folder.name,
                "kubepin_stop_file": str(self._messages.stop_file),
                "kubepin_progress_directory": str(self._messages.folder),
            },
            variable_files=request.variable_files,
            check=request.check,
            become_password=request.become_password,
            owner=self._owner,
        )
        return run_play(play, self._hear, self._watch)

    def _hear(self, event: Event) -> None:
        """Emits an event of the play, or of its progress: a round that both tell of only once."""
        if event.kind == "benchmark_round" and not event.data["failure"]:
            file = str(event.data["file"])
            if file in self._finished_rounds:
                return
            self._finished_rounds.add(file)
        self._emit(event)

    def _emit(self, event: Event) -> None:
        event = self._folder.hidden(event)
        if not self._write_error:
            try:
                self._folder.add(event)
            except OSError as error:
                self._cannot_write(error)
        self._listen(event)

    def _watch(self) -> bool:
        """Passes a stop on to the playbooks, and the progress of drains and measurements to the listener; says whether to
        cancel."""
        if self._control.stopping and not self._stop_passed_on:
            self._stop_passed_on = True
            what = _ON_STOP.get(self._request.verb, _READ_ONLY_STOP)
            try:
                self._messages.stop()
            except OSError as error:
                what = f"the playbook cannot be told to stop ({error}), so it will run to its end"
            self._emit_stopping(what)
        elif self._write_error and not self._write_error_told:
            self._emit_stopping(_ON_STOP.get(self._request.verb, _READ_ONLY_STOP))
        self._watch_drains()
        for finished in self._messages.rounds():
            self._hear(finished)
        return self._control.cancelling

    def _emit_stopping(self, what: str) -> None:
        self._write_error_told = bool(self._write_error)
        self._emit(Event("stopping", {"what": what, "why": self._write_error or None}))

    def _watch_drains(self) -> None:
        drains = self._messages.drains()
        for node, waits_for in drains.items():
            if self._drains.get(node) != waits_for:
                self._emit(Event("drain", {"node": node, "waits_for": list(waits_for)}))
        for node in set(self._drains) - set(drains):
            self._emit(Event("drain", {"node": node, "waits_for": []}))
        self._drains = drains

    def _result(self, played: PlayResult | PlayError) -> RunResult:
        verb, resume = self._request.verb, f"kubepin {self._request.verb} --resume {self._folder.name}"
        if isinstance(played, PlayError):
            return self._build(RunVerdict.NOT_RUN, str(played), self._with_write_error(""), (), ())
        if played.status == "canceled":
            verdict, step = RunVerdict.CANCELLED, self._after_cancel(played, resume)
        elif self._control.stopping and self._is_incomplete(played):
            verdict, step = RunVerdict.STOPPED, f"Resume with: {resume}"
        elif played.status == "successful":
            verdict, step = RunVerdict.DONE, ""
        elif _differs(played):
            verdict, step = RunVerdict.DIFFERS, "The report above has a remedy for each difference."
        elif VERBS[verb].changes and (self._request.check or not played.changed):
            verdict, step = (
                RunVerdict.REFUSED,
                "Nothing was changed. Fix the problems listed above and rerun the command.",
            )
        else:
            verdict, step = RunVerdict.FAILED, f"Fix the cause, then resume with: {resume}"
        if self._write_error and verdict is not RunVerdict.CANCELLED:
            verdict = RunVerdict.NOT_RECORDED
        return self._build(
            verdict,
            f"{verb} {verdict.replace('_', ' ')}: {_hosts_by_outcome(played)}",
            self._with_write_error(step),
            played.hosts,
            played.messages,
        )

    def _with_write_error(self, step: str) -> str:
        return f"{self._write_error}. Make it writable. {step}".strip() if self._write_error else step

    def _is_incomplete(self, played: PlayResult) -> bool:
        return (
            played.status == "failed"
            or any(host.outcome.incomplete for host in played.hosts)
            or _lacks_comparison(played)
        )

    def _after_cancel(self, played: PlayResult, resume: str) -> str:
        tasks = [f'{host} was at "{task}"' for host, task in played.in_progress.items() if host != "localhost"]
        sentences = [f"{'; '.join(tasks)}."] if tasks else []
        if played.remaining:
            sentences.append(f"Still running on this machine, do not interrupt: {'; '.join(played.remaining)}.")
        if VERBS[self._request.verb].changes and tasks:
            sentences.append(
                "Changes in progress on a node finish or are undone there. The node may stay cordoned, with the annotation "
                "kubepin.io/cordoned; the next run repairs and uncordons it."
            )
        return " ".join([*sentences, f"Resume with: {resume}"])

    def _build(
        self,
        verdict: RunVerdict,
        sentence: str,
        step: str,
        hosts: tuple[HostResult, ...],
        messages: tuple[str, ...],
    ) -> RunResult:
        return RunResult(
            run=self._folder.name,
            folder=self._folder.path,
            verb=self._request.verb,
            verdict=verdict,
            sentence=sentence,
            next_step=step,
            hosts=hosts,
            messages=messages,
            seconds=round(time.time() - self._started, 1),
        )


def _differs(played: PlayResult) -> bool:
    """Whether all hosts were checked, and not all are as planned."""
    outcomes = {host.outcome for host in played.hosts}
    return any(outcome.differs for outcome in outcomes) and all(
        outcome.differs or outcome is Outcome.AS_PLANNED for outcome in outcomes
    )


def _hosts_by_outcome(played: PlayResult) -> str:
    numbers = runs.count([host.outcome for host in played.hosts])
    outcomes = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in numbers.items())
    return f"{counted(len(played.hosts), 'host')}: {outcomes}" if outcomes else "no hosts"


def _lacks_comparison(played: PlayResult) -> bool:
    """Whether a host was measured before its switch, but not measured and compared after it."""
    return any(
        host.outcome in (Outcome.TUNED, Outcome.ALREADY_TUNED)
        and "kubepin_benchmark" in host.facts
        and (
            host.fact("kubepin_benchmark").get("outcome") != Outcome.MEASURED or "kubepin_comparison" not in host.facts
        )
        for host in played.hosts
    )
