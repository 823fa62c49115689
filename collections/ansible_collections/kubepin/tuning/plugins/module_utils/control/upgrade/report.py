# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of an upgrade. Pure: plan and results in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

SCHEMA = 1
_GAP = "   "
_PREPARE = "prepare"
_ACTIONS = {
    _PREPARE: "keep copies, fetch programs and images",
    "apply": "kubeadm upgrade apply",
    "node": "node: kubeadm, drain, kubelet, verify",
}


def upgrade_plan_text(plan: Data) -> list[str]:
    """The present version of every node, the upgrade path and the steps."""
    way = " -> ".join([plan["current"], *(version for version in plan["versions"] if version != plan["current"])])
    lines = [
        f"kubepin: upgrade {way}"
        if plan["versions"]
        else f"kubepin: the cluster is at {plan['current']}: nothing to do"
    ]
    width = max((len(place["node"]) for place in plan["position"]), default=0)
    for place in plan["position"]:
        versions = [f"{name} {place[key]}" for name, key in _PROGRAMS if place[key]]
        tuned = [f"CPU manager {place['policy']}"] if place["policy"] else []
        if place["reserved"]:
            tuned.append(f"reserved {place['reserved']}")
        state = (
            ["stays cordoned"]
            if place["cordoned"]
            else ["cordoned by an interrupted upgrade"]
            if place["in_progress"]
            else []
        )
        lines.append(f"  {place['node']:<{width}}{_GAP}" + ", ".join([*versions, *tuned, *state]))
    for number, step in enumerate(plan["steps"], start=1):
        lines.append(
            f"  {number:>2}. {step['version']}{_GAP}{', '.join(step['hosts'])}{_GAP}{_ACTIONS[step['action']]}"
        )
    lines.extend(f"  note: {note}" for note in plan["notes"])
    return lines


_PROGRAMS = (("API server", "api_server"), ("kubelet", "kubelet"), ("kubeadm", "kubeadm"))


def upgrade_problems_text(plan: Data) -> list[str]:
    """Everything that prevents the upgrade; empty if nothing does."""
    problems = [Problem.from_dict(problem) for problem in plan["problems"]]
    if not problems:
        return []
    width = max(len(problem.subject) for problem in problems)
    count = counted(len(problems), "problem")
    head = f"kubepin: nothing was changed. {count} between {plan['current']} and {plan['target']}:"
    return [head, *(f"  {problem.subject:<{width}}{_GAP}[{problem.code}] {_words(problem)}" for problem in problems)]


def _words(problem: Problem) -> str:
    waiver = f" To go on anyway, add {problem.code} to kubeadm_upgrade_accept." if problem.waivable else ""
    return f"{problem.finding.rstrip('.')}. {problem.remedy}".rstrip() + waiver


def upgrade_failure_text(
    plan: Data, step: Data, node: str, prepared: Data, task: str, message: str, unreachable: str = ""
) -> str:
    """What happened, where the cluster is, and how to continue or go back.

    :param task: the task at which the host failed; empty if it was stopped because another host of its batch failed
    :param unreachable: Ansible's message if the host became unreachable, else empty
    """
    if unreachable:
        what = f"lost the node: {unreachable.rstrip(': ')}. What had begun on it goes on by itself, as long as it runs."
    else:
        what = f"ended at '{task}': {message}" if task else "was stopped, as another node of its batch failed."
    steps = [*plan["steps"]]
    done = steps.index(step) if step in steps else 0
    folder = prepared.get("folder")
    snapshot = (prepared.get("etcd_snapshot") or {}).get("path")
    kept = [f"copies from before this upgrade: {folder} on {node}"] if folder else []
    kept += [f"etcd snapshot: {snapshot}"] if snapshot else []
    return " ".join(
        [
            f"{node}: the step to {step['version']} ({_ACTIONS[step['action']]}) {what}",
            f"Done: {done} of {counted(len(steps), 'step')}; nodes that were not reached run as before, {node} stays cordoned if it was "
            "drained.",
            "Going on: remove the cause and run upgrade-cluster.yml again, it sees where each node is.",
            f"Kept: {'; '.join(kept)}." if kept else "" if unreachable else "Nothing had been replaced on this node.",
        ]
    ).rstrip()


def upgrade_result_fact(plan: Data, host: str, steps: Sequence[Data], check_mode: bool) -> dict[str, Any]:
    """The fact `kubepin_upgrade_result`: the part of the plan that a host has done so far.

    :param steps: an entry for each step that the host has done
    """
    return {"schema": SCHEMA, "outcome": _outcome(plan, host, steps, check_mode).value, "steps": list(steps)}


def _outcome(plan: Data, host: str, steps: Sequence[Data], check_mode: bool) -> Outcome:
    """The host's outcome. Preparing does not count, because it changes nothing that runs."""
    due = sum(step["action"] != _PREPARE and host in step["hosts"] for step in plan["steps"])
    done = sum(step["action"] != _PREPARE for step in steps)
    if plan["problems"]:
        return Outcome.REFUSED
    if not due:
        return Outcome.OK
    if check_mode:
        return Outcome.WOULD_UPGRADE
    if done == due:
        return Outcome.UPGRADED
    return Outcome.PARTLY_UPGRADED if done else Outcome.NOT_BEGUN


def upgrade_summary_text(results: Mapping[str, Data], plan: Data, check_mode: bool) -> list[str]:
    """The durations by version and node, what was verified, and where backups are.

    :param results: host -> its fact `kubepin_upgrade_result`
    """
    if not plan["versions"]:
        return [f"kubepin: the cluster is at {plan['current']}: nothing to do"]
    if check_mode:
        return [f"kubepin: nothing was changed (check mode). The way to {plan['target']} has {_steps(plan)}."]
    total = sum(float(entry["seconds"]) for result in results.values() for entry in result["steps"])
    lines = [f"kubepin: the cluster is at {plan['target']}. {_steps(plan)}, {counted(round(total), 'node-second')}"]
    width = max(map(len, results), default=0)
    for version in plan["versions"]:
        for host, result in results.items():
            lines.extend(
                f"  {version}{_GAP}{host:<{width}}{_GAP}{_entry(e)}" for e in result["steps"] if e["version"] == version
            )
    return lines


def _steps(plan: Data) -> str:
    return counted(len(plan["steps"]), "step")


def _entry(entry: Data) -> str:
    parts = [f"{entry['action']:<7} {float(entry['seconds']):>5.0f} s"]
    for name, key in (("prepare", "prepare_seconds"), ("kubeadm", "kubeadm_seconds"), ("drain", "drain_seconds")):
        if float(entry[key]) and name != entry["action"]:
            parts.append(f"{name} {float(entry[key]):.0f} s")
    if float(entry["downtime_ms"]):
        parts.append(f"kubelet down {float(entry['downtime_ms']) / 1000:.1f} s")
    if entry["kept_settings"]:
        kept = ", ".join(f"{name} {value}" for name, value in entry["kept_settings"].items())
        parts.append(f"kept from kubeadm's rewriting: {kept}")
    parts.extend(entry["dropped_flags"])
    if entry["verified"]:
        parts.append("verified: " + "; ".join(entry["verified"]))
    return _GAP.join(parts)
