# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

from ansible.plugins.action.normal import ActionModule as ModuleAction
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node import node_facts


class ActionModule(ModuleAction):
    """Decodes here what the module of the same name read on the node."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)  # type: ignore[no-untyped-call]   # Ansible ships no types
        if "read" in result:
            source = self._task.args.get("source") or {}
            result["kubeadm_node"] = node_facts(result.pop("read"), by_packages=bool(source.get("packages")))
        return result
