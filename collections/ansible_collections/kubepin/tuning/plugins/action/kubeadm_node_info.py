# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node import node_facts
from ansible_collections.kubepin.tuning.plugins.modules.kubeadm_node_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import DecodingAction


class ActionModule(DecodingAction):
    argument_spec = ARGUMENT_SPEC
    module = "kubeadm_node_info"
    not_sent = frozenset(("running_config",))

    def decode(self, read: Result, params: Result) -> Result:
        by_packages = bool((params["source"] or {}).get("packages"))
        facts = node_facts(read, by_packages, params["running_config"], params["patches_directory"])
        return {"kubeadm_node": facts}
