# SPDX-License-Identifier: GPL-3.0-or-later
"""The orchestrator's data: requests, events and results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

from orchestrator.values import as_object

SCHEMA = 1
PROJECT = Path(__file__).resolve().parents[1]


class KubepinError(Exception):
    """One paragraph for the user: the problem, what was expected, and the next step."""


class UsageError(KubepinError):
    """The request cannot be started."""


class RunVerdict(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    NOT_RUN = "not_run"
    NOT_RECORDED = "not_recorded"
    DIFFERS = "differs"


USAGE_EXIT_CODE = 2
EXIT_CODES: Mapping[RunVerdict, int] = {
    RunVerdict.DONE: 0,
    RunVerdict.FAILED: 1,
    RunVerdict.REFUSED: 3,
    RunVerdict.STOPPED: 4,
    RunVerdict.CANCELLED: 5,
    RunVerdict.NOT_RUN: 6,
    RunVerdict.NOT_RECORDED: 7,
    RunVerdict.DIFFERS: 8,
}


@dataclass(frozen=True)
class Verb:
    """A playbook of the command line: its file, whether it `changes` the cluster, and its help text."""

    playbook: str
    changes: bool
    help: str


VERBS: Mapping[str, Verb] = {
    "tune": Verb("tune-gpu-nodes.yml", True, "switch the kubelets of gpu_nodes to the static CPU manager policy"),
    "rollback": Verb("rollback-gpu-nodes.yml", True, "undo the last switch of each node"),
    "check": Verb("check-gpu-nodes.yml", False, "compare each node with its plan (exit code 8: one differs)"),
    "uninstall": Verb("uninstall-gpu-nodes.yml", True, "undo all switches, and remove kubepin from nodes and cluster"),
    "preview": Verb("preview-gpu-nodes.yml", False, "show what the static policy would do on each node"),
    "emit": Verb("emit-node-settings.yml", False, "write the settings of new nodes for their installer"),
    "benchmark": Verb("benchmark-gpu-nodes.yml", False, "time PyTorch in pods on the GPU nodes"),
    "compare": Verb("compare-platforms.yml", False, "benchmark two groups of hosts and compare them"),
    "probe": Verb("probe-host.yml", False, "measure what exclusive CPUs gain on a host without Kubernetes"),
    "audit": Verb("audit-gpu-pods.yml", False, "list which GPU pods get exclusive CPUs, and why others do not"),
    "enforce": Verb("enforce-gpu-pods.yml", True, "install an admission policy for new GPU pods"),
    "diagnose": Verb("diagnose-gpu-pods.yml", False, "list running pods that have lost their GPU, and why"),
    "upgrade": Verb("upgrade-cluster.yml", True, "upgrade the cluster one minor version at a time"),
}


@dataclass(frozen=True)
class RunRequest:
    """A verb to run, and how.

    :param verb: one of `VERBS`
    :param inventory: files or folders, relative to `project`; without any, those of the project's ansible.cfg
    :param limit: a host pattern, as ``ansible-playbook --limit`` takes it
    :param variables: extra variables
    :param variable_files: files with extra variables, vaulted ones too
    :param check: Ansible's check mode, which changes nothing
    :param become_password: for ``become`` on the hosts; kept in no file
    :param resume: the name of an earlier run of the same verb, to continue in its folder; ``last`` is the newest
    :param with_changes: resume it although its inventory, variables, limit or check mode differ
    :param project: the folder with ansible.cfg, playbooks/ and runs/
    """

    verb: str
    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False
    become_password: str | None = None
    resume: str | None = None
    with_changes: bool = False
    project: Path = PROJECT

    def __post_init__(self) -> None:
        """:raises UsageError: if the verb is unknown or its playbook is missing"""
        if self.verb not in VERBS:
            raise UsageError(f"unknown command `{self.verb}`: choose from {', '.join(VERBS)}.")
        if not self.playbook.is_file():
            raise UsageError(
                f"`kubepin {self.verb}` needs {self.playbook.relative_to(self.project)}, which is missing from "
                f"{self.project}. Reinstall or update kubepin."
            )

    @property
    def playbook(self) -> Path:
        """The verb's playbook: in the folder, names have underscores (docs/operations.md, Names of playbooks)."""
        return self.project / "playbooks" / VERBS[self.verb].playbook.replace("-", "_")


@dataclass(frozen=True)
class Event:
    """Something that happened at `time`, in seconds since 1970. orchestrator/README.md lists kinds and their data."""

    kind: str
    data: Mapping[str, Any]
    time: float = field(default_factory=time.time)

    def to_object(self) -> dict[str, Any]:
        """The event as one JSON line."""
        return {"schema": SCHEMA, "time": round(self.time, 3), "kind": self.kind, **self.data}


@dataclass(frozen=True)
class HostResult:
    """The result of one host.

    :param outcome: how the host ended (docs/facts.md, Outcomes)
    :param changes: what was changed, a phrase each
    :param verified: what was verified after the change, a phrase each
    :param facts: the facts `kubepin_*` that the roles published
    :param first_cause: the first cause of a failure
    :param next_step: what to do about the failure, if the role says so
    """

    host: str
    outcome: Outcome
    changes: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    first_cause: str | None = None
    next_step: str | None = None

    def fact(self, name: str) -> Mapping[str, Any]:
        """The fact; empty if it was not published, or is no object."""
        return as_object(self.facts.get(name))


@dataclass(frozen=True)
class PlayResult:
    """The result of one run of ansible-playbook.

    :param status: ``successful``, ``failed`` or ``canceled``
    :param changed: whether any task changed anything
    :param messages: the messages of `debug` tasks, the last one of each task
    :param statistics: what the playbook published with `set_stats`
    :param in_progress: host to the task that it had not finished
    :param remaining: a description of each process that outlived a cancelled run
    """

    status: str
    hosts: tuple[HostResult, ...]
    changed: bool
    messages: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    in_progress: Mapping[str, str] = field(default_factory=dict)
    remaining: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """The result of a run: `sentence` sums it up, `next_step` says how to continue and is empty if nothing is left to do."""

    run: str
    folder: Path
    verb: str
    verdict: RunVerdict
    sentence: str
    next_step: str
    hosts: tuple[HostResult, ...]
    messages: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """The exit code of the command `kubepin`."""
        return EXIT_CODES[self.verdict]

    def host(self, name: str) -> HostResult:
        """The result of one host.

        :raises KeyError: if the host was not in the run
        """
        for result in self.hosts:
            if result.host == name:
                return result
        raise KeyError(name)

    def to_object(self) -> dict[str, Any]:
        """The contents of result.json, schema 1."""
        return {"schema": SCHEMA, **asdict(self), "folder": str(self.folder), "exit_code": self.exit_code}
