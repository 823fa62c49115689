# SPDX-License-Identifier: GPL-3.0-or-later
"""Where system daemons, interrupts and kernel threads of this machine may run. Read-only.

The files are those of Documentation/admin-guide/cgroup-v2.rst, core-api/irq/irq-affinity.rst, core-api/workqueue.rst
and proc(5).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import UNITS
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import Run
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import (
    Folder,
    SystemFiles,
    parse_mask,
)

Report = t.Dict[str, t.Any]

_CGROUP = "sys/fs/cgroup"
_MOST_NAMES = 3
"""How many names of a group of interrupts or kernel threads are returned."""
_IRQ_FILES = {
    "affinity_hint",
    "effective_affinity",
    "effective_affinity_list",
    "node",
    "smp_affinity",
    "smp_affinity_list",
    "spurious",
}
"""Besides these files, the folder of an interrupt has a folder for each device that uses it (kernel/irq/proc.c)."""
_KERNEL_THREAD, _FIXED = 0x00200000, 0x04000000
"""PF_KTHREAD and PF_NO_SETAFFINITY (include/linux/sched.h): whose CPUs cannot be changed."""
_FLAGS_FIELD = 6
"""The index in /proc/PID/stat, counted from the state on."""
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S+)$", re.MULTILINE)
_SLICE_OF_UNITS = re.compile(r"(?:system|user)[-.]")
"""system.slice, user.slice, and those below them (systemd.slice(5))."""
_ENVIRONMENT_FILE = re.compile(r"^EnvironmentFiles=(/\S+)", re.MULTILINE)
"""A line for each file."""
_VERSION = re.compile(r"(\d+)\.(\d+)", re.ASCII)


def read_system_daemons(run: Run, root: str = "/") -> Report:
    """Everything that confines system work to some CPUs, and what may run where.

    ``allowed`` and ``effective`` of a unit are null if systemd does not know AllowedCPUs=, or the unit has no cgroup
    with CPU sets. Interrupts and kernel threads are grouped by their CPUs, with some of their names. Kernel threads that are
    bound to their CPUs are left out.

    :param run: as `commands.runner` makes it
    :param root: where the machine's files are
    """
    files = Folder(root)
    controllers = files.text(f"{_CGROUP}/cgroup.controllers")
    shown = {unit["Id"]: unit for unit in _show(run, [*UNITS], ["Id", "AllowedCPUs"]) if "Id" in unit}
    services = _show(run, ["*.service"], ["Id", "CPUAffinity", "Slice"])
    return {
        "cgroup_version": 1 if controllers is None else 2,
        "has_cpusets": "cpuset" in (controllers or "").split(),
        "units": {
            unit: {
                "allowed": shown.get(unit, {}).get("AllowedCPUs"),
                "effective": files.text(f"{_CGROUP}/{unit}/cpuset.cpus.effective"),
            }
            for unit in UNITS
        },
        "affinities": {
            each["Id"]: each["CPUAffinity"]
            for each in services
            if each.get("CPUAffinity") and _SLICE_OF_UNITS.match(each.get("Slice", ""))
        },
        "irqbalance": _irqbalance(run),
        "irqs": _irqs(files),
        "kernel_threads": _kernel_threads(files),
        "workqueues": format_cpuset(parse_mask(files.text("sys/devices/virtual/workqueue/cpumask") or "")),
    }


def _show(run: Run, units: t.List[str], names: t.List[str]) -> t.List[t.Dict[str, str]]:
    """Properties of units; unknown ones are omitted."""
    properties = [argument for name in names for argument in ("-p", name)]
    _code, out, _err = run(["systemctl", "show", *units, *properties])
    blocks = out.split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def _irqbalance(run: Run) -> t.Optional[Report]:
    """Whether irqbalance runs, which files name its environment, and its version; None if it is not installed."""
    _code, shown, _err = run(
        ["systemctl", "show", "irqbalance.service", "-p", "LoadState", "-p", "ActiveState", "-p", "EnvironmentFiles"]
    )
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        return None
    code, out, err = run(["irqbalance", "--version"])
    match = _VERSION.search(out or err) if code == 0 else None
    return {
        "active": found.get("ActiveState") == "active",
        "environment_files": _ENVIRONMENT_FILE.findall(shown),
        "version": [int(match[1]), int(match[2])] if match else None,
    }


def _irqs(files: SystemFiles) -> t.List[Report]:
    groups: t.Dict[t.Tuple[str, str], t.List[str]] = {}
    for number in files.numbered("proc/irq", ""):
        folder = f"proc/irq/{number}"
        allowed = files.text(f"{folder}/smp_affinity_list")
        devices = [name for name in files.names(folder) if name not in _IRQ_FILES]
        if allowed is None or not devices:
            continue
        effective = files.text(f"{folder}/effective_affinity_list") or allowed
        groups.setdefault((allowed, effective), []).append(f"{number} {', '.join(devices)}")
    return [
        {"allowed": allowed, "effective": effective, "count": len(found), "names": found[:_MOST_NAMES]}
        for (allowed, effective), found in groups.items()
    ]


def _kernel_threads(files: SystemFiles) -> t.List[Report]:
    groups: t.Dict[str, t.List[str]] = {}
    for pid in files.numbered("proc", ""):
        name, _unused, rest = (files.text(f"proc/{pid}/stat") or "").partition("(")[2].rpartition(") ")
        fields = rest.split()
        flags = int(fields[_FLAGS_FIELD]) if len(fields) > _FLAGS_FIELD else 0
        if not flags & _KERNEL_THREAD or flags & _FIXED:
            continue
        allowed = _ALLOWED.search(files.text(f"proc/{pid}/status") or "")
        if allowed:
            groups.setdefault(allowed[1], []).append(name)
    return [{"cpus": cpus, "count": len(found), "names": found[:_MOST_NAMES]} for cpus, found in groups.items()]
