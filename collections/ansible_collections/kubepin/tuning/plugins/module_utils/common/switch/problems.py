# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem that the transaction finds on a node before it changes anything."""

from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def changed_since_plan(path: str) -> Problem:
    return Problem(
        "file_changed_since_plan",
        path,
        "was changed after the switch was planned",
        "Run again. If it happens again, stop what writes this file, such as a configuration management tool.",
    )
