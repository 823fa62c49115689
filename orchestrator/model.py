# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data that the orchestrator hands on: what was asked, what happens, what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = 1
PROJECT = Path(__file__).resolve().parents[1]


class KubepinError(Exception):
    """One paragraph for people: what is wrong, what was expected, and the next step."""


class UsageError(KubepinError):
    """What was asked for cannot be begun."""


class Verdict(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    NOT_RUN = "not_run"


USAGE_EXIT_CODE = 2
EXIT_CODES: Mapping[Verdict, int] = {
    Verdict.DONE: 0,
    Verdict.FAILED: 1,
    Verdict.REFUSED: 3,
    Verdict.STOPPED: 4,
    Verdict.CANCELLED: 5,
    Verdict.NOT_RUN: 6,
}


@dataclass(frozen=True)
class Verb:
    """A playbook that can be asked for: whether it `changes` the cluster, and what it does, in a few words."""

    playbook: str
    changes: bool
    help: str


VERBS: Mapping[str, Verb] = {
    "tune": Verb("tune-gpu-nodes.yml", True, "switch the kubelets of gpu_nodes to the static CPU manager policy"),
    "benchmark": Verb(
        "benchmark-gpu-nodes.yml", False, "time PyTorch in pods; --contrast compares, until it is decided"
    ),
    "upgrade": Verb("upgrade-cluster.yml", True, "upgrade the cluster, minor by minor"),
    "audit": Verb("audit-gpu-pods.yml", False, "which GPU pods get CPUs of their own, and why others do not"),
    "preview": Verb("preview-gpu-nodes.yml", False, "what the static policy would make of the nodes; changes nothing"),
    "rollback": Verb("rollback-gpu-nodes.yml", True, "take the last switch of each node back"),
    "diagnose": Verb("diagnose-gpu-pods.yml", False, "which running pods have lost their GPU, and by what"),
    "enforce": Verb("enforce-gpu-pods.yml", True, "an admission policy that holds new GPU pods to whole CPUs"),
}


@dataclass(frozen=True)
class Request:
    """What to run.

    :param verb: one of `VERBS`
    :param inventory: files or folders, relative to `project`; none: what the project's ansible.cfg names
    :param limit: a host pattern, as ``ansible-playbook --limit`` takes it
    :param variables: extra variables
    :param variable_files: files with extra variables, vaulted ones too
    :param check: say what would be done, and change nothing
    :param become_password: for ``become`` on the hosts; it is never written where it stays
    :param resume: the name of an earlier run of the same verb, to go on in its folder
    :param project: the folder with ansible.cfg and playbooks/; runs/ is made in it
    """

    verb: str
    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False
    become_password: str | None = None
    resume: str | None = None
    project: Path = PROJECT

    def __post_init__(self) -> None:
        """:raises UsageError: for an unknown verb or a playbook that is not there"""
        if self.verb not in VERBS:
            raise UsageError(f"`{self.verb}` is no verb of kubepin: expected one of {', '.join(VERBS)}.")
        if not self.playbook.is_file():
            raise UsageError(
                f"`kubepin {self.verb}` runs {self.playbook.relative_to(self.project)}, which is not there: this copy of kubepin "
                f"has no `{self.verb}`. Get a newer one, or look at the folder {self.playbook.parent}."
            )

    @property
    def playbook(self) -> Path:
        """The verb's playbook."""
        return self.project / "playbooks" / VERBS[self.verb].playbook


@dataclass(frozen=True)
class Event:
    """Something that happened: `kind` and `data` are described in orchestrator/README.md; `time` is seconds since 1970."""

    kind: str
    data: Mapping[str, Any]
    time: float = field(default_factory=time.time)

    def to_object(self) -> dict[str, Any]:
        """Plain data of one JSON line."""
        return {"schema": SCHEMA, "time": round(self.time, 3), "kind": self.kind, **self.data}


@dataclass(frozen=True)
class HostResult:
    """What came of one host.

    :param outcome: as `kubepin_result` says it (docs/facts.md), else ``ok``, ``changed``, ``failed``, ``unreachable``,
        ``upgraded``, ``measured``, ``partly_measured``, ``not_begun``, or ``interrupted`` for one that was in hand when the run was
        cancelled
    :param changes: what was changed, a phrase each
    :param verified: findings after the change, a phrase each
    :param facts: the facts `kubepin_*` that its roles handed on
    :param first_cause: of a failure, in words
    :param next_step: what to do about it, where the role says so
    """

    host: str
    outcome: str
    changes: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    first_cause: str | None = None
    next_step: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one play of ansible-runner.

    :param status: ``successful``, ``failed`` or ``canceled``
    :param changed: whether any task changed anything
    :param messages: what the playbook said by `debug`, the last of each task
    :param statistics: what it handed on by `set_stats`
    :param in_hand: host to the task that it was at, for those that had not ended
    :param left: processes that were still at work some time after a cancel, in words
    """

    status: str
    hosts: tuple[HostResult, ...]
    changed: bool
    messages: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    in_hand: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """What came of a run; `sentence` says it in words, `next_step` how to go on, empty if there is nothing to do."""

    run: str
    folder: Path
    verb: str
    verdict: Verdict
    sentence: str
    next_step: str
    hosts: tuple[HostResult, ...]
    messages: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """Of the command `kubepin`."""
        return EXIT_CODES[self.verdict]

    def host(self, name: str) -> HostResult:
        """The result of one host.

        :raises KeyError: if it was not in the run
        """
        for result in self.hosts:
            if result.host == name:
                return result
        raise KeyError(name)

    def to_object(self) -> dict[str, Any]:
        """Plain data of result.json, schema 1."""
        return {"schema": SCHEMA, **asdict(self), "folder": str(self.folder), "exit_code": self.exit_code}
