#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_runtime_info
short_description: Read how a node's container runtime starts GPU containers
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
description:
  - Runs on the node. Reads facts that the API does not provide and that determine whether GPU containers keep their
    devices.
  - A pod runs under the container runtime's default handler, or under that of its RuntimeClass.
    RV(container_runtime.handlers) has the facts of each. The same facts without a handler are those on which the default
    handler and those of C(nvidia-container-runtime) agree. A fact on which these differ is unknown.
  - The node sends texts, which an action plugin decodes on the control node. Credentials of registries stay on the
    node.
  - Unknown facts are null, most with the reason in RV(container_runtime.unknown).
extends_documentation_fragment:
  - kubepin.tuning.attributes
options:
  runtime:
    description: The container runtime. By default, the one that the kubelet uses.
    type: str
    choices: [containerd, cri-o, docker, unknown]
  gpu_device_paths:
    description: Patterns of the device files whose links in C(/dev/char) are checked. Only character devices count.
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
- name: Read the node's container runtime
  kubepin.tuning.container_runtime_info:
  become: true
  register: stack

- name: Show what is unknown
  ansible.builtin.debug:
    msg: "{{ stack.container_runtime.unknown }}"
"""

RETURN = r"""
container_runtime:
  description:
    - The known facts. Without C(schema), C(runtime), C(unknown) and nulls, M(kubepin.tuning.gpu_pod_info) accepts them
      for a node.
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
        - V(legacy) if NVIDIA's hook adds the GPU without runc knowing it, even if the device plugin also passes device
          specifications.
        - V(cdi) if the runtime adds it through CDI.
        - V(device_specs) if only the device plugin's device specifications add it.
      type: str
      sample: legacy
    cgroup_driver:
      description: How runc manages cgroups, V(systemd) or V(cgroupfs).
      type: str
      sample: systemd
    dev_char_links:
      description: Whether every GPU device has its link in C(/dev/char).
      type: bool
    threads_per_core:
      description: Hardware threads per core as the kubelet counts them, the average of all cores, rounded down.
      type: int
      sample: 2
    default_handler:
      description: The handler of pods without a RuntimeClass.
      type: str
      sample: runc
    handlers:
      description:
        - Handler to its C(runc_version), C(device_injection) and C(cgroup_driver).
        - What is not known of a handler is null, such as everything of one that starts virtual machines.
      type: dict
      sample: {nvidia: {runc_version: 1.1.5, device_injection: cdi, cgroup_driver: systemd}}
    unknown:
      description: Each fact that is null, with the reason. Those of RV(container_runtime.handlers) are not listed.
      type: list
      elements: str
      sample: ["dev_char_links: there is no device /dev/nvidia*"]
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpus.cores import threads_as_counted
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    Machine,
    read_runtime,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

ARGUMENT_SPEC = {
    "runtime": {"type": "str", "choices": ["containerd", "cri-o", "docker", "unknown"]},
    "gpu_device_paths": {"type": "list", "elements": "str", "default": ["/dev/nvidia*"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    machine = Machine(runner(module.run_command))
    try:
        sources = read_runtime(machine, module.params["runtime"], module.params["gpu_device_paths"])
        topology = read_topology()
        sources["threads_per_core"] = threads_as_counted(len(parse_cpuset(topology["online"])), len(topology["cores"]))
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, sources=sources)


if __name__ == "__main__":
    main()
