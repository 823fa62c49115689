# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect
import time

from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.archive import write_archive
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.run import SwitchRun
from ansible_collections.kubepin.tuning.plugins.module_utils.node import boot_guard
from ansible_collections.kubepin.tuning.plugins.modules.kubelet_cpu_manager import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.planning import PlanningAction


class ActionModule(PlanningAction):
    argument_spec = ARGUMENT_SPEC

    def plan(self, params: Result, known: Result) -> Result:
        program = inspect.getsource(boot_guard)
        return SwitchRun(self.call, params, self._task.check_mode, known, write_archive, program, time.time).run()
