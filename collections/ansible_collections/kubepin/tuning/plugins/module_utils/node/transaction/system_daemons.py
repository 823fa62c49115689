# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes systemd and irqbalance apply their files at once. From the next boot on, they do so themselves."""

from __future__ import annotations

import typing as t
from functools import partial

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, causes
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    BANNED_LIST,
    DROP_INS,
    IRQBALANCE_FILES,
    CpuSet,
    allowed_cpus,
    banned_cpus,
    systemd_cpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node

FOLLOW_SECONDS = 10
"""How long systemd may take, after its answer, to change a cgroup, or until a restarted service runs its program
(systemd.service(5), Type=simple)."""

_PAUSE_SECONDS = 0.1
_CGROUP = "/sys/fs/cgroup"
"""Where systemd mounts cgroup v2."""
_EFFECTIVE = "cpuset.cpus.effective"
_POSSIBLE = "/sys/devices/system/cpu/possible"
_IRQBALANCE = "irqbalance.service"
_UNITS = {path: unit for unit, path in DROP_INS.items()}


class SystemDaemons:
    """The system daemons of a node whose files a switch has changed or restored.

    :param paths: of all files of the switch; files of other purposes are ignored
    """

    def __init__(self, node: Node, paths: t.Iterable[str]) -> None:
        self._node = node
        self._paths = [path for path in paths if path in _UNITS or path in IRQBALANCE_FILES]

    def follow(self) -> t.List[str]:
        """Apply the files. A failed step does not prevent the others.

        :returns: what was verified
        :raises TuningError: with everything that could not be applied
        """
        found: t.List[Problem] = []
        for path in self._paths:
            try:
                text = self._node.read(path)
                if path in _UNITS:
                    self._confine(_UNITS[path], allowed_cpus(text))
                else:
                    self._node.restart_if_running(_IRQBALANCE)
                    self._wait_for(partial(self._bans, text))  # `verified` says what is wrong
            except (OSError, TuningError) as exc:
                found += causes(exc)
        if found:
            raise TuningError(*found)
        return self.verified()

    def verified(self) -> t.List[str]:
        """What agrees with the files.

        :raises TuningError: with everything that is not
        """
        found: t.List[Problem] = []
        confined: t.Dict[CpuSet, t.List[str]] = {}
        lines = []
        for path in self._paths:
            text = self._node.read(path)
            if path not in _UNITS:
                found += self._ban_problems(text)
                banned = banned_cpus(text)
                lines += [f"irqbalance bans CPUs {format_cpuset(banned)}"] if banned else []
                continue
            unit, wanted = _UNITS[path], allowed_cpus(text)
            if not self._has(unit, wanted):
                found.append(problems.unit_not_confined(unit, self._cpus(unit), format_cpuset(wanted)))
            confined.setdefault(wanted, []).append(unit)
        if found:
            raise TuningError(*found)
        on = [(units, format_cpuset(cpus)) for cpus, units in confined.items()]
        return [*(f"{', '.join(units)} on {f'CPUs {cpus}' if cpus else 'all CPUs'}" for units, cpus in on), *lines]

    def _confine(self, unit: str, wanted: CpuSet) -> None:
        """The command is omitted if nothing has to change, because it leaves a file in /run until the next boot.

        A unit is freed in two steps. While it has processes, systemd does not change its cgroup when AllowedCPUs=
        becomes empty (systemd/systemd#43846), and the kernel refuses to empty it (ENOSPC: kernel/cgroup/cpuset.c,
        validate_change). So it gets every CPU that the machine can have, and then AllowedCPUs= is empty as before.
        """
        if self._has(unit, wanted) and systemd_cpus(self._node.allowed_cpus(unit)) == wanted:
            return
        self._set(unit, format_cpuset(wanted) or self._read(_POSSIBLE), wanted)
        if not wanted:
            self._set(unit, "", wanted)

    def _set(self, unit: str, cpus: str, wanted: CpuSet) -> None:
        self._node.set_allowed_cpus(unit, cpus)
        if not self._wait_for(lambda: self._has(unit, wanted)):
            raise TuningError(problems.unit_not_confined(unit, self._cpus(unit), format_cpuset(wanted)))

    def _wait_for(self, follows: t.Callable[[], bool]) -> bool:
        """Whether it is done within FOLLOW_SECONDS."""
        deadline = self._node.monotonic() + FOLLOW_SECONDS
        while not follows():
            if self._node.monotonic() >= deadline:
                return False
            self._node.sleep(_PAUSE_SECONDS)
        return True

    def _has(self, unit: str, wanted: CpuSet) -> bool:
        """Whether the unit's processes have these CPUs (none: all of the machine); true if it has no processes."""
        if not self._node.exists(f"{_CGROUP}/{unit}"):
            return True
        try:
            expected = wanted or parse_cpuset(self._read(f"{_CGROUP}/{_EFFECTIVE}"))
            # without the file, the controller is off, and nothing is restricted
            return parse_cpuset(self._cpus(unit)) in (expected, *([] if wanted else [frozenset()]))
        except CpusetError:
            return False

    def _cpus(self, unit: str) -> str:
        return self._read(f"{_CGROUP}/{unit}/{_EFFECTIVE}")

    def _read(self, path: str) -> str:
        return (self._node.read(path) or "").strip()

    def _bans(self, text: t.Optional[str]) -> bool:
        return not self._ban_problems(text)

    def _ban_problems(self, text: t.Optional[str]) -> t.List[Problem]:
        """What is wrong with the ban list of the running irqbalance; nothing if none runs."""
        banned = banned_cpus(text)
        pid = self._node.main_pid(_IRQBALANCE)
        environment = (self._node.read(f"/proc/{pid}/environ") or "").split("\0") if pid else []
        if not any(environment) or banned is None or f"{BANNED_LIST}={format_cpuset(banned)}" in environment:
            return []
        return [problems.ban_not_in_force(_IRQBALANCE, str(pid))]
