# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether arms may be compared at all: what they are, what else differed, and what else ran. Pure.

- An arm is what its name says, by what its processes read back: CPUs (cpuset.cpus.effective and the affinity mask),
  quota and number of threads.
- The settings in SETTINGS are equal, except those that are allowed to differ by name.
- All processes of an arm computed on the same device. A pod that loses its GPU must not go on with the CPU.
- On a node with one tenant, work of others does not differ much between the arms: a program beside one half of a
  measurement once made it say 5.90x. On a full node the others are a part of what is measured.
- With one tenant and on a full node, the speed of a CPU does not differ, as far as the rounds prove it. With busy neighbours
  it cannot be compared: they always have the other thread of a shared core, and never that of an exclusive one.
- Heat or the power supply slows the GPU about as often in each arm, and the control does not move.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from . import wording
from .analysis import Estimate, Verdict
from .experiment import ArmRole, Invalid, InvalidCode, Load
from .measures import rates
from .results import ResultSet, Scalar
from .roles import cpu_count, cpu_limit, number, role, split
from .statistics import estimate, geometric_mean

GPU = "gpu"
DEVICE = "device"
_OF_DEVICE = frozenset({GPU, "driver", "cudnn", "image_size", "workers"})
SETTINGS = (DEVICE, GPU, "driver", "torch", "cudnn", "image_size", "workers")
"""Keys of the environment on which arms must agree. The batch size is a part of each cell."""
OTHERS_PER_CPU = 0.3
"""CPUs that others keep busy, for each CPU that the arm may use: a larger difference is invalid."""
SPEED = 0.10
"""A difference of the reference loop that is proven to be larger, as a share, is invalid."""
GPU_SLOWED_MARGIN = 0.1


def invalid(
    arms: Sequence[ResultSet], load: Load, control: Estimate | None, allow_different: Iterable[str] = ()
) -> Iterator[Invalid]:
    """All reasons why no claim about these arms is possible.

    :param control: the control's estimate between them
    :param allow_different: keys of SETTINGS that may differ
    """
    allowed = set(allow_different)
    for arm in arms:
        yield from not_as_named(arm)
        yield from _several_devices(arm)
    for a, b in combinations(arms, 2):
        yield from _settings(a, b, allowed)
        if load is Load.SOLO:
            yield from _other_load(a, b)
        if load is not Load.BUSY:
            yield from _speed_differs(a, b, load)
        yield from _gpu_slowed(a, b, load)
    if control is not None and control.verdict in (Verdict.BEATS, Verdict.WORSE) and GPU not in allowed:
        yield Invalid(InvalidCode.CONTROL_MOVED, wording.control_moved(control))


def environments(arm: ResultSet) -> list[Mapping[str, Scalar]]:
    """That of each process, or the arm's own where its format knows no processes."""
    found = [process.environment for process in arm.processes if process.environment]
    return list(found) or [arm.environment]


def values(arm: ResultSet, key: str) -> frozenset[Scalar]:
    """The known values of a key over the processes of an arm."""
    return frozenset(own[key] for own in environments(arm) if own.get(key) not in (None, ""))


def differing(a: ResultSet, b: ResultSet) -> list[str]:
    """The settings that both arms know and on which they disagree."""
    return [key for key in SETTINGS if values(a, key) and values(b, key) and values(a, key) != values(b, key)]


_CODES = {DEVICE: InvalidCode.DEVICE_DIFFERS, GPU: InvalidCode.GPU_DIFFERS}


def _settings(a: ResultSet, b: ResultSet, allowed: set[str]) -> Iterator[Invalid]:
    """What follows from another device is not named beside it. A device that may differ excuses nothing else."""
    found = differing(a, b)
    implied = _OF_DEVICE if DEVICE in found and DEVICE not in allowed else frozenset()
    for key in found:
        if key not in allowed and key not in implied:
            code = _CODES.get(key, InvalidCode.SETTINGS_DIFFER)
            texts = [", ".join(sorted(map(str, values(arm, key)))) for arm in (a, b)]
            yield Invalid(code, wording.settings_differ(key, (a.where, texts[0]), (b.where, texts[1])))


def _several_devices(arm: ResultSet) -> Iterator[Invalid]:
    """Whether an arm's processes computed on the GPU in some rounds and on the CPU in others."""
    rounds: dict[str, set[int]] = {}
    for process in arm.processes:
        if device := process.environment.get(DEVICE):
            rounds.setdefault(str(device), set()).add(process.round)
    if len(rounds) > 1:
        yield Invalid(InvalidCode.DEVICE_CHANGED, wording.device_changed(arm.label, rounds))


def not_as_named(arm: ResultSet) -> Iterator[Invalid]:
    """Whether the processes of an arm had the CPUs, the quota and the threads that its name says."""
    own = role(arm.arm)
    if own is None:
        return
    findings = [
        finding
        for environment in environments(arm)
        for finding in (*_CHECKS[own](environment), *_threads(arm.arm, environment))
    ]
    if findings:
        text = wording.not_as_named(arm.label, own, list(dict.fromkeys(findings)))
        yield Invalid(InvalidCode.ARM_NOT_AS_NAMED, text)


def _threads(arm: str, environment: Mapping[str, Scalar]) -> Iterator[str]:
    wanted, found = split(arm)[1], number(environment, "threads")
    if wanted.isdigit() and found is not None and found != int(wanted):
        yield wording.other_threads(found, int(wanted))


def _shared(environment: Mapping[str, Scalar]) -> Iterator[str]:
    cpus, quota = cpu_count(environment), number(environment, "quota_cpus")
    if quota is None:
        if "quota_cpus" in environment and environment.get("cgroup_version", "unknown") is not None:
            yield wording.NO_QUOTA
    elif cpus is not None and cpus <= quota:
        yield wording.narrow_mask(cpus, quota)


def _exclusive(environment: Mapping[str, Scalar]) -> Iterator[str]:
    cpus, quota = cpu_count(environment), number(environment, "quota_cpus")
    machine, asked = number(environment, "cpu_count"), _whole(environment.get("pod_cpu"))
    if cpus is None:
        return
    if asked is not None and cpus != asked:
        yield wording.other_cpus(cpus, asked)
    elif quota is not None and cpus > quota:
        yield wording.wide_mask(cpus, quota)
    elif asked is None and quota is None and machine is not None and cpus >= machine:
        yield wording.whole_machine(cpus)


_CHECKS: Mapping[ArmRole, Callable[[Mapping[str, Scalar]], Iterator[str]]] = {
    ArmRole.TODAY: _shared,
    ArmRole.THREADS: _shared,
    ArmRole.EXCLUSIVE: _exclusive,
}


def _whole(value: Scalar) -> int | None:
    """A whole number of CPUs, such as the pod's request; None if it is not known or not whole."""
    text = str(value)
    return int(text) if text.isdigit() else None


def _measured(arm: ResultSet, load: Load) -> Mapping[str, float]:
    """Counters over the blocks of an arm."""
    return rates(
        block
        for process in arm.processes
        if process.load == load
        for timing in process.timings.values()
        if not timing.derived
        for block in timing.blocks
    )


def _other_load(a: ResultSet, b: ResultSet) -> Iterator[Invalid]:
    found = [_measured(arm, Load.SOLO) for arm in (a, b)]
    limits = [limit for arm in (a, b) for own in environments(arm) if (limit := cpu_limit(own)) is not None]
    most = OTHERS_PER_CPU * min(limits, default=1)
    for key, text in (("others_busy_cpus", wording.others_busy), ("steal_cpus", wording.stolen)):
        if all(key in own for own in found) and abs(found[0][key] - found[1][key]) > most:
            yield Invalid(InvalidCode.OTHER_LOAD, text((a.where, found[0][key]), (b.where, found[1][key])))


def _speed_differs(a: ResultSet, b: ResultSet, load: Load) -> Iterator[Invalid]:
    """Whether the rounds prove that a CPU was slower beside one arm. Two platforms need not be equally fast.

    In a virtual machine, the other thread of a core belongs to others at times: the loop then takes twice as long in some
    blocks of every arm, and two arms differ by chance.
    """
    loops = [_loops(arm, load) for arm in (a, b)]
    rounds = sorted(loops[0].keys() & loops[1].keys())
    if not rounds or values(a, "cpu_model") != values(b, "cpu_model"):
        return
    logs = [[math.log(own[number]) for number in rounds] for own in loops]
    found = estimate([first - second for first, second in zip(*logs)], SPEED)
    if found.verdict in (Verdict.BEATS, Verdict.WORSE):
        means = [math.exp(fmean(own)) for own in logs]
        yield Invalid(InvalidCode.OTHER_LOAD, wording.speed_differs((a.where, means[0]), (b.where, means[1])))


def _loops(arm: ResultSet, load: Load) -> Mapping[int, float]:
    """The reference loop in ms by round, a geometric mean over the blocks of cells without a loader.

    On a full node, it is one over the tenants, each with its best block. The loop counts CPU time, not waiting, and all
    tenants run theirs as a slot begins, when the node has no other work of theirs (pod/slots.py). What a late step of
    another tenant still slows is not in the best block, while a slow clock is in all of them.
    """
    found: dict[int, list[float]] = {}
    for process in arm.processes:
        own = [
            block.counters["canary_ms"]
            for cell, timing in process.timings.items()
            if process.load == load and not timing.derived and not cell.loads
            for block in timing.blocks
            if "canary_ms" in block.counters
        ]
        if own:
            found.setdefault(process.round, []).extend(own if load is Load.SOLO else [min(own)])
    return {number: geometric_mean(values) for number, values in found.items()}


def _gpu_slowed(a: ResultSet, b: ResultSet, load: Load) -> Iterator[Invalid]:
    """The shares of blocks in which heat or the power supply slowed the GPU."""
    shares = [_measured(arm, load).get("gpu_slowed_share") for arm in (a, b)]
    if shares[0] is not None and shares[1] is not None and abs(shares[0] - shares[1]) > GPU_SLOWED_MARGIN:
        yield Invalid(InvalidCode.GPU_SLOWED, wording.gpu_slowed((a.where, shares[0]), (b.where, shares[1])))
