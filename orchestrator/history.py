# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark found in each run, and what changed since the run before it on the same nodes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.records import ContrastRecord, HostRecord, ReportRecord, RunRecord

NOT_KNOWN = "not known"
ADVICE = "advice"
SAME = "same advice and conditions"
"""Ratios and variables of the inventory are not compared."""
_IDLE = "solo"
"""The load that goes without saying."""
_ENVIRONMENT = ("gpu", "driver", "torch", "kernel")
"""Keys of a pod's environment that may change between two runs of a node."""


@dataclass(frozen=True)
class NodeFindings:
    """What was found on a node. `advice` is the recommendation's code, `lead` the same in a few words.

    `conditions` holds what may differ from the run before: versions and the CPU manager policy.
    """

    node: str
    advice: str
    lead: str
    line: str
    contrasts: tuple[ContrastRecord, ...]
    conditions: Mapping[str, str]

    def to_text(self) -> str:
        """One line: what to do, and each question with its ratio and interval."""
        found = "; ".join(map(_contrast, self.contrasts))
        return f"{self.node}: {self.lead}{f' (times as fast: {found})' if found else ''}"


@dataclass(frozen=True)
class Change:
    """Something that differs from the run before. `node` is empty for what is the same on all nodes."""

    node: str
    what: str
    before: str
    after: str

    def to_text(self) -> str:
        where = f"{self.node}: " if self.node else ""
        change = f"{self.before} -> {self.after}"
        return f"{where}{self.what} {change.replace('_', ' ') if self.what == ADVICE else change}"


@dataclass(frozen=True)
class Findings:
    """The benchmark's part of a run. `since` is the run before on the same nodes; None for the first one."""

    nodes: tuple[NodeFindings, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    since: str | None = None
    changes: tuple[Change, ...] = ()

    def to_object(self) -> dict[str, Any]:
        """For `kubepin runs --json`."""
        return asdict(self)

    def to_lines(self) -> list[str]:
        """A line for each node with its conditions, and one for what changed; none for a run that measured nothing."""
        lines = []
        for node in self.nodes:
            lines += [node.to_text(), f"  {', '.join(f'{name} {value}' for name, value in node.conditions.items())}"]
        if self.since is not None:
            lines.append(f"since {self.since}: {'; '.join(one.to_text() for one in self.changes) or SAME}")
        return lines


def findings(record: RunRecord, hosts: Mapping[str, HostRecord], reports: Sequence[ReportRecord]) -> Findings:
    """What a run found, without what changed."""
    by_node = {host.node: host for host in hosts.values() if host.node}
    return Findings(
        nodes=tuple(_node(report, by_node.get(report.node)) for report in reports),
        settings={
            "kubepin": record.versions.get("kubepin", NOT_KNOWN),
            **{name: _plain(value) for name, value in sorted(record.request.variables.items())},
        },
    )


def since_the_run_before(runs: Sequence[tuple[str, Findings]]) -> dict[str, Findings]:
    """By run: its findings, with what changed since the last run before it that measured the same nodes.

    :param runs: name and findings, oldest first
    """
    found: dict[str, Findings] = {}
    last: dict[tuple[str, ...], str] = {}
    for run, own in runs:
        nodes = tuple(sorted(node.node for node in own.nodes))
        earlier = last.get(nodes) if nodes else None
        if earlier is None:
            found[run] = own
        else:
            found[run] = Findings(own.nodes, own.settings, earlier, _changes(found[earlier], own))
        last[nodes] = run
    return found


def _changes(before: Findings, after: Findings) -> tuple[Change, ...]:
    changes = _differing("", before.settings, after.settings)
    earlier = {node.node: node for node in before.nodes}
    for node in after.nodes:
        old = earlier[node.node]
        if old.advice != node.advice:
            changes.append(Change(node.node, ADVICE, old.advice, node.advice))
        changes += _differing(node.node, old.conditions, node.conditions)
    return tuple(changes)


def _differing(node: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    names = dict.fromkeys((*before, *after))
    pairs = [(name, before.get(name, "not set"), after.get(name, "not set")) for name in names]
    return [Change(node, name, old, new) for name, old, new in pairs if old != new]


def _node(report: ReportRecord, host: HostRecord | None) -> NodeFindings:
    measured = host.measurements if host is not None else ()
    conditions = {
        "Kubernetes": _joined(one.kubelet for one in measured),
        **{name: _plain(report.environment.get(name, NOT_KNOWN)) for name in _ENVIRONMENT},
        "policy": _joined(one.policy for one in measured),
    }
    return NodeFindings(report.node, report.advice, report.lead, report.line, report.contrasts, conditions)


def _joined(values: Any) -> str:
    """The values in order, each once, such as "none, then static" for the policy before and after a switch."""
    return ", then ".join(dict.fromkeys(value for value in values if value)) or NOT_KNOWN


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _contrast(found: ContrastRecord) -> str:
    name = found.name if found.load == _IDLE else f"{found.name}, {found.load_name}"
    if found.ratio is None:
        return f"{name}: {NOT_KNOWN}"
    span = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None and found.high is not None else ""
    return f"{name}: {found.ratio:.2f}{span}"
