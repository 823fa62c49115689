# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what isolated CPUs and unequal cores of a machine mean for the static policy."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology


def machine_notes(topology: Topology, reserved: CpuSet) -> list[str]:
    """What the static policy makes of a machine like this, for operators: each note with its remedy.

    :param reserved: the CPUs that would be reserved
    """
    return [
        *_isolation_notes(topology, reserved),
        *_housekeeping_notes(topology, reserved),
        *_inequality_notes(topology),
    ]


def _isolation_notes(topology: Topology, reserved: CpuSet) -> list[str]:
    """The kubelet does not know isolcpus: it hands out all online CPUs that are not reserved (policy_static.go)."""
    isolated = topology.isolated
    if not isolated:
        return []
    system = topology.online - isolated
    notes = []
    if reserved & isolated:
        notes.append(
            f"Reserved CPUs {format_cpuset(reserved & isolated)} are isolated (isolcpus): the system runs on CPUs "
            f"{format_cpuset(system)} and not there, so they would idle. Reserve the system's CPUs instead: {format_cpuset(system)}."
        )
    elif system - reserved:
        notes.append(
            f"The system runs on CPUs {format_cpuset(system)}, because the others are isolated (isolcpus), and pods may get "
            f"{format_cpuset(system - reserved)} of them for themselves. Reserve all of the system's CPUs: {format_cpuset(system)}."
        )
    if isolated - reserved:
        notes.append(
            f"CPUs {format_cpuset(isolated - reserved)} are isolated (isolcpus), which the kubelet ignores: it gives them to pods. The "
            "kernel does not spread a container's threads over them, so that these stay on the CPU on which they started. Boot without "
            "isolcpus, unless the programs in the pods pin their threads themselves."
        )
    return notes


_CONFINED = {
    "nohz_full": "The kernel's own work is kept on CPUs {0} (nohz_full)",
    "CPUAffinity": "systemd keeps the system's services on CPUs {0} (CPUAffinity=)",
    "irqaffinity": "The kernel sends interrupts to CPUs {0} (irqaffinity)",
}


def _housekeeping_notes(topology: Topology, reserved: CpuSet) -> list[str]:
    """The kubelet does not know these settings either. What they have in common with isolcpus, its notes tell."""
    notes = []
    for name, cpus in topology.housekeeping.items():
        left = cpus - topology.isolated - reserved
        if topology.isolated and cpus >= topology.online - topology.isolated:
            continue
        confined = _CONFINED[name].format(format_cpuset(cpus))
        if not reserved & cpus:
            notes.append(
                f"{confined}, and none of them is reserved: the reserved CPUs {format_cpuset(reserved)} are little used by it."
            )
        elif left:
            notes.append(f"{confined}, and pods may get {format_cpuset(left)} of them for themselves.")
        else:
            continue
        notes[-1] += f" Reserve {format_cpuset(cpus - topology.isolated)}, or change the setting."
    return notes


def _inequality_notes(topology: Topology) -> list[str]:
    """The kubelet considers a core or a socket free if it has as many free CPUs as cores or sockets have on average, and
    assigns it as a whole (cpu_assignment.go isCoreFree, isSocketFree, takeFullCores, takeFullSockets), even if some of
    its CPUs are taken (kubernetes/kubernetes#140495)."""
    sockets: dict[int | None, int] = {}
    for core in topology.cores:
        sockets[core.socket] = sockets.get(core.socket, 0) + len(core.cpus)
    threads, sizes = topology.thread_counts, sorted(set(sockets.values()))
    effect = "and may give CPUs away that are reserved or another pod's (kubernetes/kubernetes#140495)"
    if len(threads) > 1:
        remedy = "Switch SMT off, so that every core has 1 thread"
        if topology.offline:
            offline = format_cpuset(topology.offline)
            remedy = f"Bring CPUs {offline} online, if they are the missing threads; otherwise switch SMT off"
        return [
            f"The cores of this machine have {_listed(threads)} threads. The kubelet counts with {topology.threads_as_counted}, their "
            f"average rounded down, {effect}. {remedy}."
        ]
    if len(sizes) > 1:
        average = sum(sockets.values()) // len(sockets)
        return [
            f"The sockets of this machine have {_listed(sizes)} CPUs online. The kubelet counts with {average}, their average rounded "
            f"down, {effect}. Bring the same number of CPUs online in each."
        ]
    return []


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
