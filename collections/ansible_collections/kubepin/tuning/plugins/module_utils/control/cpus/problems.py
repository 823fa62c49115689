# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a reservation of CPUs."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

_MOST_TOLD = 10


def topology_unreadable(found: t.Sequence[str]) -> Problem:
    """:param found: what cannot be read, one or more"""
    more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return Problem(
        "topology_unreadable",
        "the topology",
        f"cannot be read: {'; '.join(found[:_MOST_TOLD])}{more}",
        "Give `topology` of this version's module kubepin.tuning.cpu_topology_info as it is.",
    )


def _asked(reserved: str) -> str:
    return f'reserved_cpus "{reserved}"'


def list_and_count(reserved: str, count: int) -> Problem:
    return Problem(
        "reserved_cpus_and_count",
        _asked(reserved),
        f"and reserved_cpu_count {count} exclude each other",
        "Give the list, or `auto` with a count.",
    )


def not_a_list(reserved: str, reason: object) -> Problem:
    return Problem("reserved_cpus_invalid", f"{_asked(reserved)}:", str(reason))


def empty(reserved: str) -> Problem:
    return Problem(
        "no_cpu_reserved",
        _asked(reserved),
        "is empty, and the static policy needs at least one reserved CPU",
        "Name one core, or use `auto`.",
    )


def offline(reserved: str, absent: str, online: str) -> Problem:
    return Problem(
        "reserved_cpus_offline",
        _asked(reserved),
        f"names CPUs that are not online on this node: {absent} (online: {online})",
    )


def splits_core(reserved: str, threads: t.Sequence[int], whole: str) -> Problem:
    return Problem(
        "reserved_cpus_split_core",
        _asked(reserved),
        f"splits core {threads[0]} (CPUs {' and '.join(map(str, threads))})",
        f'Reserve "{whole}", or use `auto`.',
    )


def nothing_left(reserved: str, online: str) -> Problem:
    return Problem(
        "no_cpu_left_for_pods",
        _asked(reserved),
        f"leaves no CPU for pods (online: {online})",
        "Reserve fewer cores.",
    )


def too_few_cores(cores: int, online: str) -> Problem:
    return Problem(
        "too_few_cores",
        "this node",
        f"has {counted(cores, 'core')} online (CPUs {online or 'unknown'}), and the static policy needs one for the "
        "system and one for pods",
        "Leave the node out with --limit.",
    )


def count_too_low(count: int) -> Problem:
    return Problem(
        "reserved_cpu_count_invalid",
        f"reserved_cpu_count {count}",
        "is too low: expected 1 or more, because the static policy needs a reserved CPU",
    )


def count_splits_core(count: int, threads: str, lower: int, higher: int) -> Problem:
    choice = f"{lower} or {higher}" if lower != higher else str(higher)
    return Problem(
        "reserved_cpu_count_splits_core",
        f"reserved_cpu_count {count}",
        f"splits a core: cores of this node have {threads} and are reserved whole",
        f"Use {choice}.",
    )


def isolated_needed(needed: int, system: str, isolated: str) -> Problem:
    return Problem(
        "reserved_cpus_isolated",
        f"a reservation of {counted(needed, 'CPU')}",
        f"takes more than the CPUs on which the system runs ({system}): the others are isolated (isolcpus: {isolated})",
        "Lower reserved_cpu_count, or the node's kubeReserved and systemReserved; name the CPUs in reserved_cpus; or boot with fewer "
        "isolated CPUs.",
    )


def count_leaves_nothing(needed: int, online: str) -> Problem:
    return Problem(
        "no_cpu_left_for_pods",
        f"a reservation of {counted(needed, 'CPU')}",
        f"leaves no core for pods (online: {online})",
        "Lower reserved_cpu_count, or the node's kubeReserved and systemReserved.",
    )
