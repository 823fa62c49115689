# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the actions that evaluate timings with the benchmark's library."""

from __future__ import annotations

import json
import typing as t
from abc import abstractmethod

from ansible.plugins.action import ActionBase
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, joined, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.problems import (
    library_missing,
    timings_unusable,
)
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.results import InputError


class TimingsAction(ActionBase):
    """Evaluates files of the control node in Ansible's own process, whatever the task's host, user and environment are.

    There is no module to send: the library has templates besides Python, and needs the Python that runs Ansible.
    """

    _requires_connection = False
    argument_spec: t.ClassVar[t.Mapping[str, t.Any]]
    constraints: t.ClassVar[t.Mapping[str, t.Any]] = {}
    """Which options exclude or need each other, as ArgumentSpecValidator takes them."""

    @abstractmethod
    def evaluate(self, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """What the task returns, for valid parameters.

        :raises InputError: with all problems of the parameters and the files
        :raises ImportError: if numpy or scipy is missing, which the library imports where it needs them
        """

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        _result, params = self.validate_argument_spec(  # type: ignore[no-untyped-call]   # Ansible ships no types
            argument_spec=dict(self.argument_spec), **self.constraints
        )
        try:
            result = self.evaluate(params)
        except InputError as error:
            return _failure(map(timings_unusable, error.problems))
        except ImportError as error:
            return _failure([library_missing(str(error.name))])
        plain: dict[str, t.Any] = json.loads(json.dumps({"changed": False, **result}))
        return plain


def _failure(problems: t.Iterable[Problem]) -> dict[str, t.Any]:
    found = list(problems)
    return {"failed": True, "msg": joined(found), "problems": to_dicts(found)}
