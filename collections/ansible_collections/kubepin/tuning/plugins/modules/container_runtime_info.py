#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_runtime_info
short_description: Read how a node's container runtime starts GPU containers
version_added: 0.1.0
author:
  - The kubepin developers (@kubepin)
description:
  - Runs on the node. Reads what the API does not tell and what decides whether GPU containers keep their devices.
  - GPU pods run under the container runtime's default handler, or under one that is C(nvidia-container-runtime) through a RuntimeClass.
    A fact in which these differ is unknown.
  - What is not certain is null, with the reason in RV(container_runtime.unknown).
extends_documentation_fragment:
  - kubepin.tuning.attributes
options:
  gpu_device_paths:
    description: Patterns of the device files whose links in C(/dev/char) are looked for. What is no character device does not count.
    type: list
    elements: str
    default: ["/dev/nvidia*"]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.gpu_pod_info
"""

EXAMPLES = r"""
- name: Read the node's stack
  kubepin.tuning.container_runtime_info:
  become: true
  register: stack

- name: Show what is not certain
  ansible.builtin.debug:
    msg: "{{ stack.container_runtime.unknown }}"
"""

RETURN = r"""
container_runtime:
  description:
    - What is known. Without C(schema), C(runtime), C(unknown) and nulls it is what M(kubepin.tuning.gpu_pod_info) takes of a node.
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    runtime:
      description: The container runtime that the kubelet uses, V(containerd), V(cri-o), V(docker) or V(unknown).
      type: str
      sample: containerd
    runc_version:
      description: Version of the runc that starts GPU containers.
      type: str
      sample: 1.0.0-rc93
    device_injection:
      description:
        - V(legacy) where NVIDIA's hook adds the GPU behind runc's back, also if the device plugin passes device specifications besides.
        - V(cdi) where the runtime takes it from CDI.
        - V(device_specs) where nothing adds it but what the device plugin names.
      type: str
      sample: legacy
    cgroup_driver:
      description: How runc makes cgroups, V(systemd) or V(cgroupfs).
      type: str
      sample: systemd
    dev_char_links:
      description: Whether every GPU device has its link in C(/dev/char).
      type: bool
    threads_per_core:
      description: Hardware threads of a core.
      type: int
      sample: 2
    unknown:
      description: Each fact that is null, with the reason.
      type: list
      elements: str
      sample: ["dev_char_links: there is no device /dev/nvidia*"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import Reader
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

ARGUMENT_SPEC = {"gpu_device_paths": {"type": "list", "elements": "str", "default": ["/dev/nvidia*"]}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    try:
        runtime = read_kubelet(module.run_command)["runtime"]["name"]
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    topology = read_topology()
    threads = topology["threads_per_core"] if topology["cpus"] else None
    report = Reader(module.run_command).report(runtime, threads, module.params["gpu_device_paths"])
    module.exit_json(changed=False, container_runtime=report)


if __name__ == "__main__":
    main()
