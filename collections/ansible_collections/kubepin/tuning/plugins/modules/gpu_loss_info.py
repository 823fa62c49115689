#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: gpu_loss_info
short_description: Find the running containers of a node that have lost their GPU, and the cause
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
description:
  - Runs on the node, as root. Checks every running container that sees a GPU's device node against its cgroup's device
    rules. A device is lost if the container sees it but its cgroup denies access (C(Failed to initialize NVML)
    V(Unknown Error)).
  - Checks the three known causes against the container's specification, runc, the kubelet and systemd's journal.
  - The node sends what M(kubepin.tuning.gpu_containers_info) reads, which an action plugin diagnoses on the control node.
  - Reads only. Opens no device and changes nothing; check mode does the same. Under cgroup v2, which shows no device
    rules, a process enters the container's cgroup for a moment and asks the kernel with access(2).
  - Containers are found with C(crictl).
extends_documentation_fragment:
  - kubepin.tuning.attributes
options:
  devices:
    description: Patterns of the GPUs' device files below C(/dev) of the containers. Only character devices count.
    type: list
    elements: str
    default: ["nvidia*"]
  kubelet:
    description: The node's kubelet, as M(kubepin.tuning.kubelet_info) returns it. Read if not given.
    type: dict
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.container_runtime_info
  - module: kubepin.tuning.gpu_pod_info
"""

EXAMPLES = r"""
- name: Check the node's containers
  kubepin.tuning.gpu_loss_info:
  become: true
  register: found

- name: Show those that have lost their GPU
  ansible.builtin.debug:
    msg: "{{ found.gpu_loss.containers | selectattr('state', 'eq', 'lost') }}"
"""

RETURN = r"""
gpu_loss:
  description: The result.
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    read_at:
      description: When it was read.
      type: str
      sample: "2026-11-24T15:00:00Z"
    kubelet_version:
      description: Version of the installed kubelet, or null.
      type: str
      sample: 1.21.14
    cpu_manager_policy:
      description: The policy in the CPU manager's state file, or without one, in the kubelet's settings.
      type: str
      sample: static
    runtime:
      description: The container runtime that the kubelet uses, V(containerd), V(cri-o), V(docker) or V(unknown).
      type: str
      sample: containerd
    cgroup_version:
      description: 1, 2 or null.
      type: int
      sample: 1
    containers_read:
      description: Running containers that were checked, including those without a GPU.
      type: int
      sample: 12
    containers:
      description: The containers that see a GPU's device node.
      type: list
      elements: dict
      contains:
        namespace:
          description: Namespace of the pod.
          type: str
        pod:
          description: Name of the pod.
          type: str
        container:
          description: Name of the container.
          type: str
        id:
          description: The container's ID in the runtime.
          type: str
        started:
          description: When its main process started.
          type: str
          sample: "2026-11-24T14:00:00Z"
        devices:
          description: The device nodes that it sees.
          type: list
          elements: dict
          contains:
            path:
              description: Path in the container.
              type: str
              sample: /dev/nvidia0
            major:
              description: Major number.
              type: int
              sample: 195
            minor:
              description: Minor number.
              type: int
              sample: 0
            link:
              description: Whether the host has the device's link in C(/dev/char).
              type: bool
        state:
          description: V(lost), V(kept), or V(unknown) with the reason in RV(gpu_loss.containers[].evidence).
          type: str
          sample: lost
        cause:
          description: V(container_update), V(daemon_reload), V(dev_char_links) or V(unknown); null unless the GPU is
            lost.
          type: str
          sample: container_update
        evidence:
          description: The evidence for the state and the cause, in sentences.
          type: list
          elements: str
        remedy:
          description: What to do; null unless the GPU is lost.
          type: str
    kubelet_problem:
      description: Why the kubelet does not run or does not stay up, as C(start_problem) of M(kubepin.tuning.kubelet_info).
        Null if it runs.
      type: dict
    unknown:
      description: What could not be read, with the reason.
      type: list
      elements: str
      sample: ["all containers: there is no crictl on this node"]
"""

ARGUMENT_SPEC = {
    "devices": {"type": "list", "elements": "str", "default": ["nvidia*"]},
    "kubelet": {"type": "dict"},
}
