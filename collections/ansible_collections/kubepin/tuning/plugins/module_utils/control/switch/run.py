# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of kubelet_cpu_manager: reads the node, plans here, and has the node apply the plan."""

from __future__ import annotations

import json
import typing as t
from dataclasses import asdict, fields, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import mask_secrets
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange, SettingChange
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import plan_id
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import decode_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    ADMITS_BY,
    MANAGED,
    aligns_whole_pods,
    takes_whole_cores,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call, Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.boot_guard import DesiredGuard
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import DesiredSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.history import (
    History,
    folders_made,
    net_changes,
    net_settings,
    remaining,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import (
    Plan,
    changes_of,
    desired_state,
    drop_in_of,
    effective_after,
    endpoint_of,
    plan_rollback,
    plan_switch,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import without_record
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.system_daemons import (
    desired_daemons,
    wants_daemons,
)


def desired_settings(params: t.Mapping[str, t.Any]) -> DesiredSettings:
    """What the module's parameters ask for."""
    return DesiredSettings(**{field.name: params[field.name] for field in fields(DesiredSettings)})


def action_of(change: FileChange) -> str:
    """What happens to the file, as one word."""
    if change.after is None:
        return "removed"
    return "created" if change.before is None else "replaced"


def diff_of(changes: t.Sequence[FileChange]) -> list[dict[str, str]]:
    """The changes as `--diff` prints them, without secrets; the journal on the node has the whole texts."""
    return [
        {
            "before_header": change.path,
            "after_header": change.path if change.after is not None else f"{change.path} (removed: {change.reason})",
            "before": mask_secrets(change.before or ""),
            "after": mask_secrets(change.after or ""),
        }
        for change in changes
    ]


def seconds_ahead(clock: float, asked: float, answered: float) -> float:
    """How far a node's clock is ahead of this one's, negative if it is behind; 0 if it is between question and answer.

    :param clock: what the node answered, in seconds since 1970
    :param asked: when it was asked, by this machine's clock
    :param answered: when it had answered
    """
    return clock - min(max(clock, asked), answered)


WriteArchive = t.Callable[[str, t.Mapping[str, str]], t.Mapping[str, str]]
"""Writes files of a node to a folder of the control node, as `write_archive` does."""


class SwitchRun:
    """Does what the parameters of kubelet_cpu_manager ask.

    :param call: runs a module on the node, in check mode if this run is in check mode
    :param result: grows with what is known
    :param guard_program: the text of `node/boot_guard.py`
    :param clock: this machine's, in seconds since 1970
    """

    def __init__(
        self,
        call: Call,
        params: t.Mapping[str, t.Any],
        check_mode: bool,
        result: Result,
        write_archive: WriteArchive,
        guard_program: str,
        clock: t.Callable[[], float],
    ) -> None:
        self._clock = clock
        self._call = call
        self._guard_program = guard_program
        self._write_archive = write_archive
        self._params = params
        self._check_mode = check_mode
        self.result = result
        self.result.update(settings=[], changes=[], notes=[])

    def run(self) -> Result:
        """Return the module's result.

        :raises TuningError: with every problem
        :raises ModuleFailed: if the node refused, or undid the switch
        """
        state = self._params["state"]
        if state == "confirmed":
            return self._confirm()
        self._read()
        recovered = self._recover()
        if state == "recovered" or (recovered and self._check_mode):
            return self._outcome(changed=recovered)
        if state == "rolled_back" and not self._committed:
            return self._outcome(changed=recovered)
        plan, undoes = self._plan_back_to_first() if state == "absent" else self._plan()
        self._record(plan)
        if plan.problems:
            raise TuningError(*plan.problems)
        if plan.changed:
            self._apply(plan, undoes)
        removed = state == "absent" and self._remove()
        return self._outcome(changed=plan.changed or recovered or removed)

    def _outcome(self, changed: bool) -> Result:
        """The result of a success, which alone has a `policy`."""
        known = {"policy": self._kubelet.effective["cpuManagerPolicy"], "plan_id": self._plan_id(())}
        return {**known, **self.result, "changed": changed}

    def _plan_id(self, files: t.Sequence[FileChange]) -> str:
        after, _sources = effective_after(self._kubelet, files)
        return plan_id({name: after.get(name) for name in MANAGED})

    def _read(self) -> None:
        history = True if self._params["state"] == "absent" else None
        asked = self._clock()
        read = self._ask(
            "kubelet_switch_info",
            wait=not self._check_mode,
            switch_id=self._params["switch_id"],
            history=history,
            system_daemons=wants_daemons(self._params),
        )
        self._topology = Topology.of(read["topology"])
        self._kubelet = decode_kubelet(read["sources"])
        self._guard: dict[str, str | None] = read["boot_guard"]
        self._daemons: Result | None = read["system_daemons"]
        self._unfinished: str | None = read["unfinished"]
        self._committed: Result | None = read["committed"]
        if history:
            self._history = History.of(read["history"])
            self._archive: Result = read["history"]["archive"]
            self.result["leftovers"] = list(self._history.leftovers)
            self.result["remaining"] = to_dicts(remaining(self._history, self._kubelet.version))
        effective = self._kubelet.effective
        self.result.update(
            policy_before=effective["cpuManagerPolicy"],
            reconcile_period=effective["cpuManagerReconcilePeriod"],
            threads_per_core=self._topology.threads_as_counted or 1,
            boot_id=read["boot_id"],
            clock_ahead=round(seconds_ahead(read["clock"], asked, self._clock()), 1),
            running_seconds=self._kubelet.running_seconds,
            start_problem=self._kubelet.start_problem.to_dict() if self._kubelet.start_problem else None,
            nvidia_gpus=len(self._topology.gpus),
            rollback=read["rollback"],
        )

    def _ask(self, module: str, **arguments: t.Any) -> Result:
        return self._call(module, {name: value for name, value in arguments.items() if value is not None})

    def _switch(self, state: str, **arguments: t.Any) -> Result:
        result = self._ask("kubelet_switch", state=state, timeout=self._params["timeout"], **arguments)
        self.result["rollback"] = result["rollback"]
        return result

    def _confirm(self) -> Result:
        pod, switch_id = self._params["pod"], self._params["switch_id"]
        if switch_id:
            answer = self._switch("confirmed", switch_id=switch_id, pod=pod)
        else:
            self._read()
            kubelet = self._kubelet
            expected = desired_state(self._topology, kubelet.effective, kubelet.version or "")
            answer = self._switch(
                "confirmed", expected=expected.to_dict(), endpoint=asdict(endpoint_of(kubelet)), pod=pod
            )
        return {**self.result, "policy": answer["policy"], "verified": answer["verified"], "changed": False}

    def _recover(self) -> bool:
        if self._unfinished is None:
            return False
        self.result["recovered"] = self._unfinished
        online = format_cpuset(self._topology.online)
        answer = self._switch(
            "undone",
            switch_id=self._params["switch_id"],
            endpoint=asdict(endpoint_of(self._kubelet)),
            online=online,
        )
        self._add_changes([FileChange(**change) for change in answer["files"]])
        if self._check_mode:
            self.result["notes"] = [
                f"the interrupted switch {self._unfinished} would be undone first; what follows is planned after that"
            ]
            return True
        self.result["started_at"] = answer["started_at"]
        self._read()
        return True

    def _plan(self) -> tuple[Plan, str | None]:
        """The plan, and the id of the switch that it rolls back."""
        committed = self._committed
        compared = (self._params["running_config"], self._params["accept_not_restarted"])
        if self._params["state"] == "present" or committed is None:
            wanted = self._params["boot_guard"]
            program = self._guard_program if wanted else None
            guard = None if wanted is None else DesiredGuard(program, self._guard)
            daemons = desired_daemons(self._params, self._daemons)
            desired = desired_settings(self._params)
            return plan_switch(self._topology, self._kubelet, desired, *compared, guard, daemons), None
        # a broken kubelet may not report its version
        version = self._kubelet.version or committed["kubelet_version"]
        self._kubelet = replace(self._kubelet, version=version)
        files = [FileChange(**change) for change in committed["files"]]
        switched = [SettingChange(**setting) for setting in committed["settings"]]
        plan = plan_rollback(
            self._topology, self._kubelet, files, committed["current"], *compared, switched, committed["folders"] or ()
        )
        return plan, committed["id"]

    def _plan_back_to_first(self) -> tuple[Plan, str | None]:
        """The plan that undoes all switches, and the id of the first one.

        Without a file to restore, there is still something to do if someone has restored the files and not restarted the
        kubelet: it would refuse its state file at the next start.
        """
        net, found = net_changes(self._history)
        drop_in, text = drop_in_of(self._kubelet)
        if text is not None and drop_in not in self._history.paths:
            found.append(without_record(drop_in))
        if not self._history.switches:
            return Plan(problems=found), None
        first, last = self._history.switches[0], self._history.switches[-1]
        self._kubelet = replace(self._kubelet, version=self._kubelet.version or last.kubelet_version)
        compared = (self._params["running_config"], self._params["accept_not_restarted"])
        now = {change.path: change.after for change in net}
        plan = plan_rollback(self._topology, self._kubelet, net, now, *compared, net_settings(self._history))
        if not net and not plan.changed:  # a problem with the kubelet does not matter then
            plan = Plan(problems=[problem for problem in plan.problems if problem.code == "inventory_keeps_settings"])
        return replace(plan, problems=[*found, *plan.problems]), first.id

    def _remove(self) -> bool:
        """Archive what kubepin keeps on the node, and remove it. Returns whether there was, or is, anything to remove."""
        if self._params["archive"] is None:
            return False
        if not self._check_mode:
            before = self.result["policy_before"]
            self._read()  # the way back has a record, too
            self.result["policy_before"] = before
        if not self.result["leftovers"]:
            return False
        self._add_changes([FileChange(path, "", None, "a record of kubepin") for path in self.result["leftovers"]])
        if not self._check_mode:
            archived = self._write_archive(self._params["archive"], self._archive)
            folders = folders_made(self._history, self._kubelet.layout.config_dir)
            endpoint = asdict(endpoint_of(self._kubelet))
            self._switch("removed", archived=archived, folders=folders, endpoint=endpoint)
            self.result["archive"] = self._params["archive"]
        return True

    def _record(self, plan: Plan) -> None:
        self.result["settings"] = [asdict(setting) for setting in plan.settings]
        self._add_changes([*plan.state_files, *plan.files])
        self.result["notes"] = plan.notes
        if plan.reservation:
            self.result["reservation"] = {
                "cpus": format_cpuset(plan.reservation.cpus),
                "explanation": plan.reservation.explanation,
            }
        if plan.expected:
            exclusive = len(plan.expected.online - plan.expected.reserved) if plan.expected.policy == "static" else 0
            after, _sources = effective_after(self._kubelet, plan.files)
            self.result.update(
                policy=plan.expected.policy,
                exclusive_cpus=exclusive,
                plan_id=self._plan_id(plan.files),
                pod_scope=aligns_whole_pods(after),
                full_pcpus_only=takes_whole_cores(after),
                kubelet_after={"version": self._kubelet.version, **{name: after.get(name) for name in ADMITS_BY}},
            )

    def _add_changes(self, changes: t.Sequence[FileChange]) -> None:
        listed = [{"path": change.path, "action": action_of(change), "reason": change.reason} for change in changes]
        self.result["changes"] = [*self.result["changes"], *listed]
        self.result["diff"] = [*self.result.get("diff", []), *diff_of(changes)]

    def _apply(self, plan: Plan, undoes: str | None) -> None:
        hold = self._params["hold"] if self._params["state"] == "present" else None
        changes = changes_of(plan, self._topology, self._kubelet, undoes)
        answer = self._switch("applied", changes=json.dumps(changes.to_dict()), hold=hold)
        outcome = ("downtime_ms", "verified", "lasting", "main_pid", "started_at", "switch_id")
        self.result.update({name: answer[name] for name in outcome if name in answer})
