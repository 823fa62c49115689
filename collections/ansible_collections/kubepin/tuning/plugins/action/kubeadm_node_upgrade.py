# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node_run import MODULE, StepRun
from ansible_collections.kubepin.tuning.plugins.modules.kubeadm_node_upgrade import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        # as given: validated, `source` would hold both of its exclusive options, one of them null
        given = dict(self._task.args)
        return self.call(MODULE, given) if self._task.check_mode else StepRun(self.call, given).run()
