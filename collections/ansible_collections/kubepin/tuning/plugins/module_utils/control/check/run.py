# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of node_check_info: reads the node, and decides here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.node import (
    Cgroups,
    InApi,
    Switched,
    check_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.pods import RunningContainer
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import decode_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call, Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.run import desired_settings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.system_daemons import (
    desired_daemons,
    wants_daemons,
)


def checked(call: Call, params: Mapping[str, Any]) -> Result:
    """The fact `kubepin_check` of the node.

    :param call: runs a module on the node
    :param params: the arguments of node_check_info
    :raises ModuleFailed: if the node cannot be read
    """
    asked = {"wait": False, "upgrades": True, "system_daemons": wants_daemons(params)}
    read = call("kubelet_switch_info", asked)
    cgroups = call("container_cpus_info", {})["cgroups"]
    answer = params["api"]
    return check_node(
        node=params["node"],
        topology=Topology.of(read["topology"]),
        kubelet=decode_kubelet(read["sources"]),
        desired=desired_settings(params),
        switched=Switched.of(read),
        boot_id=read["boot_id"],
        api=_in_api(answer["node"]) if answer.get("node") else None,
        api_error=str(answer.get("msg") or "no answer"),
        cgroups=Cgroups.of(cgroups),
        daemons=desired_daemons(params, read["system_daemons"]),
    )


def _in_api(node: Mapping[str, Any]) -> InApi:
    """:param node: as node_api_info returns it"""
    return InApi(
        running=node["configz"],
        configz_error=node["configz_error"],
        boot_id=node["boot_id"],
        containers=tuple(map(RunningContainer.from_dict, node["containers"])),
    )
