# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a verb from its request to its result: folder, secrets, rounds, stopping, and the words for how it ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from orchestrator import rounds, runs
from orchestrator.model import VERBS, Event, HostResult, Outcome, Request, RunResult, UsageError, Verdict
from orchestrator.play import Play, PlayError, run_play
from orchestrator.reading import measured
from orchestrator.redaction import Redactor

Listener = Callable[[Event], None]

_STOPS_AT: Mapping[str, str] = {
    "tune": "the nodes in hand are finished, or given back if their pods are not gone yet; no other node is begun",
    "rollback": "the nodes in hand are finished, or given back if their pods are not gone yet; no other node is begun",
    "benchmark": "the pods that measure now are finished, no other is begun",
    "upgrade": "the step in hand is finished, no other is begun",
}
_GOOD = ("tuned", "already_tuned", "would_tune", "rolled_back", "not_tuned", "ok", "changed", "measured", "upgraded")


class Control:
    """Asks a run to stop; may be used from any thread or signal handler."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._cancel = threading.Event()

    def stop(self) -> None:
        """Finish what is in hand and begin nothing more."""
        self._stop.set()

    def cancel(self) -> None:
        """End at once; what was in hand is finished or undone by itself on its node, or by the next run."""
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


def conduct(request: Request, listen: Listener = lambda event: None, control: Control | None = None) -> RunResult:
    """Runs a verb to its end and keeps everything in a folder below runs/.

    :param listen: called with each event, in order, in this thread; what it raises ends the run
    :param control: to stop it from elsewhere
    :raises UsageError: if it cannot be begun; then nothing was touched and no folder is left
    """
    request = runs.resumed(request)
    redactor = Redactor(runs.environment_secrets(), request.variables, {"password": request.become_password})
    inventory = runs.read_inventory(request)
    redactor.learn(inventory)
    _check_rounds(request)
    folder = runs.begin(request, inventory, redactor)
    with folder.opened():
        return _Run(request, folder, listen, control or Control()).conduct()


def _check_rounds(request: Request) -> None:
    value = request.variables.get(rounds.ROUNDS, 1)
    if not str(value).isdigit() or int(value) < 1:
        raise UsageError(f"`{rounds.ROUNDS}` is {value!r}: expected a number of rounds from 1, such as 5.")


class _Run:
    """One run."""

    def __init__(self, request: Request, folder: runs.RunFolder, listen: Listener, control: Control) -> None:
        self._request = request
        self._folder = folder
        self._listen = listen
        self._control = control
        self._started = time.time()
        self._told_stop = False
        self._waiting: dict[str, str] = {}
        self._pods: dict[str, list[float]] = {}
        self._measured: dict[str, int] = {}
        self._look = 0

    def conduct(self) -> RunResult:
        request = self._request
        self._tell(Event("run_started", {"run": self._folder.name, "verb": request.verb, "check": request.check}))
        try:
            conducted = rounds.is_conducted(request.verb, request.variables) and not request.check
            outcome = self._rounds() if conducted else self._play(request.variables, request.limit)
            result = self._result(outcome)
        except PlayError as error:
            result = self._build(Verdict.NOT_RUN, str(error), "", (), ())
        runs.finish(self._folder, result)
        ended = {
            "run": result.run,
            "verdict": result.verdict,
            "exit_code": result.exit_code,
            "sentence": result.sentence,
        }
        self._tell(Event("run_ended", {**ended, "next_step": result.next_step, "folder": str(result.folder)}))
        return result

    def _rounds(self) -> Outcome:
        """Looks after some rounds, then adds rounds where it is undecided: pods measured already are not run again."""
        limit, results = self._request.limit, dict[str, HostResult]()
        for look in rounds.looks(self._request.variables):
            self._look = look
            outcome = self._play({**self._request.variables, rounds.ROUNDS: look}, limit)
            results |= {host.host: host for host in outcome.hosts}
            outcome = replace(outcome, hosts=tuple(results[name] for name in sorted(results)))
            if outcome.status == "canceled" or self._control.stopping:
                break
            again = rounds.undecided(outcome.hosts)
            verdicts = {
                host.host: (host.facts.get("kubepin_comparison") or {}).get("verdict") for host in outcome.hosts
            }
            self._tell(Event("look", {"rounds": look, "verdicts": verdicts, "undecided": list(again)}))
            if not again:
                break
            limit = ",".join(again)
        return outcome

    def _play(self, variables: Mapping[str, Any], limit: str | None) -> Outcome:
        request = self._request
        play = Play(
            project=request.project,
            playbook=request.playbook,
            inventory=request.inventory,
            limit=limit,
            variables={
                **variables,
                "kubepin_run": self._folder.name,
                "kubepin_stop_file": str(self._folder.control / "stop"),
                "kubepin_progress_directory": str(self._folder.control),
            },
            variable_files=request.variable_files,
            check=request.check,
            become_password=request.become_password,
        )
        return run_play(play, self._tell, self._watch)

    def _tell(self, event: Event) -> None:
        event = self._folder.hidden(event)
        self._folder.add(event)
        self._listen(event)
        if event.kind == "benchmark_pod" and self._look:
            self._estimate(event)

    def _estimate(self, event: Event) -> None:
        host, folder = str(event.data["host"]), Path(str(event.data["file"])).parent
        self._pods.setdefault(host, []).append(float(event.data["seconds"]))
        self._measured[host] = len(list(folder.glob("*.jsonl")))
        left = rounds.seconds_left(self._pods, self._measured, self._look)
        found = rounds.estimate(folder)
        values = asdict(found) if found else {}
        self._tell(Event("estimate", {"host": host, "until_rounds": self._look, "seconds_left": left, **values}))

    def _watch(self) -> bool:
        """Hands a wish to stop on to the playbooks, and what they wait for to the listener."""
        if self._control.stopping and not self._told_stop:
            self._told_stop = True
            (self._folder.control / "stop").touch()
            what = _STOPS_AT.get(self._request.verb, "it changes nothing, so it runs to its end")
            self._tell(Event("stopping", {"what": what}))
        self._watch_drains()
        return self._control.cancelling

    def _watch_drains(self) -> None:
        waiting = {}
        for path in sorted(self._folder.control.glob("drain-*.json")):
            waiting[path.stem.removeprefix("drain-")] = path.read_text(encoding="utf-8")
        for node, text in waiting.items():
            if self._waiting.get(node) != text:
                self._tell(Event("drain", {"node": node, "waits_for": json.loads(text)["remaining"]}))
        for node in set(self._waiting) - set(waiting):
            self._tell(Event("drain", {"node": node, "waits_for": []}))
        self._waiting = waiting

    def _result(self, outcome: Outcome) -> RunResult:
        verb, again = self._request.verb, f"kubepin {self._request.verb} --resume {self._folder.name}"
        counted = ", ".join(
            f"{number} {name.replace('_', ' ')}"
            for name, number in runs.count([h.outcome for h in outcome.hosts]).items()
        )
        of = (
            f"{len(outcome.hosts)} {'host' if len(outcome.hosts) == 1 else 'hosts'}: {counted}"
            if counted
            else "no host"
        )
        open_ends = [host for host in outcome.hosts if host.outcome not in _GOOD]
        if outcome.status == "canceled":
            verdict, step = Verdict.CANCELLED, self._after_cancel(outcome, again)
        elif self._control.stopping and (
            open_ends or outcome.status == "failed" or self._undone_rounds(outcome) or _uncompared(outcome)
        ):
            verdict, step = Verdict.STOPPED, f"Go on: {again}"
        elif outcome.status == "successful":
            verdict, step = Verdict.DONE, ""
        elif VERBS[verb].changes and (self._request.check or not outcome.changed):
            verdict, step = (
                Verdict.REFUSED,
                "Nothing was changed. Mend what is said above, then run the same command again.",
            )
        else:
            verdict, step = Verdict.FAILED, f"Once the cause is gone: {again}"
        return self._build(verdict, f"{verb} {verdict}: {of}", step, outcome.hosts, outcome.messages)

    def _undone_rounds(self, outcome: Outcome) -> bool:
        return bool(self._look) and bool(rounds.undecided(outcome.hosts))

    def _after_cancel(self, outcome: Outcome, again: str) -> str:
        at = [f"{host} was at «{task}»" for host, task in outcome.in_hand.items() if host != "localhost"]
        words = [f"{'; '.join(at)}."] if at else []
        if outcome.left:
            words.append(f"Still at work on this machine, and not to be interrupted: {'; '.join(outcome.left)}.")
        if VERBS[self._request.verb].changes and at:
            words.append(
                "What was begun on a node ends or is undone there by itself. The node may still be cordoned, with the annotation "
                "kubepin.io/cordoned; the next run repairs it and gives it back."
            )
        return " ".join([*words, f"Go on: {again}"])

    def _build(
        self,
        verdict: Verdict,
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


def _uncompared(outcome: Outcome) -> bool:
    """Whether a host was measured before its switch, and not wholly measured again and compared."""
    return any(
        host.outcome in ("tuned", "already_tuned")
        and "kubepin_benchmark" in host.facts
        and (measured(host.facts["kubepin_benchmark"]) != "measured" or "kubepin_comparison" not in host.facts)
        for host in outcome.hosts
    )
