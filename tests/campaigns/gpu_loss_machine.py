# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of gpu-loss for a virtual machine, whose policy kubepin switches, and what its audit and diagnosis say.

One trial after the other, with six pods each, so that an emulated machine keeps up: two versions of runc, without links in
/dev/char and with them, under both policies. The GPU is a device with NVIDIA's numbers and no driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox
from sandbox.machines import Machine
from sandbox.nodes import Node
from sandbox.settings import GPU_DEVICE
from tests.campaigns import gpu_loss_kubepin
from tests.campaigns.base import expect
from tests.campaigns.gpu_loss_kubepin import KubepinLab, Trial
from tests.campaigns.gpu_loss_systemd import (
    CONTAINERD,
    NEIGHBOUR,
    NO_DRIVER,
    NVIDIA_NUMBERS,
    OWN_RUNC,
    RELOAD,
    RESIZE,
    RESTART,
    START,
    SWITCH,
    Result,
    Setting,
)
from tests.campaigns.machine import TIMEOUT

OLD = "1.1.5"
"""runc as Debian 12 has it, one of the releases that need links in /dev/char."""
PROGRAMS = "/opt/gpu-loss"
CPUS = 6
"""A trial has three pods with a CPU each and three with a tenth of one. The static policy reserves one more CPU, and the pod that
probes a switch, or the neighbour, gets one."""
EVENTS: Mapping[str, Sequence[str]] = {
    "none": (START, CONTAINERD, RELOAD, RESTART, RESIZE, SWITCH),
    "static": (START, CONTAINERD, RELOAD, RESTART, NEIGHBOUR, RESIZE),
}

# A switch costs minutes. So those under the static policy follow one.
TRIALS = tuple(
    Trial(Setting(policy, links), runc)
    for links in (False, True)
    for policy, runc in (("none", OLD), ("static", OLD), ("static", OWN_RUNC), ("none", OWN_RUNC))
)


class MachineLab(KubepinLab):
    """A virtual machine."""

    FILE = "systemd-machine.json"
    # The probe pod cannot open the stand-in.
    OPTIONS: Mapping[str, Any] = {**gpu_loss_kubepin.OPTIONS, "cpu_manager_probe_device_paths": ["/dev/null"]}
    RUNCS = (OLD,)
    # Emulated machines are slow: three others beside it, a container took minutes to start.
    WATCH_SECONDS = dict.fromkeys((*EVENTS["none"], NEIGHBOUR), 30)
    START_SECONDS = 600
    TIMEOUT = TIMEOUT
    GRANTED = NO_DRIVER

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None], output: Path) -> None:
        expect(len(sandbox.machines) == 1, f'sandbox "{sandbox.state.name}" has no machine, or several: expected one')
        cpus = sandbox.state.machine_shape.cpus
        expect(cpus >= CPUS, f'the machine of sandbox "{sandbox.state.name}" has {cpus} CPUs: expected {CPUS} or more')
        self.machine: Machine = sandbox.machines[0]
        super().__init__(sandbox, report, output, sandbox.machines)

    def facts(self) -> dict[str, str]:
        """What the measurement ran on."""
        state = self.sandbox.state
        return {**super().facts(), "accelerator": state.accelerator, "shape": state.shape}

    def install(self) -> None:
        """As on any worker, and the device: the kernel has no driver for it, and does not list it in /sys/dev/char."""
        self.machine.run("rm", "-f", GPU_DEVICE)
        self.machine.run("mknod", "-m", "666", GPU_DEVICE, "c", *map(str, NVIDIA_NUMBERS))
        super().install()

    def program(self, _node: Node, built: Path) -> str:
        """Copied: a machine has no folder of the host."""
        folder = f"{PROGRAMS}/{built.parents[1].name}"
        self.machine.run("mkdir", "-p", folder)
        self.machine.copy_in(built, f"{folder}/{built.name}")
        return f"{folder}/{built.name}"

    def use_policy(self, node: Node, policy: str) -> None:
        """Switch the node, or roll it back, if it has another policy."""
        found = self.configuration(node)["cpuManagerPolicy"]
        if found != policy:
            run = self.playbook("tune-gpu-nodes.yml" if policy == "static" else "rollback-gpu-nodes.yml")
            expect(run.code == 0, f"the node's policy is {found}, and the playbook failed: {run.error}")

    def now(self) -> float:
        """The machine's time."""
        return float(self.machine.run("date", "+%s"))

    def run_name(self, what: str) -> str:
        """With the trial: the machine has one after the other."""
        (setting,) = self.settings.values()
        runc, links = self.subjects[0].runc.partition("+")[0], "links" if setting.links else "no-links"
        return super().run_name(f"{links}-{setting.policy}-{runc}-{what}")

    def run(self) -> list[Result]:
        """What was not observed before."""
        self.install()
        for trial in TRIALS:
            self.use_runcs({self.machine.name: trial.runc})
            setting, runc = trial.setting, self.subjects[0].runc.partition("+")[0]
            events = [it for it in EVENTS[setting.policy] if not self.findings.of(it, setting, runc)]
            if events:
                self.report(f"runc {runc}, {setting}: {', '.join(events)}")
                self.events_of([setting], events, self.findings.of(START, setting, runc))
        return list(self.findings.rows)
