# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's files are, and what must hold of them after a power cut and after the run that follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.campaigns.base import expect

BEGUN = "begun"


@dataclass(frozen=True)
class Look:
    """What `power_cut_look` found on a machine."""

    up: float | None
    """After how many seconds the kubelet answered."""
    files: Mapping[str, Sequence[Any]]
    drafts: Sequence[str]
    records: Mapping[str, str]
    """File -> status."""
    policy: str | None
    log: str


def file_problems(before: Look, after: Look, found: Look) -> list[str]:
    """What of a machine is neither as before nor as after, right after its boot."""
    problems = []
    for path in sorted({*before.files, *after.files, *found.files}):
        allowed = (before.files.get(path), after.files.get(path))
        if found.files.get(path) not in allowed:
            problems.append(f"{path} is {found.files.get(path)}, neither as before nor as after: {allowed}")
    problems += [f"{path} is {status}" for path, status in found.records.items() if "unreadable" in status]
    if found.policy not in (before.policy, after.policy, None):
        problems.append(f"the policy is {found.policy}, neither {before.policy} nor {after.policy}")
    return problems


def end_problems(after: Look, found: Look) -> list[str]:
    """What of a machine is not as after an undisturbed run, once the next run has ended."""
    problems = [
        f"{path} is {found.files.get(path)} after the next run, not {after.files.get(path)}"
        for path in sorted({*after.files, *found.files})
        if found.files.get(path) != after.files.get(path)
    ]
    problems += [f"left after the next run: {path}" for path in found.drafts]
    problems += [f"{path} still says {status}" for path, status in found.records.items() if unfinished(status)]
    if found.policy != after.policy:
        problems.append(f"the policy is {found.policy} after the next run, not {after.policy}")
    if found.up is None:
        problems.append(f"no kubelet after the next run: {found.log[-600:]}")
    return problems


def unfinished(status: str) -> bool:
    """Whether a record says that something was begun, or cannot be read."""
    return status not in ("committed", "undone", "prepared")


def interrupted(found: Look) -> bool:
    """Whether a switch is unfinished."""
    return any("/switches/" in path and status == BEGUN for path, status in found.records.items())


def how_whole(before: Look, after: Look, found: Look) -> str:
    """How many of the files that change had their old, and how many their new text."""
    changed = [path for path in {*before.files, *after.files} if before.files.get(path) != after.files.get(path)]
    new = sum(found.files.get(path) == after.files.get(path) for path in changed)
    drafts = f", {len(found.drafts)} drafts" if found.drafts else ""
    return f"{len(changed) - new} old, {new} new{drafts}"


def refuse(problems: Sequence[str]) -> None:
    """Raise CheckFailed with all problems, if there are any."""
    expect(not problems, "; ".join(problems))
