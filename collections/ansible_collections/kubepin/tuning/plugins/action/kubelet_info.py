# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import kubelet_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.modules.kubelet_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import DecodingAction


class ActionModule(DecodingAction):
    argument_spec = ARGUMENT_SPEC
    module = "kubelet_info"

    def decode(self, read: Result, params: Result) -> Result:
        return {"kubelet": kubelet_facts(read["kubelet"], read["programs"])}
