# SPDX-License-Identifier: GPL-3.0-or-later
"""Why one arm's steps take longer than another's: the causes that its counters prove, with their part of the gap.

Pure functions. The causes are tried in CauseCode's order, which is that of the remedies: first what the number of
threads removes, then what exclusive CPUs remove, then the rest. A cause gets at most what those before it left, so the
shares of one gap add up to at most 1. One that is left nothing is how an earlier one works (too many threads are
throttled), so its evidence stands there.

Throttling is detected by the share of CFS periods that were throttled, or by throttled time. Its effect is measured by
the stalls and by the launching thread's run delay, each a lower bound. Throttled time itself is "cumulative wall-time
that any cpus have been throttled for this group" (the kernel's Documentation/scheduler/sched-bwc.rst): a sum over CPUs,
which must not be set against wall time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from . import wording
from .analysis import Arm, Cause, CauseCode, Gap, RuledOut
from .measures import STALL_MS
from .results import Scalar
from .roles import cpu_limit

NOTHING = 0.01
REST = 0.05
THROTTLED_PERIODS = 0.01
THROTTLED_MS_PER_S = 5.0
RUN_DELAY = 0.01
MIGRATIONS_PER_S = 10.0
SPEED_EQUAL = 0.02


def explain(gap: Gap) -> tuple[Cause, ...]:
    """The causes of a gap that is decided, ordered by remedy; none if only means are known."""
    if gap.ms <= 0 or not (gap.slow.cell.rates or gap.slow.cell.parts_ms):
        return ()
    rules: tuple[Callable[[Gap], Cause | None], ...] = (
        _oversubscription,
        _throttling,
        _contention,
        _migration,
        _numa,
        _frequency,
    )
    found: list[Cause] = []
    left = 1.0
    for cause in (rule(gap) for rule in rules):
        if cause is None:
            continue
        if cause.share is None:
            found.append(cause)
            continue
        part = min(cause.share, left)
        if part >= NOTHING:
            found.append(replace(cause, share=part))
            left -= part
        elif cause.share >= NOTHING:
            found[-1] = replace(found[-1], evidence=(*found[-1].evidence, *cause.evidence))
    if left >= REST:
        found.append(Cause(CauseCode.UNEXPLAINED, left, (wording.unexplained(gap, left),)))
    return tuple(found)


def _throttled_share(arm: Arm) -> float | None:
    periods, throttled = arm.rate("periods"), arm.rate("throttled_periods")
    if periods is None or throttled is None:
        return None
    return throttled / periods if periods else 0.0


def is_throttled(arm: Arm) -> bool:
    """Whether more than 1 % of the CFS periods, or 5 ms per second, were throttled."""
    share, time = _throttled_share(arm), arm.rate("throttled_ms_per_s")
    return (share or 0.0) > THROTTLED_PERIODS or (time or 0.0) > THROTTLED_MS_PER_S


def _throttling(gap: Gap) -> Cause | None:
    slow, fast = gap.slow, gap.fast
    if not is_throttled(slow):
        return None
    slow_share, fast_share = _throttled_share(slow), _throttled_share(fast)
    if slow_share is not None and fast_share is not None and slow_share <= fast_share:
        return None
    shares = []
    evidence = [wording.throttled_periods(gap)]
    stalls = [arm.cell.parts_ms.get("stall") for arm in (slow, fast)]
    if stalls[0] is not None and stalls[1] is not None:
        shares.append(gap.share(stalls[0], stalls[1]))
        evidence.append(wording.stalls(gap, stalls[0], stalls[1], STALL_MS))
    delays = [arm.rate("run_delay_share") for arm in (slow, fast)]
    if delays[0] is not None and delays[1] is not None:
        shares.append(gap.share(delays[0] * slow.mean_ms, delays[1] * fast.mean_ms))
        evidence.append(wording.run_delay(gap, delays[0], delays[1]))
    return Cause(CauseCode.THROTTLING, max(shares, default=None), tuple(evidence))


def crowding(arm: Arm) -> tuple[int, float] | None:
    """Torch's threads and the CPUs for them if there are more threads than CPUs, else None."""
    threads, limit = arm.number("threads"), cpu_limit(arm.environment)
    if threads is None or limit is None or threads <= max(1, math.ceil(limit)):
        return None
    return int(threads), limit


def _oversubscription(gap: Gap) -> Cause | None:
    crowded = crowding(gap.slow)
    if crowded is None:
        return None
    evidence = wording.crowded(gap, *crowded)
    fixed = gap.fixed
    if fixed is None or fixed.cell.mean_ms is None:
        return Cause(CauseCode.OVERSUBSCRIPTION, None, (evidence, wording.NO_FIXED_ARM))
    threads = fixed.number("threads") or cpu_limit(fixed.environment) or 0
    share = gap.share(gap.slow.mean_ms, fixed.mean_ms)
    return Cause(CauseCode.OVERSUBSCRIPTION, share, (evidence, wording.fixed_threads(gap, fixed, threads)))


def _waiting(arm: Arm) -> float | None:
    """Share of the time that the launching thread waited for a CPU without being throttled; None if unknown."""
    quiet = arm.rate("quiet_run_delay_share")
    if quiet is not None:
        return quiet
    return None if is_throttled(arm) else arm.rate("run_delay_share")


def _contention(gap: Gap) -> Cause | None:
    slow, fast = _waiting(gap.slow), _waiting(gap.fast)
    if slow is None or fast is None or slow <= max(RUN_DELAY, fast):
        return None
    evidence = (
        wording.waiting(gap, slow, fast),
        *_pair(gap, "involuntary_switches_per_s", wording.preempted),
        *_pair(gap, "host_busy_cpus", wording.busy_host),
    )
    return Cause(CauseCode.CONTENTION, gap.share(slow * gap.slow.mean_ms, fast * gap.fast.mean_ms), evidence)


def _pair(gap: Gap, rate: str, text: Callable[[Gap, float, float], str]) -> list[str]:
    """The text for a rate if both arms recorded it."""
    slow, fast = gap.slow.rate(rate), gap.fast.rate(rate)
    return [] if slow is None or fast is None else [text(gap, slow, fast)]


def _migration(gap: Gap) -> Cause | None:
    slow, fast = gap.slow.rate("migrations_per_s"), gap.fast.rate("migrations_per_s")
    if slow is None or fast is None or slow < max(MIGRATIONS_PER_S, 2 * fast):
        return None
    enqueue = [arm.cell.parts_ms.get("enqueue") for arm in (gap.slow, gap.fast)]
    speed = speed_ratio(gap)
    if enqueue[0] is None or enqueue[1] is None or enqueue[0] <= enqueue[1] or abs((speed or 1.0) - 1) > SPEED_EQUAL:
        return None
    return Cause(CauseCode.MIGRATION, None, (wording.migrations(gap, slow, fast), wording.MIGRATION_COST_UNKNOWN))


def _numa(gap: Gap) -> Cause | None:
    gpu = gap.slow.number("gpu_numa_node")
    slow, fast = (numa_nodes(arm.environment.get("cpu_numa_nodes")) for arm in (gap.slow, gap.fast))
    if gpu is None or gpu < 0 or not slow or not fast or slow <= {int(gpu)} or slow == fast:
        return None
    evidence = wording.numa_placement(gap, gpu)
    h2d = [arm.cell.parts_ms.get("h2d") for arm in (gap.slow, gap.fast)]
    if h2d[0] is None or h2d[1] is None:
        return Cause(CauseCode.NUMA, None, (evidence,))
    return Cause(CauseCode.NUMA, gap.share(h2d[0], h2d[1]), (evidence, wording.copy_to_gpu(h2d[0], h2d[1])))


def numa_nodes(value: Scalar) -> frozenset[int]:
    """The numbers in a list such as "0-1,3"; empty if unknown."""
    found: set[int] = set()
    for part in str(value if value is not None else "").replace(" ", "").split(","):
        first, _dash, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def speed_ratio(gap: Gap) -> float | None:
    """Time of the reference loop, a fixed piece of CPU work, on the slower arm over the faster one's."""
    slow, fast = gap.slow.rate("canary_ms"), gap.fast.rate("canary_ms")
    return slow / fast if slow and fast else None


def _frequency(gap: Gap) -> Cause | None:
    ratio = speed_ratio(gap)
    if ratio is None or ratio <= 1 + SPEED_EQUAL:
        return None
    share = math.log(ratio) / math.log(gap.slow.mean_ms / gap.fast.mean_ms)
    evidence = (wording.reference_loop(gap, ratio), *_pair(gap, "cpu_mhz", wording.clock_speed))
    return Cause(CauseCode.FREQUENCY, min(share, 1.0), evidence)


def ruled_out(gap: Gap) -> tuple[RuledOut, ...]:
    """The causes that were measured and do not contribute."""
    found = []
    ratio = speed_ratio(gap)
    if ratio is not None and ratio <= 1 + SPEED_EQUAL:
        found.append(RuledOut(CauseCode.FREQUENCY, wording.speed_ruled_out(gap, ratio)))
    if _throttled_share(gap.slow) is not None and not is_throttled(gap.slow):
        found.append(RuledOut(CauseCode.THROTTLING, wording.throttling_ruled_out(gap.slow)))
    return tuple(found)


def unknown(gap: Gap) -> list[str]:
    """The causes that an arm has no counters for, in one sentence per set of arms."""
    needed = {
        CauseCode.THROTTLING: "throttled_periods",
        CauseCode.CONTENTION: "run_delay_share",
        CauseCode.MIGRATION: "migrations_per_s",
        CauseCode.FREQUENCY: "canary_ms",
    }
    lacking: dict[str, list[CauseCode]] = {}
    for code, rate in needed.items():
        without = [arm.where for arm in (gap.slow, gap.fast) if arm.rate(rate) is None]
        if without:
            lacking.setdefault(" and ".join(without), []).append(code)
    return [wording.not_recorded(arms, codes) for arms, codes in lacking.items()]
