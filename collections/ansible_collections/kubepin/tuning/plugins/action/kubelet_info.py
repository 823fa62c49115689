# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

from ansible.plugins.action.normal import ActionModule as ModuleAction
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import kubelet_facts


class ActionModule(ModuleAction):
    """Decodes here what the module of the same name read on the node."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)  # type: ignore[no-untyped-call]   # Ansible ships no types
        if "sources" in result:
            result["kubelet"] = kubelet_facts(result.pop("sources"), result.pop("programs"))
        return result
