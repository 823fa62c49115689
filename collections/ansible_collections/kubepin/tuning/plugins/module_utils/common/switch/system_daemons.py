# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the files that keep system daemons and interrupts off the exclusive CPUs, and what they say.

kubepin writes its own drop-in file, instead of a persistent `systemctl set-property`: the journal knows its path and text,
a rename undoes it, and it also persists for init.scope, whose properties systemd only keeps until the next boot
(systemd/systemd#31150).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import parse_environment

CpuSet = t.FrozenSet[int]

UNITS = ("system.slice", "user.slice", "init.scope")
"""Everything that systemd runs, except pods: these are siblings of kubepods.slice, or of /kubepods (systemd.special(7),
pkg/kubelet/cm/node_container_manager_linux.go)."""

DROP_INS = {unit: f"/etc/systemd/system/{unit}.d/90-kubepin.conf" for unit in UNITS}

IRQBALANCE_FILES = ("/etc/default/irqbalance", "/etc/sysconfig/irqbalance")
"""The environment files of irqbalance.service on Debian and Red Hat."""

BANNED_LIST, BANNED_MASK = "IRQBALANCE_BANNED_CPULIST", "IRQBALANCE_BANNED_CPUS"
"""The mask, if it is not empty, takes precedence over the list (irqbalance cputree.c, setup_banned_cpus)."""

_MARK = "# Written by kubepin"
_BLOCK = re.compile(rf"^{_MARK}: .*\n(?:IRQBALANCE_\w+=.*\n)*", re.MULTILINE)
_ALLOWED = re.compile(r"^[ \t]*AllowedCPUs[ \t]*=(.*)$", re.MULTILINE)


class BanRefused(ValueError):
    """Nothing can be added to the environment of irqbalance, for this reason."""


def is_ours(text: t.Optional[str]) -> bool:
    """Whether kubepin wrote the drop-in, or a part of the file."""
    return text is not None and _MARK in text


def drop_in(unit: str, cpus: CpuSet) -> str:
    """The drop-in that confines a unit to these CPUs. Without the empty assignment, they would be added to those of other
    drop-ins (systemd.resource-control(5), AllowedCPUs=)."""
    section = "Scope" if unit.endswith(".scope") else "Slice"
    return f"{_MARK}.\n[{section}]\nAllowedCPUs=\nAllowedCPUs={format_cpuset(cpus)}\n"


def allowed_cpus(text: t.Optional[str]) -> CpuSet:
    """The CPUs that a drop-in allows; none if it does not exist, or restricts nothing.

    :raises CpusetError: if it names something else
    """
    cpus: CpuSet = frozenset()
    for value in _ALLOWED.findall(text or ""):
        cpus = cpus | systemd_cpus(value) if value.strip() else frozenset()
    return cpus


def systemd_cpus(text: str) -> CpuSet:
    """CPUs as systemd writes and takes them, with spaces or commas between ranges.

    :raises CpusetError: if it is anything else
    """
    return parse_cpuset(",".join(text.replace(",", " ").split()))


def banned_cpus(text: t.Optional[str]) -> t.Optional[CpuSet]:
    """The CPUs of irqbalance's ban list; None without a list, or if a mask overrides it.

    :raises CpusetError: if the list names something else
    """
    environment = parse_environment(text or "")
    if environment.get(BANNED_MASK) or not environment.get(BANNED_LIST):
        return None
    return parse_cpuset(environment[BANNED_LIST])


def with_ban(text: t.Optional[str], cpus: CpuSet) -> str:
    """The environment of irqbalance (None: no file) with this ban list. All other lines stay: the last assignment wins.

    :raises BanRefused: if the file ends within a quote
    """
    content = without_ban(text or "")
    if content and not content.endswith("\n"):
        content += "\n"
    # so that a backslash at the end of the last line does not join it with the new ones
    content += "\n" if content.endswith("\\\n") else ""
    mask = f"{BANNED_MASK}=\n" if parse_environment(content).get(BANNED_MASK) else ""
    result = f"{content}{_MARK}: the CPUs of pods.\n{BANNED_LIST}={format_cpuset(cpus)}\n{mask}"
    if banned_cpus(result) != cpus:
        raise BanRefused("it ends within a quoted value")
    return result


def without_ban(text: str) -> str:
    """The environment of irqbalance without what kubepin has added."""
    return _BLOCK.sub("", text)
