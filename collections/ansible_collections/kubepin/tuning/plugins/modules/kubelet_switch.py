#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubelet_switch
short_description: Apply the changes of a planned kubelet switch as one transaction
description:
  - Applies, confirms or undoes a switch that M(kubepin.tuning.kubelet_cpu_manager) planned on the control node. Use
    that module instead, which calls this one.
  - Refuses changes whose files no longer hold what they held when the switch was planned.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.confirmation
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  state:
    description:
      - V(applied) applies O(changes), or undoes them if the kubelet does not verify.
      - V(confirmed) verifies the switch O(switch_id) again and commits it if it was held, or undoes it if it no
        longer verifies or someone else changed its files meanwhile; without O(switch_id), it verifies that the kubelet
        runs as O(expected).
      - V(undone) undoes an interrupted switch.
      - V(removed) removes what kubepin keeps on the node, if O(archived) has all of it.
    type: str
    choices: [applied, confirmed, undone, removed]
    required: true
  changes:
    description: The file changes, and the states before and after. Required with O(state=applied).
    type: json
  expected:
    description: The state that the kubelet must show. Used only with O(state=confirmed) without O(switch_id).
    type: dict
  endpoint:
    description: Where the kubelet serves its health and keeps its state files. Required unless O(changes) or
      O(switch_id) is given.
    type: dict
  online:
    description: The CPUs that are online. Required with O(state=undone).
    type: str
  archived:
    description: Path to SHA-256 of each file whose content is safe on the control node. Required with O(state=removed).
    type: dict
  folders:
    description: Folders that are removed with O(state=removed) if they are empty.
    type: list
    elements: str
    default: []
  hold:
    description: As O(kubepin.tuning.kubelet_cpu_manager#module:hold).
    type: int
  switch_id:
    description: As O(kubepin.tuning.kubelet_cpu_manager#module:switch_id).
    type: str
  timeout:
    description: Seconds within which the kubelet must be up and show the planned settings.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: M(kubepin.tuning.kubelet_cpu_manager) shows the difference.
seealso:
  - module: kubepin.tuning.kubelet_cpu_manager
  - module: kubepin.tuning.kubelet_switch_info
"""

EXAMPLES = r"""
- name: Commit a held switch
  kubepin.tuning.kubelet_switch:
    state: confirmed
    switch_id: 20261123T172004.120Z
  become: true
"""

RETURN = r"""
switch_id:
  description: The ID of the switch.
  returned: changed and not in check mode
  type: str
files:
  description: The file changes, state files first, each with its path, its text before and after, and the reason.
  returned: O(state=applied) and O(state=undone)
  type: list
  elements: dict
policy:
  description: The CPU manager policy that was verified.
  returned: O(state=confirmed)
  type: str
rollback:
  description: What a rollback would restore, and the journal that it would read.
  returned: success
  type: dict
verified:
  description: What was found on the node.
  returned: not in check mode
  type: list
  elements: str
lasting:
  description: Those of RV(verified) that O(state=confirmed) determines again, such as how long the service has been up.
  returned: O(state=applied) and not in check mode
  type: list
  elements: str
downtime_ms:
  description: Milliseconds from the stop of the kubelet to the first answer of its health endpoint.
  returned: O(state=applied) and not in check mode
  type: float
main_pid:
  description: The kubelet process that was verified.
  returned: O(state=applied) and not in check mode
  type: int
started_at:
  description: When the kubelet was started, by the node's clock, in seconds since 1970.
  returned: the kubelet was started, even if to undo a switch
  type: float
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
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import contextlib
import json
import signal
import typing as t
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import Run, runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.facts import rollback_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.removal import Removal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import Switch, sole_use
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.verification import PodCpus

Result = t.Dict[str, t.Any]

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["applied", "confirmed", "undone", "removed"], "required": True},
    # no_log keeps texts of files, which may hold credentials, from the node's system log
    "changes": {"type": "json", "no_log": True},
    "expected": {"type": "dict"},
    "endpoint": {"type": "dict"},
    "online": {"type": "str"},
    "archived": {"type": "dict"},
    "folders": {"type": "list", "elements": "str", "default": []},
    "hold": {"type": "int"},
    "switch_id": {"type": "str"},
    "pod": {
        "type": "dict",
        "options": {name: {"type": "str", "required": True} for name in ("uid", "container", "cpus")},
    },
    "timeout": {"type": "int", "default": 120},
}


class Transaction:
    """What the parameters ask for, on this node."""

    def __init__(self, run: Run, journal: Journal, params: t.Mapping[str, t.Any], check_mode: bool) -> None:
        self._run = run
        self._journal = journal
        self._params = params
        self._check_mode = check_mode

    def run(self) -> Result:
        """Do it, and return the module's result.

        :raises TuningError: if nothing may be changed, or after an undone switch
        """
        steps = {"applied": self._apply, "confirmed": self._confirm, "undone": self._undo, "removed": self._remove}
        result = steps[self._params["state"]]()
        return {**result, "rollback": rollback_facts(self._journal, self._journal.committed())}

    def _node(self, endpoint: Endpoint) -> Node:
        return Node(self._run, endpoint.service, endpoint.log_file)

    def _switch(self, endpoint: Endpoint) -> Switch:
        return Switch(self._node(endpoint), self._journal, endpoint, float(self._params["timeout"]))

    def _apply(self) -> Result:
        changes = Changes.from_dict(json.loads(self._params["changes"]))
        switch = self._switch(changes.endpoint)
        if self._check_mode:
            switch.check(changes)
            return {"changed": True}
        record, outcome = switch.apply(changes, self._params["hold"])
        return {
            "changed": True,
            "switch_id": record.id,
            "files": [asdict(change) for change in (*record.state_files, *record.files)],
            "downtime_ms": round(outcome.downtime_ms, 1),
            "verified": outcome.verified,
            "lasting": outcome.lasting,
            "main_pid": outcome.main_pid,
            "started_at": outcome.started_at,
        }

    def _confirm(self) -> Result:
        pod = PodCpus(**self._params["pod"]) if self._params["pod"] else None
        if self._params["switch_id"] is None:
            expected = DesiredState.from_dict(self._params["expected"])
            switch = self._switch(Endpoint(**self._params["endpoint"]))
            verified = [] if self._check_mode else switch.verification().confirm(expected, pod)
            return {"changed": False, "policy": expected.policy, "verified": verified}
        record = self._journal.of(self._params["switch_id"])
        verified = [] if self._check_mode else self._switch(record.endpoint).confirm(record, pod)
        return {"changed": False, "policy": record.after.policy, "verified": verified}

    def _undo(self) -> Result:
        record = self._journal.unfinished()
        if record is None:
            return {"changed": False, "files": []}
        switch = self._switch(Endpoint(**self._params["endpoint"]))
        files = switch.undo_changes(record)
        result: Result = {"changed": True, "switch_id": record.id, "files": [asdict(change) for change in files]}
        if not self._check_mode:
            result["started_at"] = switch.undo(record, parse_cpuset(self._params["online"])).started_at
        return result

    def _remove(self) -> Result:
        if not self._check_mode:
            try:
                node = self._node(Endpoint(**self._params["endpoint"]))
                Removal(node, self._journal).run(self._params["archived"], self._params["folders"])
            except OSError as exc:
                raise TuningError(problems.not_removed(str(exc.filename), str(exc.strerror))) from exc
        return {"changed": True}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[
            ("state", "applied", ["changes"]),
            ("state", "undone", ["endpoint", "online"]),
            ("state", "removed", ["archived", "endpoint"]),
        ],
    )
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # a lost connection must not interrupt a transaction
    run = runner(module.run_command)
    node = Node(run)
    journal = Journal(node)
    try:
        own = module.params["switch_id"]
        with contextlib.nullcontext() if module.check_mode else sole_use(node, journal, own):
            result = Transaction(run, journal, module.params, module.check_mode).run()
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
