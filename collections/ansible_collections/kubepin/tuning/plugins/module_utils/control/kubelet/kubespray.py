# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the variables of kubespray's inventory that set fields of KubeletConfiguration.

kubernetes-sigs/kubespray@46dbdd3: roles/kubernetes/node/templates/kubelet-config.v1beta1.yaml.j2, which appends
kubelet_config_extra_args; docs/ansible/vars.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_VARIABLES = {
    "cpuManagerPolicy": "kubelet_cpu_manager_policy",
    "cpuManagerPolicyOptions": "kubelet_cpu_manager_policy_options",
    "topologyManagerPolicy": "kubelet_topology_manager_policy",
    "topologyManagerScope": "kubelet_topology_manager_scope",
}
_OTHERS = "kubelet_config_extra_args"


def inventory_variables(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Variable -> value, for fields of KubeletConfiguration; those without a variable of their own share one."""
    variables = {name: settings[field] for field, name in _VARIABLES.items() if field in settings}
    others = {field: value for field, value in settings.items() if field not in _VARIABLES}
    return {**variables, **({_OTHERS: others} if others else {})}
