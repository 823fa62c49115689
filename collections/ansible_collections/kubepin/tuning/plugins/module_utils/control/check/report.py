# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a check: what was found on each host, and its text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.node import not_checked
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.problems import node_unread
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import REASONS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.reading import READ_TIMEOUT, timed_out
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]


def check_facts(hosts: Iterable[Data]) -> dict[str, dict[str, Any]]:
    """Host -> its fact `kubepin_check`.

    :param hosts: the variables of each host: `__node_check_name` holds the node's name, `__node_check_read` the result of
        node_check_info, failed or not
    """
    return {host["inventory_hostname"]: _fact(host) for host in hosts}


def _fact(host: Data) -> dict[str, Any]:
    read = host.get("__node_check_read") or {}
    if "check" in read:
        return dict(read["check"])
    problem = timed_out(read, READ_TIMEOUT) or node_unread(str(read.get("msg") or "no answer"))
    return not_checked(host.get("__node_check_name") or host["inventory_hostname"], problem)


def check_text(checks: Sequence[Data]) -> str:
    """One line for each node, and below it what differs, with the remedy, and the GPU pods without CPUs of their own.

    :param checks: facts `kubepin_check`
    """
    outcomes = Counter(check["outcome"] for check in checks)
    shown = ", ".join(
        f"{outcomes[name]} {_words(name)}"
        for name in (Outcome.AS_PLANNED, Outcome.UNTUNED, Outcome.DRIFTED, Outcome.NOT_CHECKED)
        if outcomes[name]
    )
    lines = [f"kubepin: {counted(len(checks), 'node')}: {shown}"]
    width = max((len(check["node"]) for check in checks), default=0)
    for check in checks:
        lines.append(f"  {check['node']:<{width}}   {_words(check['outcome']):<11}   {_summary(check)}".rstrip())
        lines += [f"    {problem['code']}: {problem['text']}" for problem in [*check["unchecked"], *check["problems"]]]
        lines += [f"    note: {note}" for note in check["notes"]]
    return "\n".join([*lines, *_shared(checks)])


def check_verdict(check: Data) -> str:
    """Why the host fails, in one line; empty if it is as planned."""
    outcome = Outcome(check["outcome"])
    if outcome is Outcome.AS_PLANNED:
        return ""
    codes = [problem["code"] for problem in (check["unchecked"] or check["problems"])]
    return (
        f"{check['node']} is {_words(outcome)} ({', '.join(dict.fromkeys(codes))}). The report above has the remedies."
    )


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _summary(check: Data) -> str:
    parts = [f"policy {check['policy']}"] if check["policy"] else []
    if check["reserved"] and check["policy"] == "static":
        parts.append(f"reserved {check['reserved']}")
    if check["pinned"]:
        parts.append(f"{counted(check['pinned'], 'container')} on exclusive CPUs by the cgroup")
    return ", ".join(parts)


def _shared(checks: Sequence[Data]) -> list[str]:
    """The containers of GPU pods that do not qualify for exclusive CPUs. They do not differ from the plan."""
    rows = [
        f"    {check['node']}   {one['namespace']}/{one['pod']} {one['container']} on CPUs {one['cpus'] or 'unknown'}: "
        f"{', '.join(one['reasons'])}"
        for check in checks
        for one in check["gpu_containers"]
        if one["reasons"]
    ]
    if not rows:
        return []
    used = {reason for check in checks for one in check["gpu_containers"] for reason in one["reasons"]}
    legend = [f"    {code}: {REASONS[code]}" for code in REASONS if code in used]
    return ["  containers of GPU pods that never had exclusive CPUs (`kubepin audit` writes patches):", *rows, *legend]
