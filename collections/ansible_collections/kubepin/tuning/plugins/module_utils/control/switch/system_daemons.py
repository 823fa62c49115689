# SPDX-License-Identifier: GPL-3.0-or-later
"""System daemons on the reserved CPUs, and interrupts off the exclusive CPUs: what a switch changes, and what remains. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    IRQBALANCE_FILES,
    UNITS,
    BanRefused,
    banned_cpus,
    drop_in,
    is_ours,
    systemd_cpus,
    with_ban,
    without_ban,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

FIRST_WITH_BAN_LIST = (1, 8)
"""The first irqbalance that supports IRQBALANCE_BANNED_CPULIST."""

_MOST_NAMES = 4
"""How many examples a note has."""


@dataclass(frozen=True)
class Irqbalance:
    """An irqbalance that is installed."""

    active: bool
    file: str | None
    """Its environment file; None if it is not one of the known files."""
    version: tuple[int, int] | None


@dataclass(frozen=True)
class Work:
    """Interrupts or kernel threads that may run on the same CPUs."""

    cpus: CpuSet
    count: int
    names: tuple[str, ...]
    """Some of their names."""


@dataclass(frozen=True)
class SystemDaemons:
    """What a node says about its system daemons, interrupts and kernel threads."""

    texts: t.Mapping[str, str | None]
    """Path -> text (None: absent) of every file that kubepin may write for them."""
    has_cpusets: bool
    """Whether the node has cgroup v2 with CPU sets."""
    allowed: t.Mapping[str, CpuSet]
    """Unit -> AllowedCPUs=, empty if it is not restricted; empty if systemd does not know it."""
    effective: t.Mapping[str, CpuSet]
    """Unit -> the CPUs on which its processes run; without units that have no cgroup with CPU sets."""
    affinities: t.Mapping[str, CpuSet]
    """Service -> CPUAffinity=."""
    irqbalance: Irqbalance | None
    irqs: tuple[Work, ...]
    kernel_threads: tuple[Work, ...]
    workqueues: CpuSet
    """The CPUs of unbound workqueues; empty if unknown."""

    @classmethod
    def of(cls, facts: t.Mapping[str, t.Any]) -> SystemDaemons:
        """From what `kubelet_switch_info` returns as `system_daemons`.

        :raises CpusetError: if the node names CPUs in a form that is not known
        """
        units = facts["units"].items()
        balance = facts["irqbalance"]
        return cls(
            texts=facts["texts"],
            has_cpusets=facts["cgroup_version"] == 2 and facts["has_cpusets"],
            allowed={unit: systemd_cpus(each["allowed"]) for unit, each in units if each["allowed"] is not None},
            effective={unit: parse_cpuset(each["effective"]) for unit, each in units if each["effective"] is not None},
            affinities={service: systemd_cpus(cpus) for service, cpus in facts["affinities"].items()},
            irqbalance=_irqbalance(balance) if balance else None,
            irqs=tuple(_work(each, each["allowed"]) for each in facts["irqs"]),
            kernel_threads=tuple(_work(each, each["cpus"]) for each in facts["kernel_threads"]),
            workqueues=parse_cpuset(facts["workqueues"]),
        )


def _irqbalance(facts: t.Mapping[str, t.Any]) -> Irqbalance:
    file = next((file for file in facts["environment_files"] if file in IRQBALANCE_FILES), None)
    version = facts["version"]
    return Irqbalance(facts["active"], file, (version[0], version[1]) if version else None)


def _work(facts: t.Mapping[str, t.Any], cpus: str) -> Work:
    return Work(parse_cpuset(cpus), facts["count"], tuple(facts["names"]))


@dataclass(frozen=True)
class DesiredDaemons:
    """What the operator asks for. None keeps the node's setting, and applies it to the CPUs that will be reserved."""

    found: SystemDaemons | None
    """None if nothing is requested, and the node has none of it."""
    slices: bool | None = None
    """Whether system daemons are confined to the reserved CPUs."""
    irqbalance: bool | None = None
    """Whether irqbalance bans the exclusive CPUs."""


@dataclass(frozen=True)
class DaemonsPlan:
    """Changes of files, or every problem."""

    files: t.Sequence[FileChange] = ()
    problems: t.Sequence[Problem] = ()
    notes: t.Sequence[str] = ()
    deviations: t.Mapping[str, CpuSet] = field(default_factory=dict)
    """Unit that should be confined -> the CPUs on which it runs instead."""


def plan_daemons(
    desired: DesiredDaemons, topology: Topology, now: Config, policy: str, reserved: CpuSet | None
) -> DaemonsPlan:
    """What confines system daemons and interrupts, or releases them.

    :param now: the kubelet's effective configuration
    :param policy: the CPU manager policy that is desired
    :param reserved: the CPUs that will be reserved; None if they are refused for another reason
    """
    found = desired.found
    if found is None:
        return DaemonsPlan()
    static = policy == "static"
    has_slices = any(is_ours(found.texts[path]) for path in DROP_INS.values())
    has_ban = any(is_ours(found.texts[path]) for path in IRQBALANCE_FILES)
    slices = static and has_slices if desired.slices is None else desired.slices
    ban = static and has_ban if desired.irqbalance is None else desired.irqbalance
    refused = [
        *([problems.nothing_reserved("system_slices", policy)] if slices and not static else []),
        *([problems.nothing_reserved("irqbalance", policy)] if ban and not static else []),
        *(_unit_problems(found, now) if slices else []),
        *(_irqbalance_problems(found) if ban else []),
    ]
    if reserved is not None and (slices or ban):
        refused += _reservation_problems(found, topology, reserved, slices)
    if refused or (static and reserved is None):
        return DaemonsPlan(problems=refused)
    exclusive = topology.online - (reserved or frozenset())
    try:
        files = [
            *(_confined(found, reserved or frozenset()) if slices else _freed(found)),
            *(_banned(found, exclusive) if ban else _unbanned(found)),
        ]
    except TuningError as exc:
        return DaemonsPlan(problems=exc.problems)
    return DaemonsPlan(
        files=files,
        notes=_notes(found, exclusive, slices, ban) if slices or ban else [],
        deviations={unit: cpus for unit, cpus in found.effective.items() if cpus != reserved} if slices else {},
    )


def _unit_problems(found: SystemDaemons, now: Config) -> t.Iterator[Problem]:
    if not found.has_cpusets:
        yield problems.no_cpusets()
        return
    if not found.allowed:
        yield problems.systemd_without_allowed_cpus()
    for unit, cpus in found.allowed.items():
        text = found.texts[DROP_INS[unit]]
        if cpus and not is_ours(text):
            yield problems.unit_restricted(unit, format_cpuset(cpus))
    root = str(now.get("cgroupRoot") or "/").strip("/")
    for unit in UNITS:
        if root.partition("/")[0] in (unit, unit.partition(".")[0]):
            yield problems.pods_below_unit(unit, root)


def _reservation_problems(
    found: SystemDaemons, topology: Topology, reserved: CpuSet, slices: bool
) -> t.Iterator[Problem]:
    """systemd sets CPUAffinity= when it starts a service, which the kernel refuses if the cgroup has none of these
    CPUs (kernel/sched/syscalls.c, __sched_setaffinity): the service would not start."""
    isolated = reserved & topology.isolated
    if isolated:
        yield problems.reserved_isolated(format_cpuset(isolated))
    if not slices:
        return
    manager = topology.housekeeping.get("CPUAffinity")
    pinned = {**({"system.conf": manager} if manager else {}), **found.affinities}
    for service, cpus in sorted(pinned.items()):
        if not cpus & reserved:
            yield problems.affinity_elsewhere(service, format_cpuset(cpus), format_cpuset(reserved))


def _irqbalance_problems(found: SystemDaemons) -> t.Iterator[Problem]:
    balance = found.irqbalance
    if balance is None:
        yield problems.irqbalance_missing()
        return
    if balance.file is None:
        yield problems.irqbalance_without_file(IRQBALANCE_FILES)
    if balance.version and balance.version < FIRST_WITH_BAN_LIST:
        yield problems.irqbalance_old(_dotted(balance.version), _dotted(FIRST_WITH_BAN_LIST))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _confined(found: SystemDaemons, reserved: CpuSet) -> list[FileChange]:
    texts = {unit: drop_in(unit, reserved) for unit in found.allowed}
    return _changes(
        {DROP_INS[unit]: text for unit, text in texts.items()}, found, "system daemons on the reserved CPUs"
    )


def _freed(found: SystemDaemons) -> list[FileChange]:
    ours = [path for path in DROP_INS.values() if is_ours(found.texts[path])]
    return _changes(dict.fromkeys(ours), found, "system daemons on all CPUs")


def _banned(found: SystemDaemons, exclusive: CpuSet) -> list[FileChange]:
    """:raises TuningError: if nothing can be added to the file"""
    assert found.irqbalance is not None, "else there is a problem"
    path = str(found.irqbalance.file)
    try:
        text = with_ban(found.texts[path], exclusive)
    except BanRefused as exc:
        raise TuningError(problems.irqbalance_file_unusual(path, str(exc))) from exc
    return _changes({path: text}, found, "no interrupts on the exclusive CPUs")


def _unbanned(found: SystemDaemons) -> list[FileChange]:
    ours = {path: found.texts[path] for path in IRQBALANCE_FILES if is_ours(found.texts[path])}
    texts = {path: without_ban(text or "") for path, text in ours.items()}
    return _changes(texts, found, "interrupts on all CPUs")


def _changes(texts: t.Mapping[str, str | None], found: SystemDaemons, reason: str) -> list[FileChange]:
    return [
        FileChange(path, found.texts[path], text, reason) for path, text in texts.items() if found.texts[path] != text
    ]


def _notes(found: SystemDaemons, exclusive: CpuSet, slices: bool, ban: bool) -> list[str]:
    """What may still run on the exclusive CPUs, and how to move it. kubepin itself moves neither kernel threads nor interrupts."""
    notes = []
    cpus = format_cpuset(exclusive)
    irqs, threads = _on(found.irqs, exclusive), _on(found.kernel_threads, exclusive)
    if irqs.count:
        total = sum(each.count for each in found.irqs)
        notes.append(
            f"{irqs.count} of {counted(total, 'interrupt')} may go to the exclusive CPUs {cpus} ({_examples(irqs)})."
        )
        notes[-1] += _advice(found, ban)
    if threads.count:
        notes.append(
            f"{threads.count} kernel threads that are not bound to a CPU may run on the exclusive CPUs {cpus} "
            f"({_examples(threads)}). kubepin does not move them. To move them, boot with nohz_full or isolcpus, or use `taskset`."
        )
    if found.workqueues & exclusive:
        notes.append(
            f"Unbound workqueues of the kernel run on CPUs {format_cpuset(found.workqueues)}, which include exclusive ones."
            f" To move them until the next boot, write a mask to /sys/devices/virtual/workqueue/cpumask."
        )
    missing = [unit for unit in UNITS if slices and unit not in found.allowed]
    if missing:
        notes.append(f"systemd does not know {', '.join(missing)}, so kubepin does not confine it.")
    return notes


def _advice(found: SystemDaemons, ban: bool) -> str:
    balance = found.irqbalance
    if balance is None:
        return " irqbalance is not installed: each stays on the CPUs in /proc/irq/N/smp_affinity_list."
    banned = format_cpuset(_banned_now(found) or ())
    if ban:
        started = "" if balance.active else " It is not running: start it."
        return f" irqbalance will keep the interrupts that it places off those CPUs. Those that the kernel manages itself stay.{started}"
    return f" irqbalance bans {f'CPUs {banned}' if banned else 'no CPUs by its own file'}: cpu_manager_irqbalance adds them."


def _banned_now(found: SystemDaemons) -> CpuSet | None:
    try:
        return banned_cpus(found.texts.get(found.irqbalance.file or "") if found.irqbalance else None)
    except CpusetError:
        return None


def _on(works: t.Iterable[Work], exclusive: CpuSet) -> Work:
    there = [each for each in works if each.cpus & exclusive]
    names = tuple(name for each in there for name in each.names)
    return Work(exclusive, sum(each.count for each in there), names)


def _examples(work: Work) -> str:
    shown = list(dict.fromkeys(work.names))[:_MOST_NAMES]
    return ", ".join([*shown, *(["..."] if work.count > len(shown) else [])])


def wants_daemons(params: t.Mapping[str, t.Any]) -> bool:
    """Whether the arguments of kubelet_cpu_manager or node_check_info request any of this."""
    return params["system_slices"] is not None or params["irqbalance"] is not None


def desired_daemons(params: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any] | None) -> DesiredDaemons:
    """What the arguments ask for, on a node with these facts (None: nothing is requested, or present)."""
    found = SystemDaemons.of(facts) if facts else None
    return DesiredDaemons(found, params["system_slices"], params["irqbalance"])
