#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: gpu_containers_info
short_description: Read what a diagnosis of lost GPUs needs from a node
description:
  - Returns the running containers, with the device nodes, the device rules, the parts of the specification and the
    messages of systemd that matter for those that see a GPU, from which M(kubepin.tuning.gpu_loss_info) diagnoses on the
    control node. Use that module instead.
  - Changes nothing. Needs root.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  devices:
    description: Patterns of the GPUs' device files below C(/dev) of the containers. Only character devices count.
    type: list
    elements: str
    required: true
  service:
    description: The systemd service that runs the kubelet.
    type: str
    required: true
  endpoint:
    description: The container runtime's socket. Without it, no container is read.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.gpu_loss_info
"""

EXAMPLES = r"""
- name: Read the node's containers
  kubepin.tuning.gpu_containers_info:
    devices: ["nvidia*"]
    service: kubelet
    endpoint: unix:///run/containerd/containerd.sock
  become: true
  register: node
"""

RETURN = r"""
sources:
  description: The answer of C(crictl ps), the containers, and when they were read.
  returned: success
  type: dict
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import Machine
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.gpu_access import ContainerReader

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "devices": {"type": "list", "elements": "str", "required": True},
    "service": {"type": "str", "required": True},
    "endpoint": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    params = module.params
    machine = Machine(runner(module.run_command))
    try:
        sources = ContainerReader(machine, params["endpoint"], params["service"]).sources(params["devices"])
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, sources=sources)


if __name__ == "__main__":
    main()
