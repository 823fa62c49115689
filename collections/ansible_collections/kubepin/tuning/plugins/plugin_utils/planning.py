# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions that plan on the control node: modules read the node, and other modules apply the plan there."""

from __future__ import annotations

import typing as t
from abc import abstractmethod

from ansible.plugins.action import ActionBase
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import joined, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import kubelet_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import (
    TEMPORARY_FOLDERS,
    ModuleFailed,
    Result,
    found_no_room,
    full_file_systems,
)

COLLECTION = "kubepin.tuning"
_INTERNAL = ("invocation", "changed")
"""What every module returns, and says nothing of the action as a whole."""


class PlanningAction(ActionBase):
    """Runs modules of this collection on the node, and decides here."""

    argument_spec: t.ClassVar[t.Mapping[str, t.Any]]

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        super().run(tmp, task_vars)
        _result, params = self.validate_argument_spec(  # type: ignore[no-untyped-call]   # Ansible ships no types
            argument_spec=dict(self.argument_spec)
        )
        self._task_vars = task_vars
        known: Result = {}
        try:
            return self.plan(params, known)
        except TuningError as exc:
            return {**known, "failed": True, "msg": str(exc), **exc.details}
        except ModuleFailed as exc:
            return {**known, **{name: value for name, value in exc.result.items() if name not in _INTERNAL}}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)  # type: ignore[no-untyped-call]   # as above

    @abstractmethod
    def plan(self, params: Result, known: Result) -> Result:
        """Do what the task asks, and return its result.

        :param params: the task's arguments, validated
        :param known: grows with what is known, for the result of a failure
        """

    def call(self, module: str, arguments: Result) -> Result:
        """Run a module of this collection on the node.

        :raises ModuleFailed: with what it returned
        """
        result: Result = self._execute_module(
            module_name=f"{COLLECTION}.{module}", module_args=arguments, task_vars=self._task_vars
        )
        if result.get("failed"):
            raise ModuleFailed(self._explained(result))
        return result

    def _explained(self, result: Result) -> Result:
        """The result with the file systems as its problems, if one is so full that no module can run."""
        if not found_no_room(result):
            return result
        command = " ".join(["df", "-Pk", *TEMPORARY_FOLDERS])
        answer = self._low_level_execute_command(command, sudoable=False)  # type: ignore[no-untyped-call]   # as above
        full = full_file_systems(answer["stdout"])
        return {**result, "msg": joined(full), "problems": to_dicts(full)} if full else result

    def kubelet(self) -> Result:
        """The node's kubelet, as the module kubelet_info documents it.

        :raises ModuleFailed: if the node has none
        """
        read = self.call("kubelet_info", {"fail_on_unsupported": False, "runtime_versions": False})["read"]
        return kubelet_facts(read["kubelet"], read["programs"])


class DecodingAction(PlanningAction):
    """Has the module of the same name read the node, and returns facts in the place of what it read."""

    module: t.ClassVar[str]
    not_sent: t.ClassVar[frozenset[str]] = frozenset()
    """Arguments that only the control node needs."""

    def plan(self, params: Result, known: Result) -> Result:
        # as given: validated, a dictionary would hold all of its exclusive options, most of them null
        given = {name: value for name, value in self._task.args.items() if name not in self.not_sent}
        result = self.call(self.module, given)
        return {**result, **self.decode(result.pop("read"), params)}

    @abstractmethod
    def decode(self, read: Result, params: Result) -> Result:
        """The facts that the module documents.

        :param read: what the module read
        :param params: the task's arguments, validated
        """
