# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run looks like at one moment, folded from its events; and each event as a line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.model import Event

_LONGEST = 100


@dataclass
class HostProgress:
    """One host: `state` in a word or two, and what was last said of it."""

    state: str = ""
    note: str = ""
    since: float = 0.0


@dataclass
class Progress:
    """One run, so far."""

    run: str = ""
    verb: str = ""
    started: float = 0.0
    play: str = ""
    batch: int = 1
    task: str = ""
    task_since: float = 0.0
    in_hand: list[str] = field(default_factory=list)
    hosts: dict[str, HostProgress] = field(default_factory=dict)
    drains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    estimates: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stopping: str = ""

    def apply(self, event: Event) -> None:
        """Takes one event in."""
        data = event.data
        match event.kind:
            case "run_started":
                self.run, self.verb, self.started = data["run"], data["verb"], event.time
            case "play":
                self.play, self.batch, self.in_hand, self.task = data["name"], data["batch"], [], ""
            case "task":
                self.task, self.task_since = data["name"], event.time
            case "host_begins":
                self.in_hand.append(data["host"])
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
            case "benchmark_pod":
                self._host(
                    data["host"], event, "measuring", f"{data['arm']}, round {data['round']}: {data['seconds']:.0f} s"
                )
            case "estimate":
                self.estimates[data["host"]] = data
            case "stopping":
                self.stopping = data["what"]
            case _:
                pass

    def _host(self, name: str, event: Event, state: str = "", note: str = "") -> None:
        host = self.hosts.setdefault(name, HostProgress(state="planning", since=event.time))
        if state:
            host.state, host.note, host.since = state, short(note), event.time

    def _fact(self, event: Event) -> None:
        name, value, host = event.data["name"], event.data["value"], event.data["host"]
        if name == "kubepin_plan":
            problems = value.get("problems") or []
            state = "refused" if problems else "to change" if value.get("changed") else "nothing to do"
            self._host(host, event, state, problems[0] if problems else _switch(value))
        elif name == "kubepin_gpu_pods" and value["problems"]:
            self._host(host, event, "refused", value["problems"][0])
        elif name == "kubepin_result" and value:  # empty: nothing was done yet
            self._host(host, event, value["outcome"].replace("_", " "), value.get("message") or _switch(value))
        elif name == "kubepin_comparison":
            self._host(host, event, str(value.get("verdict") or "not compared"), value.get("line") or "")


def _switch(value: Mapping[str, Any]) -> str:
    before, after = value.get("policy_before"), value.get("policy")
    return f"{before} -> {after}" if before != after else str(after or "")


def line(event: Event) -> str:
    """An event worth a line, as that line; empty for the others."""
    data = event.data
    match event.kind:
        case "run_started":
            return f"kubepin: run {data['run']}: {data['verb']}{' (check)' if data['check'] else ''}"
        case "play":
            return f"{data['name']}" + (f" (batch {data['batch']})" if data["batch"] > 1 else "")
        case "changed":
            return f"  {data['host']}: {data['task']}"
        case "task_failed":
            return f"  {data['host']}: {data['how']} at «{data['task']}»: {data['message']}"
        case "message":
            return indented(data["text"])
        case "drain":
            return f"  {data['node']}: the drain waits: {'; '.join(data['waits_for'])}" if data["waits_for"] else ""
        case "benchmark_pod":
            why = f": {data['failure']}" if data["failure"] else ""
            return f"  {data['host']}: {data['arm']}, round {data['round']}: {data['seconds']:.0f} s{why}"
        case "estimate":
            return f"  {data['host']}: {estimate_text(data)}"
        case "look":
            verdicts = ", ".join(f"{host} {verdict or 'not compared'}" for host, verdict in data["verdicts"].items())
            goes_on = f"; more rounds on {', '.join(data['undecided'])}" if data["undecided"] else ""
            return f"look after {data['rounds']} rounds: {verdicts}{goes_on}"
        case "stopping":
            return f"kubepin: stopping: {data['what']}. Once more cancels at once."
        case "run_ended":
            return closing(data)
        case _:
            return ""


def closing(data: Mapping[str, Any]) -> str:
    """The last words of a run."""
    step = f"\n{data['next_step']}" if data["next_step"] else ""
    return f"kubepin: {data['sentence']}{step}\nkept in {data['folder']}"


def estimate_text(data: Mapping[str, Any]) -> str:
    """A running estimate and the time that the next look is away."""
    words = []
    if "ratio" in data:
        interval = f" [{data['low']:.2f}, {data['high']:.2f}]" if data["low"] is not None else ""
        words.append(
            f"so far {data['ratio']:.2f}x{interval} after {data['rounds']} {'round' if data['rounds'] == 1 else 'rounds'}"
        )
    if data["seconds_left"] is not None:
        words.append(f"{duration(data['seconds_left'])} left to the look after {data['until_rounds']}")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """As people say it: 8 s, 3 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {rest} s" if hours < 1 else f"{hours} h {minutes_left} min"


def short(text: str, longest: int = _LONGEST) -> str:
    """The text in one line, cut where it is too long."""
    one = " ".join(text.split())
    return one if len(one) <= longest else f"{one[: longest - 1]}…"


def indented(text: str) -> str:
    """Each line of a text two columns to the right."""
    return "\n".join(f"  {part}" for part in text.splitlines())


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names with commas, the last ones counted where there are many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
