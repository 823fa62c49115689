# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a run, built from its events, and the text of each event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

from orchestrator.model import Event
from orchestrator.reading import outcome_of, problem_texts
from orchestrator.values import as_object

_LONGEST = 100
_PLANNED = {Outcome.REFUSED: "refused", Outcome.NOT_BEGUN: "to change", Outcome.OK: "nothing to do"}
_PLANNING = "planning"
CANCEL_HINT = "Press Ctrl-C again to cancel immediately."


@dataclass
class HostProgress:
    """The state of one host, in a word or two, and its last message."""

    state: str = ""
    note: str = ""
    since: float = 0.0


@dataclass
class Progress:
    """The state of a run."""

    run: str = ""
    verb: str = ""
    started: float = 0.0
    play: str = ""
    batch: int = 1
    task: str = ""
    task_since: float = 0.0
    in_progress: list[str] = field(default_factory=list)
    hosts: dict[str, HostProgress] = field(default_factory=dict)
    drains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    measurements: dict[str, str] = field(default_factory=dict)
    stopping: str = ""

    def apply(self, event: Event) -> None:
        """Updates the state by one event."""
        data = event.data
        match event.kind:
            case "run_started":
                self.run, self.verb, self.started = data["run"], data["verb"], event.time
            case "play":
                self.play, self.batch, self.in_progress, self.task = data["name"], data["batch"], [], ""
                self._end_planning()
            case "task":
                self.task, self.task_since = data["name"], event.time
            case "host_begins":
                self.in_progress.append(data["host"])
                if data["host"] != "localhost":
                    self._host(data["host"], event)
            case "task_failed":
                self._host(data["host"], event, "failed", data["message"])
            case "fact":
                self._fact(event)
            case "drain":
                self.drains.pop(data["node"], None)
                if data["waits_for"]:
                    self.drains[data["node"]] = tuple(data["waits_for"])
            case "benchmark_round":
                self._host(data["host"], event, "measuring", _measured(data))
            case "stopping":
                self.stopping = data["what"]
            case _:
                pass

    def _host(self, name: str, event: Event, state: str = "", note: str = "") -> None:
        host = self.hosts.setdefault(name, HostProgress(state=_PLANNING, since=event.time))
        if state:
            host.state, host.note, host.since = state, short(note), event.time

    def _end_planning(self) -> None:
        """A host that got no plan in its play, such as a control plane node, is not planned any more."""
        for host in self.hosts.values():
            if host.state == _PLANNING:
                host.state = ""

    def _fact(self, event: Event) -> None:
        name, value, host = event.data["name"], as_object(event.data["value"]), event.data["host"]
        outcome = outcome_of(value)
        if name == "kubepin_plan" and outcome:
            texts = problem_texts(value) or (_policy_change(value),)
            self._host(host, event, _PLANNED.get(outcome, _words(outcome)), texts[0])
        elif name == "kubepin_result" and outcome:  # empty until something was done
            self._host(host, event, _words(outcome), str(value.get("message") or _policy_change(value)))
        elif name == "kubepin_check" and outcome:
            self._host(host, event, _words(outcome), next(iter(problem_texts(value)), str(value.get("policy") or "")))
        elif name == "kubepin_comparison":
            found = str(value.get("recommendation") or value.get("verdict") or "not compared")
            self._host(host, event, found.replace("_", " "), str(value.get("line") or ""))
        elif name == "kubepin_measurement" and value.get("rounds"):  # none before the first analysis
            self.measurements[host] = str(value.get("text"))


def _words(outcome: Outcome) -> str:
    return outcome.replace("_", " ")


def _policy_change(value: Mapping[str, Any]) -> str:
    before, after = value.get("policy_before"), value.get("policy")
    return f"{before} -> {after}" if before != after else str(after or "")


def _measured(data: Mapping[str, Any]) -> str:
    seconds = data["seconds"]
    took = f"{seconds:.0f} s" if isinstance(seconds, int | float) else seconds
    return f"{data['arm']}, round {data['round']}: {data['failure'] or took}"


def line(event: Event) -> str:
    """The text of an event; empty if the event is not worth a line."""
    data = event.data
    match event.kind:
        case "run_started":
            return f"kubepin: run {data['run']}: {data['verb']}{' (check)' if data['check'] else ''}"
        case "play":
            return f"{data['name']}" + (f" (batch {data['batch']})" if data["batch"] > 1 else "")
        case "changed":
            return f"  {data['host']}: {data['task']}"
        case "task_failed":
            return f'  {data["host"]}: {data["how"]} at "{data["task"]}": {data["message"]}'
        case "message":
            return indented(data["text"])
        case "drain":
            pods = "; ".join(data["waits_for"])
            return f"  {data['node']}: the drain is waiting for {pods}" if pods else ""
        case "benchmark_round":
            return f"  {data['host']}: {_measured(data)}"
        case "stopping":
            why = f"{data['why']}. Stopping" if data["why"] else "stopping"
            return f"kubepin: {why}: {data['what']}. {CANCEL_HINT}"
        case "run_ended":
            return closing(data)
        case _:
            return ""


def closing(data: Mapping[str, Any]) -> str:
    """The last lines of a run."""
    step = f"\n{data['next_step']}" if data["next_step"] else ""
    return f"kubepin: {data['sentence']}{step}\nresults: {data['folder']}"


def short(text: str, longest: int = _LONGEST) -> str:
    """The text in one line, truncated to the longest length."""
    one = " ".join(text.split())
    return one if len(one) <= longest else f"{one[: longest - 1]}…"


def indented(text: str) -> str:
    """The text, indented by two columns."""
    return "\n".join(f"  {part}" for part in text.splitlines())
