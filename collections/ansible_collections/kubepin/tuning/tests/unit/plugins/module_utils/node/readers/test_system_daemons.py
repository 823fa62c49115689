# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_daemons import read_system_daemons

UNITS = """Id=system.slice
AllowedCPUs=0-1

Id=user.slice
AllowedCPUs=

Id=init.scope
AllowedCPUs=0-1 4
"""
SERVICES = """Id=dpdk.service
CPUAffinity=4-5
Slice=system.slice

Id=dbus.service
CPUAffinity=
Slice=system.slice

Id=outside.service
CPUAffinity=6
Slice=machine.slice

Id=getty@tty1.service
CPUAffinity=7
Slice=system-getty.slice
"""
IRQBALANCE = """EnvironmentFiles=/etc/default/irqbalance (ignore_errors=yes)
EnvironmentFiles=/usr/lib/irqbalance/defaults.env (ignore_errors=yes)
LoadState=loaded
ActiveState=active
"""


class Systemctl:
    """A systemd that answers what a real one printed."""

    def __init__(self, units: str = UNITS, irqbalance: str = IRQBALANCE, version: str = "irqbalance version 1.9.2\n"):
        self.answers = {"system.slice": units, "*.service": SERVICES, "irqbalance.service": irqbalance}
        self.version = version

    def __call__(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "irqbalance":
            return 0, self.version, ""
        return 0, self.answers[argv[2]], ""


def thread(proc: Path, pid: int, name: str, flags: int, cpus: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S 2 0 0 0 -1 {flags} 0 0 0\n")
    (proc / str(pid) / "status").write_text(f"Name:\t{name}\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """/proc and /sys of a machine with cgroup v2."""
    for unit in ("system.slice", "init.scope"):
        (tmp_path / "sys/fs/cgroup" / unit).mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup" / unit / "cpuset.cpus.effective").write_text("0-1\n")
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io memory\n")
    (tmp_path / "sys/devices/virtual/workqueue").mkdir(parents=True)
    (tmp_path / "sys/devices/virtual/workqueue/cpumask").write_text("00000000,000000ff\n")
    proc = tmp_path / "proc"
    for irq, device, effective in ((0, "timer", None), (24, "nvme0q0", "0"), (25, "nvme0q1", "1"), (30, "", "1")):
        (proc / f"irq/{irq}" / device).mkdir(parents=True)
        (proc / f"irq/{irq}/smp_affinity_list").write_text("0-7\n")
        if effective:
            (proc / f"irq/{irq}/effective_affinity_list").write_text(f"{effective}\n")
    thread(proc, 1, "systemd", 0x400100, "0-1")
    thread(proc, 2, "kthreadd", 0x208040, "0-7")
    thread(proc, 15, "migration/0", 0x4208040, "0")
    thread(proc, 40, "a) name (", 0x208040, "0-7")
    return tmp_path


def test_what_a_machine_says(root: Path) -> None:
    found = read_system_daemons(Systemctl(), str(root))
    assert (found["cgroup_version"], found["has_cpusets"], found["workqueues"]) == (2, True, "0-7")
    assert found["units"] == {
        "system.slice": {"allowed": "0-1", "effective": "0-1"},
        "user.slice": {"allowed": "", "effective": None},
        "init.scope": {"allowed": "0-1 4", "effective": "0-1"},
    }
    assert found["affinities"] == {"dpdk.service": "4-5", "getty@tty1.service": "7"}
    files = ["/etc/default/irqbalance", "/usr/lib/irqbalance/defaults.env"]
    assert found["irqbalance"] == {"active": True, "environment_files": files, "version": [1, 9]}


def test_interrupts_of_devices_by_their_cpus(root: Path) -> None:
    assert read_system_daemons(Systemctl(), str(root))["irqs"] == [
        {"allowed": "0-7", "effective": "0-7", "count": 1, "names": ["0 timer"]},
        {"allowed": "0-7", "effective": "0", "count": 1, "names": ["24 nvme0q0"]},
        {"allowed": "0-7", "effective": "1", "count": 1, "names": ["25 nvme0q1"]},
    ]


def test_kernel_threads_that_are_bound_to_their_cpus_are_left_out(root: Path) -> None:
    threads = read_system_daemons(Systemctl(), str(root))["kernel_threads"]
    assert threads == [{"cpus": "0-7", "count": 2, "names": ["kthreadd", "a) name ("]}]


def test_an_old_machine(tmp_path: Path) -> None:
    old = Systemctl(units="Id=system.slice\n\nId=user.slice\n\nId=init.scope\n", irqbalance="LoadState=not-found\n")
    found = read_system_daemons(old, str(tmp_path))
    assert (found["cgroup_version"], found["has_cpusets"], found["irqbalance"]) == (1, False, None)
    assert {unit["allowed"] for unit in found["units"].values()} == {None}
    assert (found["irqs"], found["kernel_threads"], found["workqueues"]) == ([], [], "")


def test_an_irqbalance_that_does_not_say_its_version(root: Path) -> None:
    assert read_system_daemons(Systemctl(version="unknown option"), str(root))["irqbalance"]["version"] is None
