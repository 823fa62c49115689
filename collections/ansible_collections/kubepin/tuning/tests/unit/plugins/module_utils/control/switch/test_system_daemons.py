# SPDX-License-Identifier: GPL-3.0-or-later
"""What confines system daemons and interrupts, and every reason not to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    IRQBALANCE_FILES,
    UNITS,
    drop_in,
    with_ban,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.system_daemons import (
    DaemonsPlan,
    DesiredDaemons,
    SystemDaemons,
    plan_daemons,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS, daemon_facts, topology

RESERVED = frozenset({0, 1})
BALANCE = IRQBALANCE_FILES[0]
CONFINED = {DROP_INS[unit]: drop_in(unit, RESERVED) for unit in UNITS}
BANNED = {BALANCE: with_ban("IRQBALANCE_ARGS=\n", frozenset(range(2, 8)))}
MASK = "IRQBALANCE_BANNED_CPUS=fc\n"


def units(**allowed: str | None) -> dict[str, Any]:
    """Facts about units: name without its type -> AllowedCPUs=, of units that run there."""
    return {unit: {"allowed": allowed.get(unit.partition(".")[0], ""), "effective": "0-7"} for unit in UNITS}


def planned(
    slices: bool | None = True,
    irqbalance: bool | None = None,
    policy: str = "static",
    reserved: frozenset[int] | None = RESERVED,
    texts: dict[str, str] | None = None,
    machine: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **facts: Any,
) -> DaemonsPlan:
    """The plan for a machine with 8 CPUs."""
    there = {**dict.fromkeys((*DROP_INS.values(), *IRQBALANCE_FILES)), **(texts or {})}
    found = SystemDaemons.of({**daemon_facts(**facts), "texts": there})
    cpus = topology(cores=8, **(machine or {}))
    return plan_daemons(
        DesiredDaemons(found, slices, irqbalance), cpus, {**DEFAULTS, **(config or {})}, policy, reserved
    )


def files(plan: DaemonsPlan) -> dict[str, str | None]:
    assert not plan.problems
    return {change.path: change.after for change in plan.files}


def test_three_units_are_confined_to_the_reserved_cpus_and_nothing_else_changes() -> None:
    assert files(planned()) == CONFINED


def test_nothing_is_to_do_where_it_is_as_wanted() -> None:
    there = units(system="0-1", user="0-1", init="0-1")
    assert files(planned(texts=CONFINED, units=there)) == {}
    assert files(planned(None, None)) == {}


@pytest.mark.parametrize("slices", [True, None])
def test_other_reserved_cpus_take_the_daemons_along(slices: bool | None) -> None:
    more = frozenset({0, 1, 2, 3})
    found = planned(slices, texts=CONFINED, reserved=more, units=units(system="0-1", user="0-1", init="0-1"))
    assert files(found) == {DROP_INS[unit]: drop_in(unit, more) for unit in UNITS}


@pytest.mark.parametrize(("slices", "policy", "reserved"), [(False, "static", RESERVED), (None, "none", None)])
def test_they_are_freed_on_request_and_without_reserved_cpus(
    slices: bool | None, policy: str, reserved: frozenset[int] | None
) -> None:
    found = planned(slices, policy=policy, reserved=reserved, texts={**CONFINED, **BANNED}, irqbalance=slices)
    assert files(found) == {**dict.fromkeys(CONFINED), BALANCE: "IRQBALANCE_ARGS=\n"}


def test_a_drop_in_of_others_is_not_taken_away() -> None:
    assert files(planned(False, texts={DROP_INS["user.slice"]: "[Slice]\nCPUWeight=10\n"})) == {}


def test_irqbalance_bans_the_cpus_that_are_not_reserved() -> None:
    found = planned(None, True, texts={BALANCE: MASK})
    assert files(found) == {BALANCE: with_ban(MASK, frozenset(range(2, 8)))}
    assert files(planned(None, None, texts=BANNED)) == {}


def test_irqbalance_of_red_hat_has_its_own_file() -> None:
    balance = {"active": True, "environment_files": ["/etc/sysconfig/irqbalance"], "version": [1, 9]}
    assert [*files(planned(None, True, irqbalance_facts=balance))] == ["/etc/sysconfig/irqbalance"]


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "no reserved CPUs": ("no_cpus_for_system", {"policy": "none", "reserved": None}),
    "no reserved CPUs for irqbalance": (
        "no_cpus_for_system",
        {"slices": None, "irqbalance": True, "policy": "none", "reserved": None},
    ),
    "cgroup v1": ("cgroup_without_cpusets", {"cgroup_version": 1, "has_cpusets": False}),
    "hybrid": ("cgroup_without_cpusets", {"has_cpusets": False}),
    "old systemd": ("systemd_too_old", {"units": units(system=None, user=None, init=None)}),
    "another's AllowedCPUs=": ("unit_already_restricted", {"units": units(user="0-3")}),
    "pods below system.slice": ("pods_in_system_slice", {"config": {"cgroupRoot": "/system.slice/pods"}}),
    "pods below system": ("pods_in_system_slice", {"config": {"cgroupRoot": "/system"}}),
    "isolated": ("daemons_on_isolated_cpus", {"machine": {"isolated": "1-3"}}),
    "a pinned service": ("service_affinity_elsewhere", {"affinities": {"dpdk.service": "4-5"}}),
    "pinned services": ("service_affinity_elsewhere", {"machine": {"housekeeping": {"CPUAffinity": "6-7"}}}),
    "no irqbalance": ("irqbalance_missing", {"slices": None, "irqbalance": True, "irqbalance_facts": None}),
    "irqbalance without a file": (
        "irqbalance_without_file",
        {
            "slices": None,
            "irqbalance": True,
            "irqbalance_facts": {"active": True, "environment_files": ["/opt/irq"], "version": [1, 9]},
        },
    ),
    "old irqbalance": (
        "irqbalance_too_old",
        {
            "slices": None,
            "irqbalance": True,
            "irqbalance_facts": {"active": True, "environment_files": [BALANCE], "version": [1, 7]},
        },
    ),
    "an open quote": (
        "irqbalance_file_unusual",
        {"slices": None, "irqbalance": True, "texts": {BALANCE: 'IRQBALANCE_ARGS="'}},
    ),
}


@pytest.mark.parametrize(("code", "machine"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_done_is_refused_with_a_way_out(code: str, machine: dict[str, Any]) -> None:
    plan = planned(**machine)
    assert [problem.code for problem in plan.problems] == [code]
    assert plan.files == ()
    assert plan.problems[0].remedy


def test_a_file_that_cannot_get_a_ban_list_is_named() -> None:
    _code, machine = REFUSED["an open quote"]
    (problem,) = planned(**machine).problems
    assert problem.text.startswith(f"{BALANCE} cannot get a ban list: it ends within a quoted value.")


def test_all_problems_come_at_once() -> None:
    plan = planned(True, True, has_cpusets=False, irqbalance_facts=None, machine={"isolated": "0"})
    codes = [problem.code for problem in plan.problems]
    assert codes == ["cgroup_without_cpusets", "irqbalance_missing", "daemons_on_isolated_cpus"]


@pytest.mark.parametrize("affinity", ["0-7", "1,4"])
def test_a_service_that_may_run_on_a_reserved_cpu_is_no_problem(affinity: str) -> None:
    assert len(files(planned(affinities={"chronyd.service": affinity}))) == 3


def test_isolated_cpus_are_banned_with_the_others_and_no_problem_outside_the_reservation() -> None:
    assert not planned(True, True, machine={"isolated": "4-7"}).problems


def test_what_still_runs_on_exclusive_cpus_is_named() -> None:
    plan = planned(
        irqs=[
            {"allowed": "0-1", "effective": "3", "count": 3, "names": ["1 a", "2 b", "3 c"]},
            {"allowed": "5", "effective": "5", "count": 2, "names": ["24 nvme0q5", "25 nvme0q6"]},
        ],
        kernel_threads=[{"cpus": "0-7", "count": 9, "names": ["kthreadd"]}, {"cpus": "0", "count": 4, "names": ["x"]}],
        workqueues="0-7",
    )
    irqs, threads, queues = plan.notes
    assert irqs.startswith("2 of 5 interrupts may go to the exclusive CPUs 2-7 (24 nvme0q5, 25 nvme0q6).")
    assert "irqbalance bans no CPUs" in irqs
    assert threads.startswith(
        "9 kernel threads that are not bound to a CPU may run on the exclusive CPUs 2-7 (kthreadd, ...)."
    )
    assert "run on CPUs 0-7, which include exclusive ones" in queues


def test_a_machine_that_is_quiet_there_needs_no_note() -> None:
    quiet = [{"allowed": "0-1", "effective": "0", "count": 3, "names": ["1 a"]}]
    assert list(planned(irqs=quiet, workqueues="0-1").notes) == []


def test_units_that_run_elsewhere_are_told() -> None:
    there = {unit: {"allowed": "0-1", "effective": "0-1" if unit != "init.scope" else "0-7"} for unit in UNITS}
    assert planned(texts=CONFINED, units=there).deviations == {"init.scope": frozenset(range(8))}
    assert planned(None, texts={}, units=there).deviations == {}
