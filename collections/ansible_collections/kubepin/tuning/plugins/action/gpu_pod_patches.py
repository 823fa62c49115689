# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.modules import gpu_pod_patches
from ansible_collections.kubepin.tuning.plugins.plugin_utils.control_node import ControlNodeAction


class ActionModule(ControlNodeAction):
    module = gpu_pod_patches
