# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a node prevents carrying out a plan, found before anything is disturbed."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files


def preflight(node: Files, files: t.Iterable[FileChange], state_files: t.Iterable[FileChange] = ()) -> t.List[Problem]:
    """Every file that cannot be replaced or removed, or that is not any more as it was when the plan was made.

    :param state_files: the kubelet changes these at any time, so their texts are not compared
    """
    found: t.List[Problem] = []
    for change in files:
        try:
            if node.read(change.path) != change.before:
                found.append(problems.changed_since_plan(change.path))
        except OSError as exc:
            found.append(problems.file_unreadable(change.path, str(exc)))
        found += node.obstacles(change.path, removes=change.after is None)
    for change in state_files:
        found += node.obstacles(change.path, removes=True)
    return list(dict.fromkeys(found))


def put_back(node: Files, files: t.Iterable[FileChange]) -> t.List[Problem]:
    """The files that do not have the text that a switch wrote."""
    return [problems.put_back(change.path) for change in files if not _has(node, change.path, change.after)]


def _has(node: Files, path: str, text: t.Optional[str]) -> bool:
    try:
        return node.read(path) == text
    except OSError:
        return False
