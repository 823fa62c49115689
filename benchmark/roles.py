# SPDX-License-Identifier: GPL-3.0-or-later
"""What an arm stands for, from its name GROUP-THREADS. Pure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

from . import terms, wording
from .experiment import ArmRole, Question
from .pod.cpulist import parse_list
from .pod.words import count
from .results import InputError, ResultSet, Scalar

AUTO = "auto"
SHARED = ("quota", "none", "fractional")
"""Groups with a CPU limit on shared CPUs."""
PINNED = ("cpuset", "static", "integer")
"""Groups with exclusive CPUs."""
COMPARED: Mapping[Question, tuple[ArmRole, ArmRole]] = {
    Question.SIDES: (ArmRole.A, ArmRole.B),
    Question.WHOLE: (ArmRole.TODAY, ArmRole.EXCLUSIVE),
    Question.THREADS: (ArmRole.TODAY, ArmRole.THREADS),
    Question.EXCLUSIVE: (ArmRole.THREADS, ArmRole.EXCLUSIVE),
}
"""The arms that a question compares: the reference first."""
STEPS = (Question.THREADS, Question.EXCLUSIVE)


def split(arm: str) -> tuple[str, str]:
    """Group and threads of an arm named group-threads; threads is auto, a number, or empty if the name has neither."""
    group, dash, threads = arm.rpartition("-")
    return (group, threads) if dash and (threads == AUTO or threads.isdigit()) else (arm, "")


def role(arm: str) -> ArmRole | None:
    """The role that a name stands for; None for a name that says nothing about CPUs."""
    group, threads = split(arm)
    if group in PINNED and threads:
        return ArmRole.EXCLUSIVE
    if group in SHARED and threads:
        return ArmRole.TODAY if threads == AUTO else ArmRole.THREADS
    return None


def shown_name(arm: str) -> str:
    """What readers call an arm, such as "threads set, 8 threads"; a name that stands for nothing stays as it is."""
    own, threads = role(arm), split(arm)[1]
    if own is None:
        return arm
    return terms.arm(own, {}).short + (f", {count(int(threads), 'thread')}" if threads.isdigit() else "")


def by_role(arms: Mapping[str, ResultSet]) -> dict[ArmRole, str]:
    """The arm of each role. Of several numbers of threads, it is the one that equals the CPU limit, else the first.

    :raises InputError: if two groups have the same role, or if no arm has one
    """
    found: dict[ArmRole, list[str]] = {}
    for arm in arms:
        own = role(arm)
        if own is not None:
            found.setdefault(own, []).append(arm)
    if not found:
        raise InputError([wording.no_roles(arms, (*SHARED, *PINNED))])
    problems = [
        wording.two_groups(own, names) for own, names in found.items() if len({split(arm)[0] for arm in names}) > 1
    ]
    if problems:
        raise InputError(problems)
    return {own: min(found[own], key=lambda arm: _rank(arm, arms[arm])) for own in ArmRole if own in found}


def _rank(arm: str, results: ResultSet) -> int:
    """Numbers that equal the CPU limit come first, then other numbers, then auto."""
    threads = split(arm)[1]
    if threads == AUTO:
        return 2
    return 0 if int(threads) == math.floor(cpu_limit(results.environment) or 0) else 1


def number(environment: Mapping[str, Scalar], key: str) -> float | None:
    """A number of an environment; None if it is unknown, or if the processes of an arm disagree."""
    value = environment.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def cpu_count(environment: Mapping[str, Scalar]) -> float | None:
    """How many CPUs the process could run on: the fewer of its cgroup's and its affinity's; None if unknown."""
    effective = environment.get("cpus_effective")
    counts = [number(environment, "cpus_allowed")]
    if isinstance(effective, str) and effective:
        with contextlib.suppress(ValueError):
            counts.append(len(parse_list(effective)))
    return min((count for count in counts if count is not None), default=None)


def cpu_limit(environment: Mapping[str, Scalar]) -> float | None:
    """How many CPUs may be used at a time: the smaller of affinity and quota, as far as known."""
    known = [cpu_count(environment), number(environment, "quota_cpus")]
    return min((value for value in known if value is not None), default=None)
