# SPDX-License-Identifier: GPL-3.0-or-later
"""The report at the end of a run. Pure: facts in, text out."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Collection, Mapping, Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, duration, listed, wrapped

_GAP = "   "
_ONE_BY_ONE = 16
"""Up to this many nodes, each gets separate lines."""
_NAMED = 3
_GPU = "GPU"
_POLICY = "cpuManagerPolicy"
_RESERVED = "reservedSystemCPUs"
_FAILURES = ("failed", "undone", "refused")
# The header counts the outcomes in this order, with these words.
_COUNTED = {
    "tuned": "tuned",
    "would_tune": "would be tuned (check mode, nothing was changed)",
    "already_tuned": "already tuned",
    "rolled_back": "rolled back",
    "not_tuned": "without a switch to undo",
    "uninstalled": "uninstalled",
    "would_uninstall": "would be uninstalled (check mode, nothing was changed)",
    "not_installed": "without anything of kubepin",
    "waiting": "to come",
}


def preflight_problems(preflights: Mapping[str, Mapping[str, t.Any]]) -> str:
    """All problems of all nodes, a line each; empty if no node has one.

    :param preflights: host name -> its ``kubepin_plan`` (schema 2), empty for a host whose planning failed
    """
    found = {host: _problems(preflights[host]) for host in natural_sort(preflights)}
    refused = {host: problems for host, problems in found.items() if problems}
    if not refused:
        return ""
    if len(refused) <= _ONE_BY_ONE:
        width = max(map(len, refused))
        lines = [f"  {host:<{width}}{_GAP}{problem}" for host, problems in refused.items() for problem in problems]
    else:
        lines = _together(refused, lambda _host: True)
    head = f"kubepin: nothing was changed. {len(refused)} of {counted(len(found), 'node')} cannot be switched as asked:"
    return "\n".join([head, *lines])


def _problems(plan: Mapping[str, t.Any]) -> list[str]:
    if not plan:
        return ["could not be planned: its error is above."]
    return [problem["text"] for problem in (*plan["problems"], *plan.get("blocked", []))]


def run_summary(
    results: Mapping[str, Mapping[str, t.Any]],
    seconds: float,
    new: Sequence[str] | None = None,
    continues: bool = False,
) -> list[str]:
    """The summary of a run: the counts, then each node with what was changed, verified, or went wrong.

    With many nodes, those with the same lines are grouped; all failed nodes are named. A note that several nodes have
    stands once, below the nodes. While a run without a failure goes on, because nodes are to come or *continues* says so,
    only the nodes in *new* have lines, and only notes that no node had before are printed.

    :param results: host name -> its ``kubepin_result`` (schema 2), empty for a node that was not reached; every key may
        be missing
    :param seconds: duration of the run
    :param new: the nodes whose result was not shown before; None for all
    """
    outcomes = [_outcome(result) for result in results.values()]
    lines = [_header(outcomes, seconds)]
    goes_on = (continues or "waiting" in outcomes) and not any(outcome in _FAILURES for outcome in outcomes)
    printed = new if new is not None and goes_on else results
    blocks = {host: _node_lines(results[host]) for host in natural_sort(results) if host in printed}
    if len(blocks) <= _ONE_BY_ONE:
        width = max(map(len, blocks), default=0)
        for host, (first, *others) in blocks.items():
            lines.append(f"  {host:<{width}}{_GAP}{first}")
            lines.extend(f"  {'':<{width}}{_GAP}{line}" for line in others)
    else:
        lines.extend(_together(blocks, lambda host: _outcome(results[host]) in _FAILURES))
    seen = {note for host, result in results.items() if host not in printed for note in _notes(result)}
    return [*lines, *_note_lines({host: _notes(results[host]) for host in blocks}, seen)]


def _notes(result: Mapping[str, t.Any]) -> list[str]:
    """The notes of a node that did not fail: those of a failed one are not about what it is now."""
    return [] if _outcome(result) in _FAILURES else list(result.get("notes") or [])


def _note_lines(notes: Mapping[str, Sequence[str]], seen: Collection[str]) -> list[str]:
    """The notes of all nodes, each once. Nodes are named if others have no such note."""
    nodes_of: dict[str, list[str]] = {}
    for host, own in notes.items():
        for note in own:
            if note not in seen:
                nodes_of.setdefault(note, []).append(host)
    lines = []
    for note, hosts in nodes_of.items():
        where = "" if len(hosts) == len(notes) else f"{listed(hosts, _NAMED)}: "
        lines += wrapped("note: ", f"{where}{note}")
    return [f"  {line}" for line in lines]


def _together(blocks: Mapping[str, Sequence[str]], all_named: Callable[[str], bool]) -> list[str]:
    """The lines of all hosts; hosts with the same lines share them, below their names."""
    hosts_of: dict[tuple[str, ...], list[str]] = {}
    for host, block in blocks.items():
        hosts_of.setdefault(tuple(block), []).append(host)
    lines = []
    for same, hosts in hosts_of.items():
        most = len(hosts) if all_named(hosts[0]) else _NAMED
        lines += [*(f"  {line}" for line in wrapped("", listed(hosts, most))), *(f"      {line}" for line in same)]
    return lines


def _outcome(result: Mapping[str, t.Any]) -> str:
    return str(result.get("outcome", "waiting"))


def _header(outcomes: Sequence[str], seconds: float) -> str:
    counts = [f"{outcomes.count(outcome)} {words}" for outcome, words in _COUNTED.items() if outcome in outcomes]
    failed, undone = sum(outcome in _FAILURES for outcome in outcomes), outcomes.count("undone")
    counts.append(f"{failed} failed" + (f" ({undone} of them put back)" if undone else ""))
    return f"kubepin: {counted(len(outcomes), 'node')}: {', '.join(counts)} ({duration(seconds)})"


def _node_lines(result: Mapping[str, t.Any]) -> list[str]:
    outcome = _outcome(result)
    if outcome == "waiting":
        return ["not touched yet"]
    if outcome in _FAILURES:
        return _failure_lines(result)
    lines = [_first_line(result)]
    verified = result.get("verified")
    if verified:
        lines.extend(wrapped("verified: ", ", ".join(verified)))
    lines.extend(_other_settings(result))
    lines.extend(f"remains: {problem['text']}" for problem in result.get("remaining") or [])
    if result.get("archive"):
        lines.append(f"journal: {result['archive']}")
    if result.get("left_cordoned"):
        lines.append("stays cordoned" + (", as it was found" if result.get("cordoned_before") else ""))
    return [*lines, *_closing_lines(result)]


def _first_line(result: Mapping[str, t.Any]) -> str:
    outcome, settings = result["outcome"], result.get("settings") or []
    reserved: Mapping[str, t.Any] = result.get("reserved") or {}
    label = _gpu_label(result)
    if outcome == "already_tuned":
        state = ", ".join(
            filter(None, (result.get("policy"), f"reserved {reserved['cpus']}" if reserved.get("cpus") else None))
        )
        return _GAP.join([f"{state}: nothing to do", *label])
    if outcome == "not_tuned":
        return _GAP.join(["no switch to undo: nothing to do", *label])
    if outcome == "not_installed":
        return _GAP.join(["nothing of kubepin: nothing to do", *label])
    policy = next((s for s in settings if s["name"] == _POLICY), None)
    if outcome in ("uninstalled", "would_uninstall") and not settings:
        return _GAP.join(["settings are as before the first switch", *label])
    columns = [f"{shown(policy['before'])} -> {shown(policy['after'])}" if policy else _change_in_words(settings)]
    if reserved.get("cpus"):
        explanation = f" ({reserved['explanation']})" if reserved.get("explanation") else ""
        columns.append(f"reserved {reserved['cpus']}{explanation}")
    if result.get("exclusive_cpus"):
        columns.append(f"exclusive {result['exclusive_cpus']}")
    if result.get("downtime_ms") is not None:
        columns.append(f"kubelet down {result['downtime_ms'] / 1000:.1f} s")
    return _GAP.join(columns + label)


def _gpu_label(result: Mapping[str, t.Any]) -> list[str]:
    """The site's name for its GPUs, unless it is just GPU."""
    label = result.get("gpu_label", _GPU)
    return [label] if label != _GPU else []


def _change_in_words(settings: Sequence[object]) -> str:
    return "settings changed" if settings else "switched by an interrupted run, finished now"


def _failure_lines(result: Mapping[str, t.Any]) -> list[str]:
    put_back = result["outcome"] == "undone"
    cause = result.get("first_cause") or result.get("message") or "the cause is not known"
    lines = [_GAP.join(["FAILED", *_gpu_label(result), cause])]
    if result.get("meaning"):
        lines.append(f"meaning: {result['meaning']}")
    if result["outcome"] == "refused":
        return [_GAP.join(["REFUSED", cause]), "now: not touched"]
    state = ["everything was put back as it was" if put_back else "not put back"]
    if result.get("records_left"):
        state = ["the settings are as before the first switch; kubepin's records are still on the node"]
    if result.get("left_cordoned"):
        state.append("the node stays cordoned" + (", as it was found" if result.get("cordoned_before") else ""))
    lines.append(f"now: {'; '.join(state)}")
    return [*lines, *_closing_lines(result)]


def _other_settings(result: Mapping[str, t.Any]) -> list[str]:
    """A line for each change that the first line does not show."""
    in_first_line = {_POLICY, _RESERVED} if (result.get("reserved") or {}).get("cpus") else {_POLICY}
    lines = []
    for setting in result.get("settings") or []:
        if setting["name"] not in in_first_line:
            reason = f" ({setting['reason']})" if setting.get("reason") else ""
            lines.append(f"{setting['name']}: {shown(setting.get('before'))} -> {shown(setting.get('after'))}{reason}")
    return lines


def _closing_lines(result: Mapping[str, t.Any]) -> list[str]:
    return [f"next: {result['next_step']}"] if result.get("next_step") else []


def natural_sort(names: Mapping[str, object]) -> list[str]:
    """Names in human order: gpu-2 before gpu-10."""
    return sorted(names, key=lambda name: [(int(part), "") if part.isdigit() else (-1, part) for part in _parts(name)])


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]
