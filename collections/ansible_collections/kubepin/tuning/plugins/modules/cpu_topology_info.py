#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cpu_topology_info
short_description: Read a machine's CPUs, caches, NUMA nodes, clock, GPUs and network cards
description:
  - Reads what the Linux kernel reports in C(/sys) and C(/proc) and changes nothing.
  - A value that the machine does not report is null, empty or V(unknown), and not an error. Virtual machines and
    containers often lack cache, NUMA or clock information.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  root:
    description:
      - The folder that holds C(sys) and C(proc), or a tar archive, compressed or not, with such a folder at any depth.
      - Set it to read a copy of another machine's files.
    type: path
    default: /
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.kubelet_info
  - name: How the kernel shows the CPU topology
    description: The files that are read.
    link: https://docs.kernel.org/admin-guide/cputopology.html
"""

EXAMPLES = r"""
- name: Read the topology of the nodes
  kubepin.tuning.cpu_topology_info:
  register: machine

- name: Show which CPUs are near each GPU
  ansible.builtin.debug:
    msg: "{{ item.address }}: NUMA node {{ item.numa_node }}, CPUs {{ item.local_cpus }}"
  loop: "{{ machine.topology.gpus }}"
  loop_control:
    label: "{{ item.address }}"

- name: Refuse a host whose clock cannot be trusted for a measurement
  ansible.builtin.assert:
    that: machine.topology.governor in ["performance", "unknown"]

- name: Read the topology from a copy of another machine's files
  kubepin.tuning.cpu_topology_info:
    root: /srv/dumps/gpu-01.tar.gz
"""

RETURN = r"""
topology:
  description:
    - The machine. Sets of CPUs are texts in the kernel's list format, such as V(0-3,8), and empty for none.
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    cpus:
      description: Each logical CPU, offline ones included, in the order of their numbers.
      type: list
      elements: dict
      contains:
        id:
          description: The CPU's number.
          type: int
        online:
          description: Whether the kernel uses it.
          type: bool
        socket:
          description: Number of the physical package, or null.
          type: int
        die:
          description: Number of the die in its socket, or null.
          type: int
        core:
          description: The kernel's number of the core, or null. It is unique within a die or socket only.
          type: int
        numa_node:
          description: Number of the NUMA node, or null.
          type: int
        l3:
          description: Number of the L3 cache, unique on the machine, or null.
          type: int
        siblings:
          description: The CPUs of the same physical core, this one included; empty where unknown.
          type: str
          sample: 0,128
    online:
      description: The CPUs that are online.
      type: str
      sample: 0-255
    offline:
      description: The CPUs that are present but offline.
      type: str
      sample: ""
    isolated:
      description: The CPUs taken from the scheduler by the kernel's parameter C(isolcpus).
      type: str
      sample: ""
    housekeeping:
      description:
        - The online CPUs that a setting leaves to the system's own work, for each of the kernel's C(nohz_full) and
          C(irqaffinity) and systemd's C(CPUAffinity) that leaves it fewer than all.
      type: dict
      sample: {"CPUAffinity": "0-3,64-67"}
    sockets:
      description: The sockets with their online CPUs.
      type: list
      elements: dict
      sample: [{"id": 0, "cpus": "0-63,128-191"}]
      contains:
        id:
          description: Its number.
          type: int
        cpus:
          description: Its online CPUs.
          type: str
    numa_nodes:
      description: The NUMA nodes with their online CPUs; a node of memory alone has none.
      type: list
      elements: dict
      contains:
        id:
          description: Its number.
          type: int
        cpus:
          description: Its online CPUs.
          type: str
        memory:
          description: V(memory) and V(hugepages-SIZE), as Kubernetes names them, to bytes; empty if the kernel does
            not report it.
          type: dict
    l3_groups:
      description: The L3 caches with the online CPUs that share each.
      type: list
      elements: dict
      contains:
        id:
          description: Its number.
          type: int
        cpus:
          description: Its online CPUs.
          type: str
    cores:
      description: The physical cores with an online CPU, in the order of their lowest CPU.
      type: list
      elements: dict
      sample: [{"socket": 0, "core": 0, "numa_node": 0, "l3": 0, "cpus": "0,128"}]
      contains:
        socket:
          description: Number of the physical package, or null.
          type: int
        core:
          description: The kernel's number of the core, or null.
          type: int
        numa_node:
          description: Number of the NUMA node, or null.
          type: int
        l3:
          description: Number of the L3 cache, or null.
          type: int
        cpus:
          description: Its online CPUs.
          type: str
    threads_per_core:
      description: The most online CPUs that a core has.
      type: int
      sample: 2
    smt_control:
      description: State of simultaneous multithreading, in the kernel's words, or V(unknown).
      type: str
      sample: "on"
    clock:
      description: Frequencies in MHz; null where unknown.
      type: dict
      contains:
        current_mhz:
          description: Mean over the online CPUs, now.
          type: float
          sample: 3390.5
        base_mhz:
          description: The nominal frequency.
          type: float
          sample: 2200.0
        max_mhz:
          description: The highest frequency that the frequency driver names. Some drivers leave boost out.
          type: float
          sample: 3500.0
    governor:
      description: The frequency governor; several, separated by commas, if the CPUs differ; or V(unknown).
      type: str
      sample: performance
    boost:
      description: Whether the clock may rise above the base frequency, V(on), V(off) or V(unknown).
      type: str
      sample: "on"
    gpus:
      description: NVIDIA's display controllers on the PCI bus.
      type: list
      elements: dict
      contains:
        address:
          description: PCI address.
          type: str
          sample: 0000:21:00.0
        vendor:
          description: PCI vendor, in hexadecimal digits.
          type: str
          sample: 10de
        device:
          description: PCI device number, in hexadecimal digits.
          type: str
          sample: "2204"
        numa_node:
          description: The NUMA node that it is attached to, or null.
          type: int
        local_cpus:
          description: The CPUs near to it.
          type: str
    nics:
      description: The network controllers on the PCI bus.
      type: list
      elements: dict
      contains:
        address:
          description: PCI address.
          type: str
        driver:
          description: The kernel's driver, or null.
          type: str
          sample: mlx5_core
        interfaces:
          description: Names of its network interfaces.
          type: list
          elements: str
        numa_node:
          description: The NUMA node that it is attached to, or null.
          type: int
        local_cpus:
          description: The CPUs near to it.
          type: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

ARGUMENT_SPEC = {"root": {"type": "path", "default": "/"}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        topology = read_topology(module.params["root"])
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, topology=topology)


if __name__ == "__main__":
    main()
