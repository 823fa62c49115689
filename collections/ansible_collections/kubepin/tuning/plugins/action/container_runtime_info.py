# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.modules.container_runtime_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    """Reads the kubelet for the module of the same name, because the node cannot decode its configuration."""

    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        if params["runtime"] is None:
            params["runtime"] = self.kubelet()["runtime"]["name"]
        return self.call("container_runtime_info", params)
