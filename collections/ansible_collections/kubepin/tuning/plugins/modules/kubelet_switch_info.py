#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubelet_switch_info
short_description: Read what the plan of a kubelet switch needs from a node
description:
  - Returns the node's topology, the texts that configure its kubelet, and its journal of switches, from which
    M(kubepin.tuning.kubelet_cpu_manager) plans on the control node. Use that module instead.
  - Changes nothing. Needs permission to read the kubelet's files, which usually means root.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  wait:
    description: Whether to wait while another run's switch awaits its confirmation.
    type: bool
    default: true
  switch_id:
    description: The caller's own switch, for which it does not wait.
    type: str
  history:
    description: Whether to return RV(history).
    type: bool
    default: false
  upgrades:
    description: Whether to return RV(upgrades).
    type: bool
    default: false
  system_daemons:
    description: Whether to return RV(system_daemons) even if kubepin has confined nothing.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.kubelet_cpu_manager
  - module: kubepin.tuning.kubelet_switch
"""

EXAMPLES = r"""
- name: Read the node
  kubepin.tuning.kubelet_switch_info:
  become: true
  register: node
"""

RETURN = r"""
topology:
  description: The node's topology, as M(kubepin.tuning.cpu_topology_info) returns it.
  returned: success
  type: dict
sources:
  description: The kubelet's service, command line, files and state, as texts.
  returned: success
  type: dict
boot_id:
  description: The ID of this boot, which the API also shows for the node.
  returned: success
  type: str
clock:
  description: The node's clock, in seconds since 1970.
  returned: success
  type: float
boot_guard:
  description: The files of the boot guard, and their texts; null for a file that does not exist.
  returned: success
  type: dict
system_daemons:
  description:
    - What confines system daemons and interrupts, and which CPUs system slices, interrupts, kernel threads and workqueues
      use now. C(texts) has the files that kubepin may write to confine them. Interrupts and kernel threads are grouped by
      their CPUs, with some of their names. Kernel threads that are bound to their CPUs are omitted.
    - Null unless O(system_daemons=true), or kubepin has confined any of them.
  returned: success
  type: dict
  sample:
    cgroup_version: 2
    has_cpusets: true
    units: {system.slice: {allowed: 0-1, effective: 0-1}}
    affinities: {}
    irqbalance: {active: true, environment_files: [/etc/default/irqbalance], version: [1, 9]}
    irqs: [{allowed: 0-7, effective: "3", count: 1, names: [24 nvme0q3]}]
    kernel_threads: [{cpus: 0-7, count: 31, names: [kthreadd, kswapd0]}]
    workqueues: 0-7
unfinished:
  description: The ID of an interrupted switch, or null.
  returned: success
  type: str
committed:
  description: The last committed switch with its file changes and what these files hold now, or null.
  returned: success
  type: dict
history:
  description: All committed switches with the texts of their files, the backups of upgrades, and what a removal would
    remove, with its content.
  returned: O(history=true)
  type: dict
upgrades:
  description: The upgrades of which backups are on the node, the oldest first, with what each wrote to the kubelet's files.
  returned: O(upgrades=true)
  type: list
  elements: dict
rollback:
  description: What a rollback would restore, and the journal that it would read.
  returned: success
  type: dict
  sample: {id: 20261123T172004.120Z, journal: /var/lib/kubepin/switches/20261123T172004.120Z.json, restores: [/etc/default/kubelet]}
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import GUARD_FILES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.problems import file_unreadable
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    IRQBALANCE_FILES,
    is_ours,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_sources
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_daemons import read_system_daemons
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.facts import history_facts, journal_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import wait_for_held_switch
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.record import upgrade_facts

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "wait": {"type": "bool", "default": True},
    "switch_id": {"type": "str"},
    "history": {"type": "bool", "default": False},
    "upgrades": {"type": "bool", "default": False},
    "system_daemons": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    run = runner(module.run_command)
    node = Node(run)
    journal = Journal(node)
    try:
        if module.params["wait"]:
            wait_for_held_switch(node, journal, module.params["switch_id"])
        daemon_files = {path: node.read(path) for path in (*DROP_INS.values(), *IRQBALANCE_FILES)}
        reads_daemons = module.params["system_daemons"] or any(map(is_ours, daemon_files.values()))
        facts = {
            "topology": read_topology(),
            "sources": read_sources(run),
            "boot_id": node.boot_id(),
            "clock": node.time(),
            "boot_guard": {path: node.read(path) for path in GUARD_FILES},
            "system_daemons": {**read_system_daemons(run), "texts": daemon_files} if reads_daemons else None,
            **journal_facts(journal, node),
        }
        if module.params["history"]:
            facts["history"] = {**history_facts(journal, node), "upgrades": upgrade_facts(node)}
        if module.params["upgrades"]:
            facts["upgrades"] = upgrade_facts(node)
    except OSError as exc:
        problem = file_unreadable(str(exc.filename), str(exc.strerror))
        module.fail_json(msg=problem.text, problems=to_dicts([problem]))
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
