#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_cpus_info
short_description: Read on which CPUs the containers of a node may run
description:
  - Returns the CPUs of each container's control group (cgroup version 1 or 2), with which
    M(kubepin.tuning.node_check_info) finds out whether pods have the exclusive CPUs that the kubelet assigned to them.
  - Changes nothing, and runs no program.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.node_check_info
"""

EXAMPLES = r"""
- name: Read the CPUs of the node's containers
  kubepin.tuning.container_cpus_info:
  become: true
  register: node
"""

RETURN = r"""
cgroups:
  description: What the control groups say.
  returned: success
  type: dict
  contains:
    version:
      description: The version of the hierarchy with the CPU sets, V(1) or V(2); null if there is none.
      type: int
      sample: 2
    containers:
      description: Each container of a pod, and each pod's sandbox.
      type: list
      elements: dict
      sample: [{"id": "0f2a...", "pod": "3a1c2b7e-6f0e-4d0c-8a8e-0f5f0a1b2c3d", "cpus": "2-3"}]
    error:
      description: Why they cannot be read, or null.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.cpu_cgroups import read_cpu_cgroups


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, cgroups=read_cpu_cgroups())


if __name__ == "__main__":
    main()
