# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of kubeadm_node_upgrade do to a simulated machine, and what they return."""

from __future__ import annotations

import fcntl
import signal
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import system
from ansible_collections.kubepin.tuning.plugins.modules import (
    kubeadm_node_info,
    kubeadm_node_upgrade,
    kubelet_switch_info,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import sources, topology_facts
from ansible_collections.kubepin.tuning.tests.unit.samples.upgrade_machine import (
    NEW,
    OLD,
    Machine,
    MachineNode,
    point_at,
)

Result = t.Dict[str, t.Any]
Run = t.Callable[..., Result]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine that the module sees."""
    point_at(tmp_path, monkeypatch)
    machine = Machine(tmp_path)
    for module in (kubeadm_node_upgrade, kubelet_switch_info):
        monkeypatch.setattr(module, "Node", lambda *_: MachineNode(machine))
    monkeypatch.setattr(kubelet_switch_info, "read_topology", topology_facts)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda module, argv, **_how: machine.run(argv))
    monkeypatch.setattr(system, "HOME", f"{tmp_path}/var/lib/kubepin")
    monkeypatch.setattr(system, "LOCK", f"{tmp_path}/var/lib/kubepin/lock")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest needs its own
    return machine


@pytest.fixture
def step(machine: Machine, plan: Run) -> Run:
    """Runs a step of the upgrade."""

    def run(name: str, **params: t.Any) -> Result:
        source = {"binaries": f"{machine.root}/source/{{version}}"}
        return plan("kubeadm_node_upgrade", **{"step": name, "version": NEW, "source": source, **params})

    return run


def test_the_steps_of_a_worker_end_with_the_new_kubelet_and_its_tuning(machine: Machine, step: Run) -> None:
    prepared = step("prepare")
    assert (prepared["changed"], machine.running) == (True, OLD)
    assert Path(prepared["folder"], "kubelet").read_text() == f"kubelet {OLD}"
    assert step("configure")["kept_settings"] == {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
    switched = step("kubelet")
    assert (switched["changed"], machine.running, machine.effective()["cpuManagerPolicy"]) == (True, NEW, "static")
    assert "--redirect-container-streaming" in switched["dropped_flags"][0]
    assert {"downtime_ms", "started_at", "seconds"} <= set(switched)
    assert switched["verified"]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("configure", {}, ["upgrade", "node"]),
        ("configure", {"patches_directory": "/etc/p"}, ["upgrade", "node", "--patches=/etc/p"]),
        (
            "apply",
            {"patches_directory": "/etc/p", "ignore_preflight_errors": ["Swap", "Mem"]},
            ["upgrade", "apply", f"v{NEW}", "--yes", "--ignore-preflight-errors=Swap,Mem", "--patches=/etc/p"],
        ),
    ],
)
def test_kubeadm_gets_what_the_operator_gave_for_it(
    machine: Machine, step: Run, name: str, options: Result, expected: list[str]
) -> None:
    step("prepare")
    step(name, **options)
    assert machine.kubeadm_runs == [expected]


@pytest.mark.parametrize("name", ["prepare", "kubelet"])
def test_a_step_that_was_done_changes_nothing(step: Run, name: str) -> None:
    for done in ("prepare", "configure", "kubelet"):
        step(done)
    assert step(name)["changed"] is False


@pytest.mark.parametrize("name", ["prepare", "apply", "configure", "kubelet"])
def test_check_mode_touches_nothing(machine: Machine, step: Run, name: str) -> None:
    before = machine.state()
    assert step(name, _ansible_check_mode=True)["changed"] is True
    assert (machine.state(), machine.path("/var/lib/kubepin").exists()) == (before, False)


def test_a_program_that_is_not_what_its_checksum_says_is_refused(machine: Machine, step: Run) -> None:
    machine.write(f"/source/{NEW}/kubelet", "another program")
    result = step("prepare")
    assert (result["failed"], machine.running) == (True, OLD)
    assert "kubelet" in result["msg"]
    assert "SHA-256" in result["msg"]


def test_a_kubelet_that_does_not_start_is_undone(machine: Machine, step: Run) -> None:
    step("prepare")
    step("configure")
    boot = machine.boot

    def fail_with_new_kubelet() -> None:
        boot()
        machine.running = None if machine.running == NEW else machine.running

    machine.boot = fail_with_new_kubelet  # type: ignore[method-assign]
    result = step("kubelet")
    assert (result["failed"], result["undone"], machine.running) == (True, True, OLD)
    assert f"{OLD} is back and verified" in result["msg"]


def test_a_node_that_another_run_changes_is_left_alone(
    machine: Machine, step: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "LOCK_SECONDS", 0)
    machine.write("/var/lib/kubepin/lock", "")
    with machine.path("/var/lib/kubepin/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = step("prepare")
    assert "another run is changing this node right now" in result["msg"]


@pytest.mark.parametrize("source", [{}, {"binaries": "/b", "packages": {"url": "http://packages"}}])
def test_programs_come_from_one_source(step: Run, source: Result) -> None:
    assert "binaries" in step("prepare", source=source)["msg"]


def test_files_that_an_upgrade_could_not_replace_are_problems_of_the_node(
    machine: Machine, answer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = machine.path("/usr/bin/other")
    other.hardlink_to(machine.path("/usr/bin/kubelet"))
    machine.path("/etc/default").mkdir(parents=True)
    machine.path("/etc/default/kubelet").symlink_to("/dev/null")
    source = sources()
    source["configured_command_line"] = ["kubelet", f"--config={machine.root}/var/lib/kubelet/config.yaml"]
    read = {"kubelet": source, "packages": {}}
    monkeypatch.setattr(kubeadm_node_info, "read_node", lambda run, source, versions: dict(read))
    packages = {"packages": {"url": "http://packages"}}
    for params, expected in (
        ({}, ["file_has_other_names", "file_not_regular"]),
        ({"source": packages}, ["file_not_regular"]),
    ):
        found = answer("kubeadm_node_info", _ansible_check_mode=True, **params)["read"]["obstacles"]
        assert [problem["code"] for problem in found] == expected
