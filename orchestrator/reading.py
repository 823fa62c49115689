# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns ansible-runner's events into kubepin's, and into the result of a play. Pure: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

from orchestrator.model import Event, HostResult, PlayResult
from orchestrator.values import as_list, as_object, is_deep

FACTS = "kubepin_"
_FAILURES = {"runner_on_failed": "failed", "runner_on_unreachable": "unreachable"}
_DEBUG = ("debug", "ansible.builtin.debug")
_TAIL_LINES = 20
_WITH_OUTCOME = (
    "kubepin_result",
    "kubepin_plan",
    "kubepin_upgrade_result",
    "kubepin_check",
    "kubepin_benchmark",
    "kubepin_probe",
)
"""The facts that carry an outcome. Of several, the first in this order counts."""
_WITH_PROBLEMS = ("kubepin_plan", "kubepin_check")
_WITH_CAUSE = (
    Outcome.REFUSED,
    Outcome.UNDONE,
    Outcome.FAILED,
    Outcome.UNTUNED,
    Outcome.DRIFTED,
    Outcome.NOT_CHECKED,
)


class Reader:
    """Reads the events of one play, in order."""

    def __init__(self) -> None:
        self.output_tail: list[str] = []
        self.any_host = False
        self._play: str = ""
        self._batch = 0
        self._task = ""
        self._started: set[str] = set()
        self._current_tasks: dict[str, str] = {}
        self._changes: dict[str, list[str]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, list[str]] = {}
        self._messages: dict[str, str] = {}
        self._stats: Mapping[str, Any] | None = None
        self._statistics: Mapping[str, Any] = {}

    def read(self, raw: Mapping[str, Any]) -> Iterator[Event]:
        """The events that one event of ansible-runner stands for."""
        kind, data = raw.get("event"), as_object(raw.get("event_data"))
        if kind == "playbook_on_play_start":
            name = str(data.get("name") or data.get("play") or "")
            self._batch = self._batch + 1 if name == self._play else 1
            self._play, self._started = name, set()
            self._current_tasks = {}
            yield Event("play", {"name": name, "batch": self._batch})
        elif kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self._task = str(data.get("task"))
            yield Event("task", {"name": self._task, "role": data.get("role")})
        elif kind == "runner_on_start":
            yield from self._host_starts(str(data.get("host")), str(data.get("task")))
        elif kind in ("runner_on_ok", "runner_on_skipped", *_FAILURES):
            yield from self._host_ends(str(kind), data)
        elif kind in ("runner_item_on_ok", "runner_item_on_failed"):
            yield from _benchmark_rounds(data)
        elif kind == "playbook_on_stats":
            self._stats = data
            self._statistics = as_object(data.get("artifact_data"))
        elif kind == "verbose" and str(raw.get("stdout", "")).strip():
            self.output_tail = [*self.output_tail, str(raw["stdout"]).strip()][-_TAIL_LINES:]

    def _host_starts(self, host: str, task: str) -> Iterator[Event]:
        self.any_host = True
        self._current_tasks[host] = task
        if host not in self._started:
            self._started.add(host)
            yield Event("host_begins", {"host": host, "play": self._play, "batch": self._batch})

    def _host_ends(self, kind: str, data: Mapping[str, Any]) -> Iterator[Event]:
        host, task, result = str(data.get("host")), str(data.get("task")), _result(data)
        self.any_host = True
        self._current_tasks.pop(host, None)
        if kind in _FAILURES:
            if data.get("ignore_errors") or result.get("ignore_unreachable"):
                return
            message = _message(result)
            self._failures.setdefault(host, []).append(message)
            yield Event("task_failed", {"host": host, "task": task, "how": _FAILURES[kind], "message": message})
        for name, value in as_object(result.get("ansible_facts")).items():
            if str(name).startswith(FACTS):
                self._facts.setdefault(host, {})[name] = value
                yield Event("fact", {"host": host, "name": name, "value": value})
        if result.get("changed"):
            self._changes.setdefault(host, []).append(task)
            yield Event("changed", {"host": host, "task": task})
        if data.get("task_action") in _DEBUG and kind == "runner_on_ok" and (text := _text(result.get("msg"))):
            if self._messages.get(task) != text:
                yield Event("message", {"host": host, "task": task, "text": text})
            self._messages.pop(task, None)  # keep the last of each task, in order of appearance
            self._messages[task] = text

    @property
    def complete(self) -> bool:
        """Whether the play ended by itself, with or without failures."""
        return self._stats is not None

    def result(self, status: str, remaining: tuple[str, ...] = ()) -> PlayResult:
        """The result, by the events read so far."""
        stats = {counter: as_object(as_object(self._stats).get(counter)) for counter in ("ok", "failures", "dark")}
        named = {host for counted in stats.values() for host in counted}
        names = named | set(self._facts) | set(self._failures) | set(self._changes) | set(self._current_tasks)
        in_progress = {} if self.complete else dict(self._current_tasks)
        refused = any(_published_outcome(facts) is Outcome.REFUSED for facts in self._facts.values())
        return PlayResult(
            status=status,
            hosts=tuple(
                self._host(host, stats, in_progress, refused)
                for host in sorted(names)
                if host != "localhost" or names == {host}
            ),
            changed=bool(self._changes),
            messages=tuple(self._messages.values()),
            statistics=self._statistics,
            in_progress=in_progress,
            remaining=remaining,
        )

    def _host(
        self, host: str, stats: Mapping[str, Mapping[str, Any]], in_progress: Mapping[str, str], refused: bool
    ) -> HostResult:
        """:param refused: whether the run was refused; one host then fails on behalf of all"""
        facts, failures, changes = self._facts.get(host, {}), self._failures.get(host, []), self._changes.get(host, [])
        published = _published_outcome(facts)
        failed = bool(stats["failures"].get(host)) and not (refused and published)
        unreachable = bool(stats["dark"].get(host))
        if published and published.final:
            outcome = published
        elif unreachable or failed:
            outcome = Outcome.UNREACHABLE if unreachable else Outcome.FAILED
        elif host in in_progress:
            outcome = Outcome.INTERRUPTED
        else:
            outcome = published or (Outcome.CHANGED if changes else Outcome.OK)
        result = as_object(facts.get("kubepin_result"))
        steps = _objects(as_object(facts.get("kubepin_upgrade_result")).get("steps"))
        settings = [
            f"{entry.get('name')}: {shown(entry.get('before'))} -> {shown(entry.get('after'))}"
            for entry in _objects(result.get("settings"))
        ]
        problems = " ".join(text for name in _WITH_PROBLEMS for text in problem_texts(facts.get(name)))
        cause = result.get("first_cause") or result.get("message") or problems or next(iter(failures), None)
        has_cause = failed or unreachable or outcome in _WITH_CAUSE
        return HostResult(
            host=host,
            outcome=outcome,
            changes=tuple(settings if result else changes),
            verified=(
                *map(str, as_list(result.get("verified"))),
                *(str(text) for step in steps for text in as_list(step.get("verified"))),
            ),
            facts=facts,
            first_cause=str(cause) if cause and has_cause else None,
            next_step=str(result["next_step"]) if has_cause and result.get("next_step") else None,
        )


def _result(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A module's result. Empty if it is nested too deeply to be shown, as ansible-runner does with one that is too long."""
    result = as_object(data.get("res"))
    return {} if is_deep(result) else result


def _published_outcome(facts: Mapping[str, Any]) -> Outcome | None:
    """The outcome that the host's roles have published (docs/facts.md)."""
    values = (outcome_of(facts.get(name)) for name in _WITH_OUTCOME)
    return next((value for value in values if value), None)


def outcome_of(fact: Any) -> Outcome | None:
    """The outcome in a fact; None without one that kubepin knows."""
    try:
        return Outcome(str(as_object(fact).get("outcome")))
    except ValueError:
        return None


def problem_texts(fact: Any) -> tuple[str, ...]:
    """The problems in the fact `kubepin_plan` or `kubepin_check`; of the latter first what could not be checked."""
    found = as_object(fact)
    listed = (*_objects(found.get("unchecked")), *_objects(found.get("problems")))
    return tuple(str(problem.get("text")) for problem in listed)


def _objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(as_object(entry) for entry in as_list(value))


def _benchmark_rounds(data: Mapping[str, Any]) -> Iterator[Event]:
    """The events of the rounds that a benchmark pod finished, and of the one in which it failed.

    A pod that was only looked up has no seconds.
    """
    pod, host = as_object(_result(data).get("benchmark")), str(data.get("host"))
    if not isinstance(pod.get("seconds"), int | float):
        return
    rounds = _objects(pod.get("rounds"))
    for one in rounds:
        if isinstance(one.get("seconds"), int | float):
            yield benchmark_round(host, {**one, "arm": pod.get("arm")})
    if pod.get("failure"):
        unfinished = next((one for one in rounds if not one.get("complete")), {})
        yield benchmark_round(host, {**unfinished, "arm": pod.get("arm")}, str(pod["failure"]))


def benchmark_round(host: str, finished: Mapping[str, Any], failure: str | None = None) -> Event:
    """The event of a round of the benchmark.

    :param finished: ``arm``, ``round``, ``seconds``, ``file``
    """
    values = {key: finished.get(key) for key in ("arm", "round", "seconds", "file")}
    return Event("benchmark_round", {"host": host, **values, "failure": failure})


def _text(message: Any) -> str:
    if isinstance(message, str):
        return message.strip()
    if isinstance(message, list):
        return "\n".join(_text(entry) for entry in message)
    return "" if message is None else str(message)


def _message(result: Mapping[str, Any]) -> str:
    text = _text(result.get("msg")) or _text(result.get("reason")) or _text(result.get("censored")) or "no reason given"
    if errors := str(result.get("stderr") or "").strip():
        return f"{text}: {errors.splitlines()[-1]}"
    return text
