# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.container_runtime import runtime_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.modules.container_runtime_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    """Decodes here what the module of the same name read on the node."""

    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        runtime = params["runtime"] or self.kubelet()["runtime"]["name"]
        facts = runtime_facts(self.call, runtime, params["gpu_device_paths"])
        return {"changed": False, "container_runtime": facts}
