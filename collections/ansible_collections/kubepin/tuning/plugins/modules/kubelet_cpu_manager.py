#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubelet_cpu_manager
short_description: Switch the kubelet's CPU manager policy as one transaction, or undo a switch
description:
  - Plans the kubelet's CPU, topology and memory manager settings for this node and applies the plan on the node itself.
    It writes a journal, stops the kubelet, removes the state files that the kubelet would refuse, writes the settings,
    starts the kubelet and verifies it. A lost connection or a stopped control node cannot leave the switch half done.
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
version_added: 0.1.0
author:
  - The kubepin developers (@kubepin)
options:
  state:
    description:
      - V(present) makes the kubelet run with the given settings.
      - V(rolled_back) undoes the last switch that this module committed; the other options are ignored.
      - V(repaired) only undoes an interrupted switch, which V(present) and V(rolled_back) do first.
      - V(confirmed) verifies a switch again and commits it if it was held. A held switch that no longer verifies is
        undone.
    type: str
    choices: [present, rolled_back, repaired, confirmed]
    default: present
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
    description: RV(switch_id) of the caller's own switch, to confirm it, or to undo it with O(state=repaired) without
      waiting.
    type: str
  pod:
    description:
      - The CPUs on which a pod with exclusive CPUs was seen to run. With O(state=confirmed), the kubelet's state file
        must agree.
    type: dict
    suboptions:
      uid:
        description: The pod's UID.
        type: str
        required: true
      container:
        description: The container's name.
        type: str
        required: true
      cpus:
        description: Its CPUs as a list such as V(1,129).
        type: str
        required: true
  policy:
    description: The CPU manager policy.
    type: str
    choices: [none, static]
    default: static
  policy_options:
    description: CPU manager policy options, name to V(true) or V(false). Unchanged if not given.
    type: dict
  reserved_cpus:
    description:
      - The CPUs reserved for the system as a list such as V(0,128), whole cores only, or V(auto).
      - V(auto) keeps the node's current reservedSystemCPUs if it is valid. Otherwise it takes whole cores from the
        NUMA node with the fewest GPUs, the lowest first, as many as GKE reserves for a node of this size, and no fewer
        than kubeReserved and systemReserved require.
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
    description: The memory that the memory manager reserves for the system on each NUMA node.
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
policy:
  description: The CPU manager policy that the kubelet has, or would have in check mode.
  returned: success
  type: str
policy_before:
  description: The CPU manager policy that the kubelet had.
  returned: always
  type: str
reconcile_period:
  description: The kubelet's C(cpuManagerReconcilePeriod), as its configuration spells it.
  returned: always
  type: str
  sample: 10s
threads_per_core:
  description: Hardware threads per core of this node; with C(full-pcpus-only), pods must request a multiple of it.
  returned: always
  type: int
boot_id:
  description: The ID of this boot, which the API also shows for the node.
  returned: always
  type: str
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
rollback:
  description: What O(state=rolled_back) would restore, and the journal that it would read.
  returned: always
  type: dict
  sample: {id: 20261123T172004.120Z, journal: /var/lib/kubepin/switches/20261123T172004.120Z.json, restores: [/etc/default/kubelet]}
repaired:
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

import dataclasses
import os
import signal
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import DesiredState, FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.desired import DesiredSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.plan import (
    Plan,
    desired_state,
    plan_rollback,
    plan_switch,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import HOME, Node, NodeLock

# A node compiles all imports anew at each run, and a plan does not need the code that applies it: import that only
# where used.
if t.TYPE_CHECKING:
    from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import Switch

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "rolled_back", "repaired", "confirmed"], "default": "present"},
    "hold": {"type": "int"},
    "switch_id": {"type": "str"},
    "pod": {
        "type": "dict",
        "options": {name: {"type": "str", "required": True} for name in ("uid", "container", "cpus")},
    },
    "policy": {"type": "str", "choices": ["none", "static"], "default": "static"},
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
    "timeout": {"type": "int", "default": 120},
}


def action_of(change: FileChange) -> str:
    """What happens to the file, as one word."""
    if change.after is None:
        return "removed"
    return "created" if change.before is None else "replaced"


def diff_of(changes: t.Sequence[FileChange]) -> t.List[t.Dict[str, str]]:
    """The changes as `--diff` prints them."""
    return [
        {
            "before_header": change.path,
            "after_header": change.path if change.after is not None else f"{change.path} (removed: {change.reason})",
            "before": change.before or "",
            "after": change.after or "",
        }
        for change in changes
    ]


def desired_settings(params: t.Mapping[str, t.Any]) -> DesiredSettings:
    return DesiredSettings(**{field.name: params[field.name] for field in dataclasses.fields(DesiredSettings)})


class ModuleRun:
    """One run of the module: reads, plans, and has `Switch` apply the plan."""

    def __init__(self, module: AnsibleModule, node: Node, journal: Journal) -> None:
        self.module = module
        self.node = node
        self.journal = journal
        self.result: t.Dict[str, t.Any] = {"settings": [], "changes": [], "notes": []}
        self._read()

    def _read(self) -> None:
        self.topology = read_topology()
        self.kubelet = read_kubelet(self.module.run_command)
        self.result.update(
            policy_before=self.kubelet["effective"]["cpuManagerPolicy"],
            reconcile_period=self.kubelet["effective"]["cpuManagerReconcilePeriod"],
            threads_per_core=self.topology["threads_per_core"],
            boot_id=(self.node.read("/proc/sys/kernel/random/boot_id") or "").strip(),
        )

    def run(self) -> t.Dict[str, t.Any]:
        """Do what the parameters ask and return the module's result.

        :raises TuningError: with every problem, or after an undone switch
        """
        if self.module.params["state"] == "confirmed":
            return self._confirm()
        repaired = self._repair()
        if self.module.params["state"] == "repaired" or (repaired and self.module.check_mode):
            return self._result(changed=repaired)
        undoes: t.Optional[str] = None
        if self.module.params["state"] == "rolled_back":
            record = self.journal.committed()
            if record is None:
                return self._result(changed=repaired)
            undoes = record.id
            # a broken kubelet may not report its version
            self.kubelet["version"] = self.kubelet["version"] or record.kubelet_version
            current = {change.path: self.node.read(change.path) for change in record.files}
            plan = plan_rollback(self.topology, self.kubelet, record.files, current)
        else:
            plan = plan_switch(self.topology, self.kubelet, desired_settings(self.module.params))
        self._record_plan(plan)
        if plan.problems:
            raise TuningError.of(plan.problems)
        if plan.changed and not self.module.check_mode:
            self._apply(plan, undoes)
        return self._result(changed=plan.changed or repaired)

    def _switch(self) -> Switch:
        from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import Switch, endpoint_of

        return Switch(self.node, self.journal, endpoint_of(self.kubelet), float(self.module.params["timeout"]))

    def _expected_now(self) -> DesiredState:
        return desired_state(self.topology, self.kubelet["effective"], self.kubelet["version"])

    def _confirm(self) -> t.Dict[str, t.Any]:
        from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import PodCpus

        pod = PodCpus(**self.module.params["pod"]) if self.module.params["pod"] else None
        if self.module.check_mode:
            return self._result(changed=False)
        if self.module.params["switch_id"] is None:
            self.result["verified"] = self._switch().verification().confirm(self._expected_now(), pod)
        else:
            self.result["verified"] = self._switch().confirm(self.journal.of(self.module.params["switch_id"]), pod)
        return self._result(changed=False)

    def _repair(self) -> bool:
        record = self.journal.unfinished()
        if record is None:
            return False
        self.result["repaired"] = record.id
        edited = [
            change.path for change in record.files if self.node.read(change.path) not in (change.before, change.after)
        ]
        if edited:
            raise TuningError(
                f"the interrupted switch {record.id} cannot be undone: {', '.join(edited)} was edited since. Make the kubelet's "
                f"configuration right by hand, then move {self.journal.path(record)} away."
            )
        undo = [change.inverse(f"switch {record.id} was interrupted") for change in reversed(record.files)]
        self.result["changes"] = self._as_changes(undo)
        self.result["diff"] = diff_of(undo)
        if self.module.check_mode:
            self.result["notes"] = [
                f"the interrupted switch {record.id} would be undone first; what follows is planned after that"
            ]
            return True
        record.before = dataclasses.replace(record.before, online=parse_cpuset(self.topology["online"]))
        self.result["started_at"] = self._switch().undo(record).started_at
        self._read()
        return True

    def _apply(self, plan: Plan, undoes: t.Optional[str]) -> None:
        hold = self.module.params["hold"] if self.module.params["state"] == "present" else None
        record, outcome = self._switch().apply(plan, self._expected_now(), self.kubelet["version"], undoes, hold)
        self.result["changes"] = self._as_changes([*record.state_files, *record.files])
        self.result.update(
            downtime_ms=round(outcome.downtime_ms, 1),
            verified=outcome.verified,
            main_pid=outcome.main_pid,
            started_at=outcome.started_at,
            switch_id=record.id,
        )

    @staticmethod
    def _as_changes(changes: t.Sequence[FileChange]) -> t.List[t.Dict[str, str]]:
        return [{"path": change.path, "action": action_of(change), "reason": change.reason} for change in changes]

    def _record_plan(self, plan: Plan) -> None:
        changes = [*plan.state_files, *plan.files]
        self.result["settings"] = [dataclasses.asdict(setting) for setting in plan.settings]
        self.result["changes"] = self.result["changes"] + self._as_changes(changes)
        self.result["notes"] = plan.notes
        self.result["diff"] = self.result.get("diff", []) + diff_of(changes)
        if plan.reservation:
            self.result["reservation"] = {
                "cpus": format_cpuset(plan.reservation.cpus),
                "explanation": plan.reservation.explanation,
            }
        if plan.expected:
            exclusive = len(plan.expected.online - plan.expected.reserved) if plan.expected.policy == "static" else 0
            self.result.update(policy=plan.expected.policy, exclusive_cpus=exclusive)

    def _result(self, changed: bool) -> t.Dict[str, t.Any]:
        record = self.journal.committed()
        rollback = (
            {
                "id": record.id,
                "journal": self.journal.path(record),
                "restores": [change.path for change in record.files],
            }
            if record
            else {}
        )
        self.result.setdefault("policy", self.kubelet["effective"]["cpuManagerPolicy"])
        return {**self.result, "changed": changed, "rollback": rollback}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # a lost connection must not interrupt a transaction
    node = Node(lambda argv: t.cast("t.Tuple[int, str, str]", module.run_command(argv)))
    journal = Journal(node, os.path.join(HOME, "switches"))
    module_run: t.Optional[ModuleRun] = None
    try:
        if not module.check_mode:
            from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import (
                wait_for_held_switch,
            )

            wait_for_held_switch(node, journal, module.params["switch_id"])
        with NodeLock(module.check_mode):
            module_run = ModuleRun(module, node, journal)
            result = module_run.run()
    except TuningError as exc:
        module.fail_json(msg=str(exc), **{**(module_run.result if module_run else {}), **exc.details})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
