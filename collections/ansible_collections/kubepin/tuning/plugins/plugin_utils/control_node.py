# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of the control node, run without a separate Python process.

A module that queries the Kubernetes API takes some tenths of a second. Starting a Python process for it and importing
Ansible's module library and the Kubernetes client takes another second, for each task and host. Ansible imports an
action plugin once, before it forks the workers, so the same code starts there without delay. The filters are imported
here for the same reason, and Ansible's filters and tests loaded: otherwise each worker whose task names one would do that
again.
"""

from __future__ import annotations

import json
import typing as t
from types import ModuleType

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action.normal import ActionModule as ModuleAction
from ansible.plugins.loader import filter_loader, test_loader
from ansible_collections.kubepin.tuning.plugins.filter import (  # noqa: F401 # pylint: disable=unused-import # once, before the workers are forked
    benchmark,
    facts,
    gpu_loss,
    gpu_pods,
    node_check,
    preview,
    probe,
    upgrade,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import api

for _loader, _name in ((filter_loader, "default"), (test_loader, "defined")):
    _loader.get(_name)  # loads all of its kind


class _Ended(SystemExit):
    """The module has returned its result; a SystemExit as AnsibleModule's, so ``except Exception`` misses it."""

    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(int(bool(result.get("failed"))))
        self.result = result


class _InProcess:
    """Stands in for AnsibleModule; implements `module_utils.control.module.Module`."""

    def __init__(self, params: dict[str, t.Any], check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode

    def exit_json(self, **result: t.Any) -> t.NoReturn:
        raise _Ended(result)

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        raise _Ended({"failed": True, "msg": msg, **result})


class ControlNodeAction(ModuleAction):
    """Runs the module of the same name: in this process if it would run on this machine anyway, else as any module."""

    module: ModuleType
    """Has `OPTIONS`, AnsibleModule's arguments except check mode, which all of these modules support, and `run`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        if not self._runs_here():
            result: dict[str, t.Any] = super().run(tmp, task_vars)  # type: ignore[no-untyped-call]   # Ansible ships no types
            return result
        arguments = ArgumentSpecValidator(**self.module.OPTIONS).validate(dict(self._task.args))
        if arguments.error_messages:
            return {"failed": True, "msg": "; ".join(arguments.error_messages)}
        module = _InProcess(arguments.validated_parameters, self._task.check_mode)
        try:
            self.module.run(module)
        except _Ended as ended:
            plain: dict[str, t.Any] = json.loads(json.dumps(ended.result))
            return plain
        raise RuntimeError("the module ended without a result")

    def _runs_here(self) -> bool:
        """Whether the task is for this machine and user, sets no environment, and the client library is installed."""
        return (
            self._connection.transport == "local"
            and self._connection.become is None
            and not self._task.async_val
            and not any(self._task.environment or ())
            and api.IMPORT_ERROR is None
        )
