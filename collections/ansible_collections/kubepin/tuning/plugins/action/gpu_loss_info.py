# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.modules.gpu_loss_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    """Reads the kubelet for the module of the same name, because the node cannot decode its configuration."""

    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        if params["kubelet"] is None:
            params["kubelet"] = self.kubelet()
        return self.call("gpu_loss_info", params)
