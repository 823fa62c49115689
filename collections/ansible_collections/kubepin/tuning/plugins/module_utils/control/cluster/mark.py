# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark on a node that kubepin cordoned: whose cordon it is, and whether another run may take it over.

Its value is a JSON object in one annotation. Earlier versions wrote only the purpose, as plain text; a mark without a
time is one that an interrupted run left.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems

CORDON_ANNOTATION = "kubepin.io/cordoned"
"""Marks a node that kubepin cordoned, so that the cordon of an interrupted run is recognized as kubepin's."""

UPGRADE = "upgrade"
"""The purpose of a mark while a node is being upgraded. Every other purpose is a switch: `present`, `rolled_back`."""

HOLD_SECONDS = 1800
"""How long a run may need a node after its drain. A foreign mark is young until its drain's time limit and this are over."""


@dataclass(frozen=True)
class Mark:
    """Whose cordon it is. Times are in seconds since 1970 by the control node's clock; empty or None if unknown."""

    purpose: str
    run: str = ""
    host: str = ""
    time: int | None = None
    expires: int | None = None
    process: str = ""
    """The Ansible process of the run, as `process.this_process` describes it."""

    def dump(self) -> str:
        """The annotation's value, with times that people can read."""
        times = {"time": _written(self.time), "expires": _written(self.expires)}
        return json.dumps({name: value for name, value in {**asdict(self), **times}.items() if value})

    def belongs_to(self, other: Mark) -> bool:
        """Whether both are marks of the same run for work of the same kind."""
        same_run = (self.run and self.run == other.run) or (self.process and self.process == other.process)
        return bool(same_run) and is_upgrade(self.purpose) == is_upgrade(other.purpose)


def parse_mark(value: str) -> Mark:
    """The mark in an annotation's value; a value that is not such an object is a purpose."""
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("purpose"), str):
        return Mark(value)
    texts = {name: data[name] for name in ("run", "host", "process") if isinstance(data.get(name), str)}
    return Mark(data["purpose"], **texts, time=_read(data.get("time")), expires=_read(data.get("expires")))


def mark_of(node: Mapping[str, t.Any]) -> Mark | None:
    """The mark of a node object; None without one."""
    value = (node["metadata"].get("annotations") or {}).get(CORDON_ANNOTATION)
    return None if value is None else parse_mark(value)


def new_mark(purpose: str, run: str, host: str, process: str, drain_seconds: float, now: float) -> Mark:
    """The mark of a run that begins to work on a node.

    :param drain_seconds: the time limit of the drain
    :param now: seconds since 1970
    """
    return Mark(purpose, run, host, int(now), int(now + drain_seconds) + HOLD_SECONDS, process)


def is_upgrade(purpose: str) -> bool:
    return purpose == UPGRADE


def why_not_ours(
    node: str, mark: Mark | None, mine: Mark, now: float, is_running: Callable[[str], bool | None]
) -> Problem | None:
    """Why a run with the mark *mine* must not take over the cordon of *mark*; None if it may.

    It may if the mark is its own, or is that of an interrupted run of the same kind: one whose process is known to have
    ended, or whose time is over.

    :param now: seconds since 1970
    :param is_running: whether the process of a mark still runs; None if that cannot be known from here
    """
    if mark is None or mark.belongs_to(mine):
        return None
    if is_upgrade(mark.purpose) != is_upgrade(mine.purpose):
        return problems.other_work(node, _owner(mark), is_upgrade(mark.purpose))
    running = is_running(mark.process) if mark.process else None
    young = mark.expires is not None and now < mark.expires
    if running is False or not (running or young):
        return None
    return problems.in_use(node, _owner(mark), _written(mark.expires) or "")


def _owner(mark: Mark) -> str:
    """Run, host, time and purpose in words."""
    run = f"run {mark.run}" if mark.run else "a run"
    host = f" on {mark.host}" if mark.host else ""
    begun = f", since {_written(mark.time)}" if mark.time else ""
    return f'{run}{host} (purpose "{mark.purpose}"{begun})'


def _written(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: object) -> int | None:
    """The seconds since 1970 of a time that `_written` wrote; None if it is something else."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return None
