# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The settings of a kubelet that kubepin plans."""

    DOCUMENTATION = r"""
options:
  policy:
    description: The CPU manager policy.
    type: str
    choices: [none, static]
    default: static
  profile:
    description:
      - What the settings are that are not given, with O(policy=static). Each setting that is given wins over the profile.
      - V(balanced) leaves them unchanged.
      - V(numa) keeps CPUs, devices and memory of a container on as few NUMA nodes as possible, and rejects pods that
        do not fit there - O(topology_manager_policy=restricted) and O(memory_manager_policy=Static).
      - V(l3) keeps CPUs inside L3 caches - C(prefer-align-cpus-by-uncorecache), if the kubelet takes it. V(auto) then
        reserves whole L3 groups, but at most an eighth of the CPUs.
    type: str
    choices: [balanced, numa, l3]
    default: balanced
    version_added: 1.0.0
  policy_options:
    description: CPU manager policy options, name to V(true) or V(false). Unchanged if not given.
    type: dict
  reserved_cpus:
    description:
      - The CPUs reserved for the system as a list such as V(0,128), whole cores only, or V(auto).
      - V(auto) keeps the node's current reservedSystemCPUs if it is valid. Otherwise it takes whole cores from the
        NUMA node with the fewest GPUs, the lowest first, as many as GKE reserves for a node of this size, and no fewer
        than kubeReserved and systemReserved require. On a machine with isolated CPUs (C(isolcpus)), which the system does
        not use and the kubelet treats like others, it takes none of these. It prefers CPUs to which systemd's C(CPUAffinity)
        and the kernel's C(nohz_full) and C(irqaffinity) keep the system.
      - Used only with O(policy=static).
    type: str
    default: auto
  reserved_cpu_count:
    description: How many CPUs O(reserved_cpus=auto) takes; whole cores only.
    type: int
  topology_manager_policy:
    description: The topology manager policy. Unchanged if not given.
    type: str
    choices: [none, best-effort, restricted, single-numa-node]
  topology_manager_scope:
    description: The topology manager scope. Unchanged if not given.
    type: str
    choices: [container, pod]
  memory_manager_policy:
    description: The memory manager policy. Unchanged if not given.
    type: str
    choices: [None, Static]
  reserved_memory:
    description:
      - The memory that the memory manager reserves for the system on each NUMA node.
      - If O(memory_manager_policy=Static), or a profile asks for it, and this is not given, it is computed. The sum is what the
        kubelet demands - kubeReserved, systemReserved and the hard eviction threshold of C(memory.available) - and is
        spread over the NUMA nodes with CPUs in proportion to their memory. The kubelet's own is kept if it is valid.
    type: list
    elements: dict
    suboptions:
      numa_node:
        description: The NUMA node's number.
        type: int
        required: true
      limits:
        description: Kind of memory to quantity, such as V(memory) to V(1Gi).
        type: dict
        required: true
"""
