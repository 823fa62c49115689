# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the tenants of a full node, their loads, and the barrier at which they begin together.

The program's side of the barrier is described in benchmark/pod/slots.py.
"""

from __future__ import annotations

import hashlib
import random
import typing as t

SOLO, FULL, BUSY = LOADS = ("solo", "full", "busy")


def load_problem(name: str, loads: t.Sequence[str]) -> str:
    """What is wrong with a list of loads, as a sentence; empty if nothing is.

    :param name: how the user calls the list
    """
    if loads and set(loads) <= set(LOADS) and len(set(loads)) == len(loads):
        return ""
    return f"{name} is {', '.join(loads) or 'empty'}: expected some of {', '.join(LOADS)}, each once."


def measured_loads(loads: t.Sequence[str], tenants: int) -> t.List[str]:
    """The loads without those that are the same with this number of tenants: one tenant alone fills its node."""
    return [load for load in loads if not (tenants == 1 and load == FULL and SOLO in loads)]


def shares_node(loads: t.Sequence[str]) -> bool:
    """Whether anything runs beside the first tenant."""
    return list(loads) != [SOLO]


def load_order(loads: t.Sequence[str], run_id: str, number: int) -> t.List[str]:
    """The order of the loads in round `number`, from 1: random in odd rounds, reversed in even ones.

    All arms of a round have the same order, and a drift over two rounds affects all loads equally.
    """
    seed = hashlib.sha256(f"{run_id} {(number - 1) // 2}".encode()).digest()
    order = list(loads)
    random.Random(int.from_bytes(seed, "big")).shuffle(order)
    return order if number % 2 else order[::-1]


def busy_threads(cpus: int, taken: int) -> int:
    """Threads of the busy neighbours, always more than the tenants leave CPUs: those, and half as many as they have.

    :param cpus: CPUs of the node
    :param taken: CPUs of all tenants together
    """
    return max(1, cpus - taken + (taken + 1) // 2)


def cpu_shares(cpus: float) -> int:
    """cpu.shares that the kubelet gives to a request of `cpus` (MilliCPUToShares, pkg/kubelet/cm/helpers_linux.go)."""
    return max(2, int(cpus * 1024))


def cpu_weight(shares: int) -> int:
    """cpu.weight of cgroup v2 for cpu.shares, by the formula of the kubelet (pkg/kubelet/cm/cgroup_manager_linux.go)."""
    return 1 + (min(shares, 262144) - 2) * 9999 // 262142


class Phase(t.NamedTuple):
    """One load of one arm of one round; the arm's name ends in its thread setting."""

    arm: str
    round: int
    load: str

    @classmethod
    def of(cls, line: t.Mapping[str, t.Any]) -> Phase:
        """The phase that a line of kind "ready" is about."""
        return cls(str(line["arm"]), int(line["round"]), str(line["load"]))


class Barrier:
    """Says which phase is to be announced: the next one, once each tenant that still runs waits for one."""

    def __init__(self, tenants: int) -> None:
        self._waiting: t.Dict[int, t.Optional[Phase]] = dict.fromkeys(range(tenants))
        self._seen: t.List[Phase] = []
        self._begun: t.List[t.Tuple[Phase, float]] = []

    def ready(self, tenant: int, phase: Phase) -> None:
        """A tenant waits for a phase."""
        self._waiting[tenant] = phase
        if phase not in self._seen:
            self._seen.append(phase)

    def ended(self, tenant: int) -> None:
        """A tenant's program has ended: the others go on without it, and what they measure from now on is void."""
        self._waiting.pop(tenant, None)

    def due(self) -> t.Optional[Phase]:
        """The phase to announce; None while a tenant works.

        A tenant whose process failed waits for a later phase than the others. The earlier phase goes first, so that
        nobody waits for ever.
        """
        waiting = list(self._waiting.values())
        if not waiting or None in waiting:
            return None
        return min((phase for phase in waiting if phase is not None), key=self._seen.index)

    def announce(self, phase: Phase, begin: float) -> str:
        """Let a phase begin at `begin`, in seconds since 1970; returns the new text of the start file."""
        self._begun.append((phase, begin))
        for tenant, waits_for in self._waiting.items():
            if waits_for == phase:
                self._waiting[tenant] = None
        return "".join(f"{arm} {number} {load} {moment:.3f}\n" for (arm, number, load), moment in self._begun)
