# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of ansible-runner to ours, and what they amount to. Pure: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.model import Event, HostResult, Outcome

FACTS = "kubepin_"
_FAILURES = {"runner_on_failed": "failed", "runner_on_unreachable": "unreachable"}
_DEBUG = ("debug", "ansible.builtin.debug")
_LAST_WORDS = 20


class Reader:
    """Reads the events of one play, in order."""

    def __init__(self) -> None:
        self.last_words: list[str] = []
        self.any_host = False
        self._play: str = ""
        self._batch = 0
        self._task = ""
        self._began: set[str] = set()
        self._at: dict[str, str] = {}
        self._changes: dict[str, list[str]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, list[str]] = {}
        self._messages: dict[str, str] = {}
        self._stats: Mapping[str, Any] | None = None
        self._statistics: Mapping[str, Any] = {}

    def read(self, raw: Mapping[str, Any]) -> Iterator[Event]:
        """What one event of ansible-runner means, as any number of ours."""
        kind, data = raw.get("event"), raw.get("event_data") or {}
        if kind == "playbook_on_play_start":
            name = str(data.get("name") or data.get("play") or "")
            self._batch = self._batch + 1 if name == self._play else 1
            self._play, self._began = name, set()
            self._at = {}
            yield Event("play", {"name": name, "batch": self._batch})
        elif kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self._task = str(data.get("task"))
            yield Event("task", {"name": self._task, "role": data.get("role")})
        elif kind == "runner_on_start":
            yield from self._host_starts(str(data["host"]), str(data.get("task")))
        elif kind in ("runner_on_ok", "runner_on_skipped", *_FAILURES):
            yield from self._host_ends(str(kind), data)
        elif kind in ("runner_item_on_ok", "runner_item_on_failed"):
            yield from _pod(data)
        elif kind == "playbook_on_stats":
            self._stats = data
            self._statistics = data.get("artifact_data") or {}
        elif kind == "verbose" and str(raw.get("stdout", "")).strip():
            self.last_words = [*self.last_words, str(raw["stdout"]).strip()][-_LAST_WORDS:]

    def _host_starts(self, host: str, task: str) -> Iterator[Event]:
        self.any_host = True
        self._at[host] = task
        if host not in self._began:
            self._began.add(host)
            yield Event("host_begins", {"host": host, "play": self._play, "batch": self._batch})

    def _host_ends(self, kind: str, data: Mapping[str, Any]) -> Iterator[Event]:
        host, task, result = str(data["host"]), str(data.get("task")), data.get("res") or {}
        self.any_host = True
        self._at.pop(host, None)
        if kind in _FAILURES:
            if data.get("ignore_errors") or result.get("ignore_unreachable"):
                return
            message = _message(result)
            self._failures.setdefault(host, []).append(message)
            yield Event("task_failed", {"host": host, "task": task, "how": _FAILURES[kind], "message": message})
        for name, value in (result.get("ansible_facts") or {}).items():
            if name.startswith(FACTS):
                self._facts.setdefault(host, {})[name] = value
                yield Event("fact", {"host": host, "name": name, "value": value})
        if result.get("changed"):
            self._changes.setdefault(host, []).append(task)
            yield Event("changed", {"host": host, "task": task})
        if data.get("task_action") in _DEBUG and kind == "runner_on_ok" and (text := _text(result.get("msg"))):
            if self._messages.get(task) != text:
                yield Event("message", {"host": host, "task": task, "text": text})
            self._messages.pop(task, None)  # the last of each task, in the order in which they were said
            self._messages[task] = text

    @property
    def complete(self) -> bool:
        """Whether the play came to its end, with or without failures."""
        return self._stats is not None

    def outcome(self, status: str, left: tuple[str, ...] = ()) -> Outcome:
        """What the events read so far amount to."""
        stats = self._stats or {}
        named = {host for counter in ("ok", "failures", "dark") for host in stats.get(counter) or {}}
        names = named | set(self._facts) | set(self._failures) | set(self._changes) | set(self._at)
        in_hand = {} if self.complete else dict(self._at)
        refusing = status == "failed" and any(_problems(facts) for facts in self._facts.values())
        return Outcome(
            status=status,
            hosts=tuple(
                self._host(host, stats, in_hand, refusing)
                for host in sorted(names)
                if host != "localhost" or names == {host}
            ),
            changed=bool(self._changes),
            messages=tuple(self._messages.values()),
            statistics=self._statistics,
            in_hand=in_hand,
            left=left,
        )

    def _host(self, host: str, stats: Mapping[str, Any], in_hand: Mapping[str, str], refusing: bool) -> HostResult:
        """:param refusing: whether some host's plan has problems, which one host tells for all, as its own failure"""
        facts = self._facts.get(host, {})
        result: Mapping[str, Any] = facts.get("kubepin_result") or {}
        steps: list[Mapping[str, Any]] = facts.get("kubepin_upgrade_result") or []
        failures = self._failures.get(host, [])
        refused = _problems(facts) if refusing else []
        counted = bool((stats.get("failures") or {}).get(host)) and not (refusing and "kubepin_plan" in facts)
        failed = counted or bool(refused) or result.get("outcome") in ("undone", "failed", "refused")
        gone = bool((stats.get("dark") or {}).get(host))
        if result:
            outcome = str(result["outcome"])
        elif refused:
            outcome = "refused"
        elif failed or gone:
            outcome = "unreachable" if gone else "failed"
        elif host in in_hand:
            outcome = "interrupted"
        elif steps:
            outcome = "upgraded"
        elif (facts.get("kubepin_plan") or {}).get("changed"):
            outcome = "not_begun"
        elif benchmark := facts.get("kubepin_benchmark"):
            outcome = measured(benchmark)
        else:
            outcome = "changed" if self._changes.get(host) else "ok"
        settings = [f"{entry['name']}: {entry['before']} -> {entry['after']}" for entry in result.get("settings") or []]
        said = " ".join(refused) or (failures[0] if failures else None)
        cause = result.get("first_cause") or result.get("message") or said
        return HostResult(
            host=host,
            outcome=outcome,
            changes=tuple(settings if result else self._changes.get(host, [])),
            verified=(
                *(result.get("verified") or []),
                *(text for step in steps for text in step.get("verified") or []),
            ),
            facts=facts,
            first_cause=cause if failed or gone else None,
            next_step=(result.get("next_step") or None) if failed or gone else None,
        )


def _problems(facts: Mapping[str, Any]) -> list[str]:
    """Why a host's plan cannot be carried out (docs/facts.md, `kubepin_plan`, `kubepin_gpu_pods`)."""
    return [
        problem
        for name in ("kubepin_plan", "kubepin_gpu_pods")
        for problem in (facts.get(name) or {}).get("problems") or []
    ]


def measured(fact: Mapping[str, Any]) -> str:
    """How far the measurements of a host came (docs/facts.md, `kubepin_benchmark`)."""
    pods = [pod["complete"] for run in fact["runs"].values() for pod in run["pods"]]
    return "measured" if pods and all(pods) else "partly_measured" if any(pods) else "not_begun"


def _pod(data: Mapping[str, Any]) -> Iterator[Event]:
    """A benchmark pod that was run, not one that was only looked at (docs of kubepin.tuning.benchmark_pod)."""
    result = data.get("res") or {}
    pod = result.get("benchmark")
    if isinstance(pod, Mapping) and pod.get("seconds") is not None:
        yield Event(
            "benchmark_pod",
            {
                "host": str(data["host"]),
                **{key: pod.get(key) for key in ("arm", "round", "seconds", "file", "failure")},
            },
        )


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
