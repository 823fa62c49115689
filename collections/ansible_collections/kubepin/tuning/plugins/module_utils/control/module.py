# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of AnsibleModule that modules of the control node use, so that they also run without it."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, causes
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, joined, to_dicts


class Module(t.Protocol):
    """A module's parameters, and how it ends."""

    params: dict[str, t.Any]
    check_mode: bool

    def exit_json(self, **result: t.Any) -> t.NoReturn:
        """End with this result."""

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        """End with a failure."""


def fail(module: Module, *problems: Problem, **result: t.Any) -> t.NoReturn:
    """End with a failure for these problems."""
    module.fail_json(msg=joined(problems), problems=to_dicts(problems), **result)


def fail_for(module: Module, error: Exception) -> t.NoReturn:
    """End with a failure for what was raised, a TuningError or another."""
    fail(module, *causes(error), **(error.facts if isinstance(error, TuningError) else {}))
