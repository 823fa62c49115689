#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_check_info
short_description: Find out whether a node is as planned, and every way in which it is not
description:
  - Plans the node as M(kubepin.tuning.kubelet_cpu_manager) does, and compares the plan with the kubelet's files, with the
    running kubelet, with its state files, and with kubepin's journal of switches.
  - Compares for each running container the exclusive CPUs that the kubelet assigned with those of its control group (version
    1 or 2).
  - Does not wait for the run of another user, and changes nothing. Needs root.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.kubelet_settings
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  node:
    description: The node's name in the API.
    type: str
    required: true
  api:
    description:
      - The node's item in RV(kubepin.tuning.node_api_info#module:nodes), read with C(configz) and C(containers), or that module's
        result if it failed.
    type: dict
    required: true
  system_slices:
    description: As O(kubepin.tuning.kubelet_cpu_manager#module:system_slices).
    type: bool
  irqbalance:
    description: As O(kubepin.tuning.kubelet_cpu_manager#module:irqbalance).
    type: bool
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.kubelet_cpu_manager
  - module: kubepin.tuning.container_cpus_info
  - module: kubepin.tuning.node_api_info
"""

EXAMPLES = r"""
- name: Read the node from the API
  kubepin.tuning.node_api_info:
    nodes: [{node: gpu-01, configz: true, containers: true}]
  delegate_to: localhost
  register: api

- name: Check the node
  kubepin.tuning.node_check_info:
    node: gpu-01
    api: "{{ api.nodes['gpu-01'] }}"
  become: true
  register: checked

- name: Fail if it is not as planned
  ansible.builtin.assert:
    that: checked.check.outcome == 'as_planned'
"""

RETURN = r"""
check:
  description: The fact C(kubepin_check) of the node, which docs/facts.md of the project describes.
  returned: success
  type: dict
  sample:
    schema: 1
    node: gpu-01
    outcome: drifted
    problems:
      - code: state_file_missing
        subject: /var/lib/kubelet/cpu_manager_state
        finding: does not exist although the policy is static
        remedy: Drain the node and restart the kubelet.
        waivable: false
        text: /var/lib/kubelet/cpu_manager_state does not exist although the policy is static. Drain the node and restart the kubelet.
    unchecked: []
    policy: static
    reserved: "0,128"
    pinned: 4
"""

from ansible_collections.kubepin.tuning.plugins.modules.kubelet_cpu_manager import ARGUMENT_SPEC as _SWITCH

ARGUMENT_SPEC = {
    "node": {"type": "str", "required": True},
    "api": {"type": "dict", "required": True},
    **{
        name: _SWITCH[name]
        for name in (
            "policy",
            "policy_options",
            "reserved_cpus",
            "reserved_cpu_count",
            "topology_manager_policy",
            "topology_manager_scope",
            "memory_manager_policy",
            "profile",
            "reserved_memory",
            "system_slices",
            "irqbalance",
        )
    },
}
