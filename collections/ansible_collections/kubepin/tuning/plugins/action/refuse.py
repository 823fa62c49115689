# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubepin.tuning.plugins.modules.refuse import ARGUMENT_SPEC


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, params = self.validate_argument_spec(  # type: ignore[no-untyped-call]   # Ansible ships no types
            argument_spec=dict(ARGUMENT_SPEC)
        )
        problems: list[dict[str, Any]] = params["problems"]
        if not problems:
            return {"changed": False}
        return {
            "failed": True,
            "msg": params["msg"] or " ".join(problem["text"] for problem in problems),
            "problems": problems,
        }
