# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubespray import inventory_variables


def test_fields_without_a_variable_of_their_own_share_one() -> None:
    assert inventory_variables({"cpuManagerPolicy": "static", "reservedSystemCPUs": "0-1", "maxPods": 200}) == {
        "kubelet_cpu_manager_policy": "static",
        "kubelet_config_extra_args": {"reservedSystemCPUs": "0-1", "maxPods": 200},
    }
    assert inventory_variables({"topologyManagerScope": "pod"}) == {"kubelet_topology_manager_scope": "pod"}
