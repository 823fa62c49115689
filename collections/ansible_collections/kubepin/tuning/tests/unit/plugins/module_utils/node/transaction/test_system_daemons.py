# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches that confine system daemons, on a simulated node."""

from __future__ import annotations

import dataclasses
import json

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
    FileChange,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    IRQBALANCE_FILES,
    UNITS,
    drop_in,
    with_ban,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import UNDONE
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import Switch
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system_daemons import SystemDaemons
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import (
    ENV,
    OLD,
    STATE,
    PowerCut,
    SimulatedNode,
    lasting,
    state_of,
)

ONLINE = frozenset({0, 1})
BALANCE = IRQBALANCE_FILES[0]
NEW = "KUBELET_EXTRA_ARGS=--cpu-manager-policy=static --reserved-cpus=0\n"
ENDPOINT = Endpoint("http://127.0.0.1:10248/healthz", {"cpu_manager": STATE, "memory_manager": "/m"}, 12)
PLAN = Changes(
    settings=[],
    files=[
        FileChange(ENV, OLD, NEW, "settings"),
        *(FileChange(DROP_INS[unit], None, drop_in(unit, frozenset({0})), "daemons") for unit in UNITS),
        FileChange(BALANCE, "", with_ban("", frozenset({1})), "interrupts"),
    ],
    before=DesiredState("none", frozenset(), ONLINE, False, "None"),
    after=DesiredState("static", frozenset({0}), ONLINE, False, "None"),
    endpoint=ENDPOINT,
    kubelet_version="1.36.3",
)


@pytest.fixture
def node() -> SimulatedNode:
    node = SimulatedNode()
    node.add_control_groups()
    node.files[BALANCE] = ""
    return node


def switch_on(node: SimulatedNode) -> tuple[Switch, Journal]:
    journal = Journal(node, "/var/lib/kubepin/switches")
    return Switch(node, journal, ENDPOINT, timeout=60), journal


def cpus_of(node: SimulatedNode) -> set[str]:
    """The CPUs of the units' processes."""
    return {node.files[f"/sys/fs/cgroup/{unit}/cpuset.cpus.effective"].strip() for unit in UNITS}


def is_as_found(node: SimulatedNode) -> bool:
    there = [path for path in DROP_INS.values() if path in node.files]
    return not there and node.files[BALANCE] == "" and node.files[ENV] == OLD and cpus_of(node) == {"0-1"}


def test_daemons_move_at_once_and_without_a_daemon_reload(node: SimulatedNode) -> None:
    _record, outcome = switch_on(node)[0].apply(PLAN)
    assert cpus_of(node) == {"0"}
    assert node.restarted_with == node.files[BALANCE]
    assert outcome.verified[-2:] == [
        "system.slice, user.slice, init.scope on CPUs 0",
        "irqbalance bans CPUs 1",
    ]
    assert not any("daemon-reload" in command for command in node.commands)
    down = node.steps[node.steps.index("stop") : node.steps.index("start")]
    assert not any("set-property" in step for step in down), "the kubelet was down for longer than it needs to be"


def test_irqbalance_has_its_ban_list_as_soon_as_its_program_runs(node: SimulatedNode) -> None:
    node.irqbalance_runs = True
    _record, outcome = switch_on(node)[0].apply(PLAN)
    assert outcome.verified[-1] == "irqbalance bans CPUs 1"


def test_an_irqbalance_that_ignores_its_file_undoes_the_switch(node: SimulatedNode) -> None:
    node.irqbalance_runs = node.irqbalance_ignores_file = True
    switch, journal = switch_on(node)
    with refused("ban_not_in_force", "switch_undone"):
        switch.apply(PLAN)
    assert is_as_found(node)
    assert journal.unfinished() is None


def test_they_are_confined_after_a_boot_too_and_then_nothing_is_to_do(node: SimulatedNode) -> None:
    record, _outcome = switch_on(node)[0].apply(PLAN)
    node.power_on()
    assert cpus_of(node) == {"0"}
    node.commands.clear()
    SystemDaemons(node, [change.path for change in record.files if change.path != BALANCE]).follow()
    assert not any("set-property" in command for command in node.commands)


def test_a_unit_of_which_systemd_says_something_else_than_its_control_group_is_set_again(node: SimulatedNode) -> None:
    """As a rollback that failed halfway leaves it: systemd would release the unit at the next opportunity."""
    record, _outcome = switch_on(node)[0].apply(PLAN)
    node.allowed_cpus_of["init.scope"] = ""
    SystemDaemons(node, [change.path for change in record.files]).follow()
    assert node.allowed_cpus_of["init.scope"] == "0"


def test_a_rollback_leaves_them_as_they_were_found(node: SimulatedNode) -> None:
    switch, _journal = switch_on(node)
    record, _outcome = switch.apply(PLAN)
    files = [change.inverse("as before") for change in reversed(record.files)]
    switch.apply(dataclasses.replace(PLAN, files=files, before=PLAN.after, after=PLAN.before, undoes=record.id))
    assert is_as_found(node)
    assert {*node.allowed_cpus_of.values()} == {""}, "the next daemon-reload would say something else"
    assert node.restarted_with == ""


def test_a_kubelet_that_fails_takes_them_back(node: SimulatedNode) -> None:
    node.fails_with = "panic: broken"
    switch, journal = switch_on(node)
    with refused("kubelet_not_staying_up", "switch_undone"):
        switch.apply(PLAN)
    assert is_as_found(node)
    assert journal.unfinished() is None


def test_systemd_that_refuses_a_unit_undoes_the_switch(node: SimulatedNode) -> None:
    node.refused_units = {"init.scope"}
    switch, journal = switch_on(node)
    with refused("unit_refused", "switch_undone"):
        switch.apply(PLAN)
    assert is_as_found(node)
    assert (node.policy, node.running, journal.unfinished()) == ("none", True, None)


def test_a_held_switch_whose_daemons_were_let_loose_is_undone(node: SimulatedNode) -> None:
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN, hold_seconds=45)
    node.files["/sys/fs/cgroup/user.slice/cpuset.cpus.effective"] = "0-1\n"
    with refused("unit_not_confined", "switch_undone"):
        switch.confirm(journal.of(record.id), None)
    assert is_as_found(node)


def test_a_unit_without_processes_is_confined_when_it_gets_some(node: SimulatedNode) -> None:
    for name in ("", "/cpuset.cpus.effective"):
        del node.files[f"/sys/fs/cgroup/user.slice{name}"]
    _record, outcome = switch_on(node)[0].apply(PLAN)
    assert "system.slice, user.slice, init.scope on CPUs 0" in outcome.verified


def test_a_control_group_that_does_not_follow_is_waited_for_and_refused(node: SimulatedNode) -> None:
    node._set_allowed_cpus = lambda unit, cpus: None  # type: ignore[method-assign]
    with refused("unit_not_confined"):
        switch_on(node)[0].apply(PLAN)
    assert node.files[ENV] == OLD


def test_daemons_that_could_not_be_freed_leave_the_switch_for_the_next_run(node: SimulatedNode) -> None:
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN, hold_seconds=45)
    node.refused_units = {*UNITS}
    with refused("unit_refused", "switch_not_undone"):
        node.boot()
        switch.confirm(journal.of(record.id), None)
    assert (node.policy, node.running) == ("none", True)
    assert journal.unfinished() is not None
    node.refused_units = set()
    switch.undo(journal.of(record.id), ONLINE)
    assert is_as_found(node)
    assert journal.of(record.id).status == UNDONE


def number_of_steps() -> int:
    node = SimulatedNode()
    node.add_control_groups()
    node.files[BALANCE] = ""
    switch_on(node)[0].apply(PLAN)
    return len(node.steps)


@pytest.mark.parametrize("step", range(1, number_of_steps() + 1))
def test_after_a_power_cut_at_any_step_the_next_run_leaves_everything_as_found(node: SimulatedNode, step: int) -> None:
    node.power_cut_at = step
    switch, journal = switch_on(node)
    with pytest.raises(PowerCut):
        switch.apply(PLAN)
    node.power_on()
    assert node.running
    record = journal.unfinished()
    if record:
        switch.undo(record, ONLINE)
        assert is_as_found(node)
    committed = journal.committed()
    assert (cpus_of(node) == {"0"}) == bool(committed)


def test_commands_that_cannot_be_started_any_more_leave_a_running_kubelet(node: SimulatedNode) -> None:
    """From the first command for the daemons on."""
    count = SimulatedNode()
    count.add_control_groups()
    count.files[BALANCE] = ""
    switch_on(count)[0].apply(PLAN)
    first = next(n for n, command in enumerate(count.commands, 1) if command[1] == "set-property")
    node.cannot_fork = lasting(first)
    with refused("command_not_started", "switch_not_undone"):
        switch_on(node)[0].apply(PLAN)
    node.module_ends()
    assert node.running
    assert json.loads(node.files[STATE]) == json.loads(state_of(node.policy))
