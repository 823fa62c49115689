# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: whether a node is as planned, and every way in which it is not.

The plan is what a switch would write (`switch.desired.choose_settings`), so a check and a switch cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    Entries,
    parse_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import DesiredState, state_changes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.pods import RunningContainer
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import differences, same
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    ChosenSettings,
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import desired_state, place_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    other_machine,
    upgrade_unfinished,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.system_daemons import (
    DaemonsPlan,
    DesiredDaemons,
    plan_daemons,
)

SCHEMA = 1
_NONE: CpuSet = frozenset()


@dataclass(frozen=True)
class Switched:
    """What kubepin's records on the node say."""

    unfinished: str | None
    """The ID of a switch that has not ended."""
    committed: str | None
    """The ID of the switch in force."""
    journal: str
    """The file with its record; empty without one."""
    changed_files: tuple[tuple[str, bool], ...]
    """The files that have neither the text that it wrote nor what a later upgrade made of it, and whether they are gone."""
    rewritten_files: tuple[str, ...]
    """The files that have what a later upgrade made of its text."""
    unfinished_upgrades: tuple[str, ...]
    """The folders of upgrades that have not ended."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Switched:
        """:param facts: as `node/transaction/facts.journal_facts` and `node/upgrade/record.upgrade_facts` return them"""
        committed = facts["committed"] or {"id": None, "files": [], "current": {}}
        current = committed["current"]
        texts = [change for upgrade in facts["upgrades"] if upgrade["finished"] for change in upgrade["texts"]]
        differing = [file for file in committed["files"] if current.get(file["path"]) != file["after"]]
        rewritten = [file["path"] for file in differing if current.get(file["path"]) == _after_upgrades(file, texts)]
        return cls(
            unfinished=facts["unfinished"],
            committed=committed["id"],
            journal=facts["rollback"].get("journal", ""),
            changed_files=tuple(
                (file["path"], current.get(file["path"]) is None) for file in differing if file["path"] not in rewritten
            ),
            rewritten_files=tuple(rewritten),
            unfinished_upgrades=tuple(each["folder"] for each in facts["upgrades"] if not each["finished"]),
        )


@dataclass(frozen=True)
class InApi:
    """What the API knows of the node."""

    running: Config | None
    """The configuration that the kubelet runs with, as /configz says; None if it cannot be read."""
    configz_error: str | None
    boot_id: str | None
    containers: tuple[RunningContainer, ...]


@dataclass(frozen=True)
class Cgroups:
    """What the node's control groups say."""

    cpus: Mapping[str, CpuSet]
    """ID of a container -> the CPUs on which it may run."""
    error: str | None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Cgroups:
        """:param facts: as `node/readers/cpu_cgroups.read_cpu_cgroups` returns them"""
        return cls({each["id"]: parse_cpuset(each["cpus"]) for each in facts["containers"]}, facts["error"])


def check_node(
    node: str,
    topology: Topology,
    kubelet: Kubelet,
    desired: DesiredSettings,
    switched: Switched,
    boot_id: str | None,
    api: InApi | None,
    api_error: str,
    cgroups: Cgroups,
    daemons: DesiredDaemons,
) -> dict[str, Any]:
    """The fact `kubepin_check` of one node.

    :param boot_id: the ID of this boot, as the machine itself says
    :param api: None if the API does not know the node, for the reason *api_error*
    """
    chosen = choose_settings(topology, kubelet.effective, kubelet.version, desired)
    reserved = chosen.reservation.cpus if chosen.reservation else None
    confined = plan_daemons(daemons, topology, kubelet.effective, desired.policy, reserved)
    unchecked = [*_unchecked(node, kubelet, chosen, boot_id, api, api_error), *confined.problems]
    settings = _settings(kubelet, chosen, switched)
    untuned = any(problem.code == "node_untuned" for problem in settings)
    found = [
        *([problems.switch_unfinished(switched.unfinished)] if switched.unfinished else []),
        *map(upgrade_unfinished, switched.unfinished_upgrades),
        *settings,
        *(problems.file_changed(path, gone, switched.journal) for path, gone in switched.changed_files),
        *_process(kubelet, api),
        *([] if untuned else _daemons(confined, switched, reserved or _NONE)),
    ]
    pinned: list[RunningContainer] = []
    notes: list[str] = [
        *(problem.text for problem in kubelet.problems if problem.waivable),
        *map(problems.rewritten_by_upgrade, switched.rewritten_files),
    ]
    if not unchecked and kubelet.version is not None:
        state = desired_state(topology, kubelet.effective, kubelet.version)
        found += _state_files(kubelet, state)
        assert api is not None  # else something is unchecked
        pinning = _Pinning(api.containers, cgroups, _entries(kubelet, state))
        if cgroups.error and pinning.wanted:
            unchecked.append(problems.cgroups_unread(cgroups.error))
        else:
            found += pinning.problems
            pinned, notes = pinning.pinned, [*notes, *pinning.notes]
    gpu = [container for container in (api.containers if api else ()) if container.of_gpu_pod]
    return {
        "schema": SCHEMA,
        "node": node,
        "outcome": _outcome(found, unchecked).value,
        "problems": to_dicts(found),
        "unchecked": to_dicts(unchecked),
        "settings": [
            {
                "name": name,
                "planned": planned,
                "configured": kubelet.effective.get(name),
                "running": api.running.get(name) if api and api.running is not None else None,
            }
            for name, planned in chosen.settings.items()
        ],
        "policy": kubelet.effective["cpuManagerPolicy"],
        "reserved": format_cpuset(chosen.reservation.cpus) if chosen.reservation else None,
        "switch": switched.committed,
        "pinned": len(pinned),
        "gpu_containers": [_gpu_fact(container, container in pinned, cgroups) for container in gpu],
        "notes": notes,
    }


def not_checked(node: str, reason: Problem) -> dict[str, Any]:
    """The fact `kubepin_check` of a node that could not be read."""
    return {
        "schema": SCHEMA,
        "node": node,
        "outcome": Outcome.NOT_CHECKED.value,
        "problems": [],
        "unchecked": to_dicts([reason]),
        "settings": [],
        "policy": None,
        "reserved": None,
        "switch": None,
        "pinned": 0,
        "gpu_containers": [],
        "notes": [],
    }


def _after_upgrades(file: Mapping[str, Any], texts: Sequence[Mapping[str, Any]]) -> str | None:
    """What upgrades made of the text that a switch wrote to a file.

    :param texts: their changes of files, the oldest first; one that begins with another text is older than the switch,
        or was made after someone else edited the file
    """
    text: str | None = file["after"]
    for change in texts:
        if change["path"] == file["path"] and change["before"] == text:
            text = change["after"]
    return text


def _outcome(found: Sequence[Problem], unchecked: Sequence[Problem]) -> Outcome:
    if unchecked:
        return Outcome.NOT_CHECKED
    if any(problem.code == "node_untuned" for problem in found):
        return Outcome.UNTUNED
    return Outcome.DRIFTED if found else Outcome.AS_PLANNED


def _unchecked(
    node: str, kubelet: Kubelet, chosen: ChosenSettings, boot_id: str | None, api: InApi | None, api_error: str
) -> list[Problem]:
    """Why it cannot be said whether the node is as planned."""
    found = [*chosen.problems]
    if api is None:
        return [*found, problems.not_in_api(api_error)]
    if boot_id and api.boot_id and boot_id != api.boot_id:
        found.append(other_machine(node, boot_id, api.boot_id))
    if api.running is None and kubelet.running and not kubelet.start_problem:
        found.append(problems.configz_unread(api.configz_error or "no reason given"))
    return found


def _settings(kubelet: Kubelet, chosen: ChosenSettings, switched: Switched) -> list[Problem]:
    if chosen.problems:
        return []
    now, planned = kubelet.effective, chosen.settings
    policy = "cpuManagerPolicy"
    if switched.committed is None and not same(policy, planned[policy], now[policy]):
        return [problems.untuned(now[policy], planned[policy])]
    return [
        problems.setting_differs(name, shown(now.get(name)), place_of(kubelet.sources[name]), shown(value))
        for name, value in planned.items()
        if not same(name, value, now.get(name))
    ]


def _process(kubelet: Kubelet, api: InApi | None) -> list[Problem]:
    """What is wrong with the process, and with what it would be started with."""
    broken = [problem for problem in kubelet.problems if not problem.waivable and problem.code != "embedded_kubelet"]
    if kubelet.start_problem:
        return [*broken, kubelet.start_problem]
    if not kubelet.running and not any(problem.code == "embedded_kubelet" for problem in kubelet.problems):
        return [*broken, problems.kubelet_not_running(kubelet.layout.service)]
    found = differences(kubelet, api.running if api else None)
    return [*broken, *([problems.not_restarted(found)] if found else [])]


def _daemons(plan: DaemonsPlan, switched: Switched, reserved: CpuSet) -> list[Problem]:
    """What is wrong with the files that confine system daemons and interrupts; if nothing is, with their CPUs."""
    reported = [path for path, _gone in switched.changed_files]
    files = [change for change in plan.files if change.path not in reported]
    if plan.files:
        return [problems.daemons_differ(change.path, change.reason) for change in files]
    planned = format_cpuset(reserved)
    return [problems.unit_elsewhere(unit, format_cpuset(cpus), planned) for unit, cpus in plan.deviations.items()]


def _state_files(kubelet: Kubelet, state: DesiredState) -> list[Problem]:
    texts = {
        "cpu_manager": (kubelet.cpu_state.path, kubelet.cpu_state.text),
        "memory_manager": (kubelet.memory_state.path, kubelet.memory_state.text),
    }
    found = [
        problems.state_file_refused(change.path, change.reason.partition(": ")[2], starts=kubelet.start_problem is None)
        for change in state_changes(texts, state)
    ]
    if kubelet.cpu_state.text is None and state.policy == "static":
        found.append(problems.state_file_missing(kubelet.cpu_state.path))
    return found


def _entries(kubelet: Kubelet, state: DesiredState) -> Entries | None:
    """The exclusive CPUs that the state file assigns; None without a file that can be read."""
    if kubelet.cpu_state.text is None:
        return None
    try:
        return parse_state(kubelet.cpu_state.text, state.minor, state.pod_level)["entries"]
    except StateFileError:
        return None


class _Pinning:
    """Compares what the kubelet's rule, its state file and the control groups say of each container."""

    def __init__(self, containers: Sequence[RunningContainer], cgroups: Cgroups, entries: Entries | None) -> None:
        self.wanted = [container for container in containers if container.exclusive]
        self.problems: list[Problem] = []
        self.pinned: list[RunningContainer] = []
        self.notes: list[str] = []
        self._containers = containers
        self._cpus = cgroups.cpus
        if cgroups.error is None:
            for container in self.wanted:
                self._compare(container, entries)

    def _compare(self, container: RunningContainer, entries: Entries | None) -> None:
        has = self._cpus.get(container.id)
        if has is None:
            self.notes.append(f"{container.title} ended while the node was read, or has no cgroup with CPUs")
            return
        assigned = has if entries is None else parse_cpuset(entries.get(container.uid, {}).get(container.name, ""))
        others = [other for other in self._containers if self._overlaps(container, other, has)]
        if not assigned:
            self.problems.append(problems.not_assigned(container.title, format_cpuset(has)))
        elif has != assigned:
            self.problems.append(problems.cpus_differ(container.title, format_cpuset(has), format_cpuset(assigned)))
        elif others:
            shared = _NONE.union(*(self._cpus[other.id] & has for other in others))
            titles = [other.title for other in others]
            self.problems.append(problems.cpus_shared(container.title, format_cpuset(shared), titles))
        else:
            self.pinned.append(container)

    def _overlaps(self, container: RunningContainer, other: RunningContainer, cpus: CpuSet) -> bool:
        return other.id != container.id and bool(self._cpus.get(other.id, _NONE) & cpus)


def _gpu_fact(container: RunningContainer, pinned: bool, cgroups: Cgroups) -> dict[str, Any]:
    cpus = cgroups.cpus.get(container.id)
    return {
        "namespace": container.namespace,
        "pod": container.pod,
        "container": container.name,
        "cpus": None if cpus is None else format_cpuset(cpus),
        "pinned": pinned,
        "reasons": list(container.reasons),
    }
