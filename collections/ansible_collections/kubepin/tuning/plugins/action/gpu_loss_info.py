# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.loss import loss_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.modules.gpu_loss_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    """Diagnoses here what `gpu_containers_info` read on the node."""

    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        kubelet = self.kubelet() if params["kubelet"] is None else params["kubelet"]
        return {"changed": False, "gpu_loss": loss_facts(self.call, kubelet, params["devices"])}
