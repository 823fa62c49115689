#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubelet_cpu_manager
short_description: Switch the kubelet's CPU manager policy as one transaction, or undo a switch
description:
  - Plans the kubelet's CPU, topology and memory manager settings for this node, on the control node, from what it reads
    there, and has the node apply the plan by itself. The node writes a journal, stops the kubelet, removes the state
    files that the kubelet would refuse, writes the settings, starts the kubelet and verifies it. A lost connection or a
    stopped control node cannot leave the switch half done.
  - The node refuses a plan whose files were changed since it was made.
  - If verification fails, the switch is undone and the old settings are verified. The module then fails with the first
    cause.
  - The steps are ordered so that a crash after any of them leaves a kubelet that boots. A run that finds an unfinished
    journal undoes that switch first.
  - If the module is killed while the kubelet is stopped, a transient systemd unit starts the kubelet again.
  - The settings are written where C(kubeadm upgrade node) does not overwrite them, as flags in the file that sets
    C(KUBELET_EXTRA_ARGS) before Kubernetes 1.30, and in a drop-in file since 1.30.
  - Drain the node first. The module does not look at pods, and never runs C(systemctl daemon-reload).
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.confirmation
  - kubepin.tuning.kubelet_settings
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  state:
    description:
      - V(present) makes the kubelet run with the given settings.
      - V(rolled_back) undoes the last switch that this module committed; the other options are ignored.
      - V(absent) goes back to what there was before the first switch. With O(archive), it also removes what this module
        keeps on the node. It fails, and changes nothing, if records are missing, or if someone edited a file since.
      - V(recovered) only undoes an interrupted switch, which V(present), V(rolled_back) and V(absent) do
        first.
      - V(confirmed) verifies a switch again and commits it if it was held. A held switch that no longer verifies, or
        whose files someone else changed meanwhile, is undone.
    type: str
    choices: [present, rolled_back, absent, recovered, confirmed]
    default: present
  archive:
    description:
      - With O(state=absent), the folder on the control node to which the journal of the node is written before it is
        removed there. It holds the texts of all files that were ever replaced, so only its owner can read it.
      - Without it, the settings go back, and the journal stays.
    type: path
  hold:
    description:
      - How many seconds to leave the switch open once the kubelet is up with its new settings. The caller can check
        the node from outside during the time in which a crash loop of the kubelet would show. Commit the switch with
        O(state=confirmed).
      - A switch that is not confirmed in time counts as interrupted, and the next run undoes it. Until then, other
        runs wait.
      - By default, the module itself waits and commits. Used only with O(state=present).
    type: int
  switch_id:
    description: RV(switch_id) of the caller's own switch, to confirm it, or to undo it with O(state=recovered) without
      waiting.
    type: str
  boot_guard:
    description:
      - Whether a systemd unit, which runs before the kubelet at each boot, moves state files aside that the kubelet would refuse
        because the machine has other CPUs or other memory than before. It moves them to C(/var/lib/kubepin/boot-guard).
      - If it is not given, the guard stays as it is.
    type: bool
  system_slices:
    description:
      - Whether to confine C(system.slice), C(user.slice) and C(init.scope), and with them the kubelet and the container
        runtime, to the reserved CPUs. Pods are not in these units. Needs cgroup v2 and systemd 244.
      - It takes effect at once, and at each boot. The module does not run C(systemctl daemon-reload).
      - If it is not set, the node keeps its setting, and units that are confined follow the reserved CPUs.
    type: bool
  irqbalance:
    description:
      - Whether irqbalance (1.8 or newer) bans all CPUs that are not reserved, so that it moves no interrupts there. If it
        runs, it is restarted.
      - If it is not set, the node keeps its setting, as with O(system_slices).
    type: bool
  running_config:
    description:
      - The configuration that the kubelet runs with, as RV(kubepin.tuning.node_api_info#module:node.configz).
      - A setting that the kubelet already has in its files but does not run with is part of the switch, if it is one that
        the switch sets. Any other is the problem C(kubelet_not_restarted) if the kubelet would be restarted - the switch
        could only be undone to settings that the kubelet was never started with.
      - If it is not given, only the running process's command line is compared with that of the next start.
    type: dict
  accept_not_restarted:
    description: Whether to switch although there is the problem C(kubelet_not_restarted).
    type: bool
    default: false
  timeout:
    description: Seconds within which the kubelet must be up and show the planned settings.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Give exclusive CPUs to Guaranteed pods that request whole CPUs
  kubepin.tuning.kubelet_cpu_manager:
    policy: static

- name: Reserve a given core and allocate whole cores only
  kubepin.tuning.kubelet_cpu_manager:
    policy: static
    reserved_cpus: 0,128
    policy_options:
      full-pcpus-only: true

- name: Keep the CPUs, devices and memory of each container on one NUMA node
  kubepin.tuning.kubelet_cpu_manager:
    policy: static
    profile: numa
    topology_manager_policy: single-numa-node

- name: Switch, and leave time to check the node from outside
  kubepin.tuning.kubelet_cpu_manager:
    policy: static
    hold: 60
  register: switch

- name: Commit
  kubepin.tuning.kubelet_cpu_manager:
    state: confirmed
    switch_id: "{{ switch.switch_id }}"

- name: Roll back the last switch
  kubepin.tuning.kubelet_cpu_manager:
    state: rolled_back

- name: Go back to before the first switch, and remove what is left
  kubepin.tuning.kubelet_cpu_manager:
    state: absent
    archive: runs/journal/gpu-01
"""

RETURN = r"""
settings:
  description: The kubelet settings that change, each with its reason.
  returned: always
  type: list
  elements: dict
  sample: [{name: cpuManagerPolicy, before: none, after: static, reason: was the kubelet's default}]
changes:
  description: The files that are replaced, created or removed, in order; state files first.
  returned: always
  type: list
  elements: dict
  sample: [{path: /var/lib/kubelet/cpu_manager_state, action: removed, reason: "the kubelet would refuse it"}]
problems:
  description:
    - Everything that prevents the switch, all at once.
    - C(code) names the rule, for programs; C(text) is the whole problem, for people.
  returned: refusal
  type: list
  elements: dict
  sample:
    - code: reserved_cpus_split_core
      subject: reserved_cpus "0"
      finding: splits core 0 (CPUs 0 and 128)
      remedy: Reserve "0,128", or use `auto`.
      waivable: false
      text: reserved_cpus "0" splits core 0 (CPUs 0 and 128). Reserve "0,128", or use `auto`.
reservation:
  description: The reserved CPUs and why they were chosen.
  returned: O(policy=static) and without problems
  type: dict
  sample: {cpus: "0,128", explanation: "1 core, L3 0, NUMA 0, no GPU"}
exclusive_cpus:
  description: How many CPUs can be exclusive to containers once the settings are in effect; V(0) with the policy
    V(none).
  returned: success
  type: int
pod_scope:
  description: Whether its topology manager will align pods as a whole - the scope V(pod), and a policy other than V(none).
  returned: success
  type: bool
full_pcpus_only:
  description: Whether its static policy will refuse pods that do not fill their cores.
  returned: success
  type: bool
kubelet_after:
  description: The kubelet's version, and the fields of its configuration that decide which pods it admits, once the settings
    are in effect.
  returned: success
  type: dict
  sample: {version: 1.36.3, topologyManagerPolicy: restricted, topologyManagerScope: container}
policy:
  description: The CPU manager policy that the kubelet has, or would have in check mode.
  returned: success
  type: str
policy_before:
  description: The CPU manager policy that the kubelet had.
  returned: unless a switch was confirmed
  type: str
reconcile_period:
  description: The kubelet's C(cpuManagerReconcilePeriod), as its configuration spells it.
  returned: unless a switch was confirmed
  type: str
  sample: 10s
threads_per_core:
  description:
    - Hardware threads per core as the kubelet counts them, the average of all cores of this node, rounded down. With
      C(full-pcpus-only), pods must request a multiple of it.
  returned: unless a switch was confirmed
  type: int
boot_id:
  description: The ID of this boot, which the API also shows for the node.
  returned: unless a switch was confirmed
  type: str
clock_ahead:
  description: How many seconds the node's clock is ahead of the control node's, negative if it is behind. 0 if it can be
    the same.
  returned: unless a switch was confirmed
  type: float
running_seconds:
  description: How long the kubelet's process had been running when the node was read; null if none runs.
  returned: unless a switch was confirmed
  type: float
  sample: 86400.5
start_problem:
  description: Why the kubelet does not run or does not stay up, in the form of RV(problems); null if it runs.
  returned: unless a switch was confirmed
  type: dict
nvidia_gpus:
  description: How many NVIDIA GPUs the node has on its PCI bus.
  returned: unless a switch was confirmed
  type: int
downtime_ms:
  description: Milliseconds from the stop of the kubelet to the first answer of its health endpoint.
  returned: changed and not in check mode
  type: float
main_pid:
  description: The kubelet process that was verified; M(kubepin.tuning.kubelet_info) can check later whether it still
    runs.
  returned: changed and not in check mode
  type: int
started_at:
  description: When the kubelet was started, by the node's clock, in seconds since 1970.
  returned: the kubelet was started, even if to undo a switch
  type: float
switch_id:
  description: The switch's ID, for O(switch_id).
  returned: changed and not in check mode
  type: str
  sample: 20261123T172004.120Z
verified:
  description: What was found on the node after the start.
  returned: changed and not in check mode, or O(state=confirmed)
  type: list
  elements: str
lasting:
  description: Those of RV(verified) that O(state=confirmed) determines again, such as how long the service has been up.
  returned: changed and not in check mode
  type: list
  elements: str
rollback:
  description: What O(state=rolled_back) would restore, and the journal that it would read.
  returned: always
  type: dict
  sample: {id: 20261123T172004.120Z, journal: /var/lib/kubepin/switches/20261123T172004.120Z.json, restores: [/etc/default/kubelet]}
plan_id:
  description: A short hash of the settings that this module manages, as they are after the run. Nodes with the same
    settings have the same.
  returned: success
  type: str
  sample: 3f8a0c51d2b7
leftovers:
  description: The files of this collection that O(archive) would remove, before the run.
  returned: O(state=absent)
  type: list
  elements: str
remaining:
  description: What cannot be taken back or stays on the node, such as a newer version of Kubernetes, each as an object
    with C(code) and C(text).
  returned: O(state=absent)
  type: list
  elements: dict
recovered:
  description: The ID of an unfinished switch that was undone first, or would be in check mode.
  returned: if there was one
  type: str
notes:
  description: Information that requires no action.
  returned: always
  type: list
  elements: str
first_cause:
  description: The kubelet's own line that says why it did not run with the new settings.
  returned: failure of a switch
  type: str
meaning:
  description: The meaning of that line; empty if unknown.
  returned: failure of a switch
  type: str
undone:
  description: Whether the old settings are back and verified.
  returned: failure of a switch
  type: bool
journal:
  description: The file that holds everything that was replaced.
  returned: failure of a switch
  type: str
"""

ARGUMENT_SPEC = {
    "state": {
        "type": "str",
        "choices": ["present", "rolled_back", "absent", "recovered", "confirmed"],
        "default": "present",
    },
    "archive": {"type": "path"},
    "hold": {"type": "int"},
    "switch_id": {"type": "str"},
    "pod": {
        "type": "dict",
        "options": {name: {"type": "str", "required": True} for name in ("uid", "container", "cpus")},
    },
    "policy": {"type": "str", "choices": ["none", "static"], "default": "static"},
    "profile": {"type": "str", "choices": ["balanced", "numa", "l3"], "default": "balanced"},
    "policy_options": {"type": "dict"},
    "reserved_cpus": {"type": "str", "default": "auto"},
    "reserved_cpu_count": {"type": "int"},
    "topology_manager_policy": {"type": "str", "choices": ["none", "best-effort", "restricted", "single-numa-node"]},
    "topology_manager_scope": {"type": "str", "choices": ["container", "pod"]},
    "memory_manager_policy": {"type": "str", "choices": ["None", "Static"]},
    "reserved_memory": {
        "type": "list",
        "elements": "dict",
        "options": {"numa_node": {"type": "int", "required": True}, "limits": {"type": "dict", "required": True}},
    },
    "boot_guard": {"type": "bool"},
    "system_slices": {"type": "bool"},
    "irqbalance": {"type": "bool"},
    "running_config": {"type": "dict"},
    "accept_not_restarted": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}
