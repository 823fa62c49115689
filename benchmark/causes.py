# SPDX-License-Identifier: GPL-3.0-or-later
"""Why one arm's steps take longer than another's: the causes that its counters prove, and the part of the gap of each.

Pure functions. The causes are tried in CauseCode's order; the first that explains half of the gap is the main one. Shares
of different causes are not parts of one whole (too many threads lead to throttling): they may add up to more than 1, and
what is unexplained is what the largest share leaves.

Throttling is detected by the share of CFS periods that were throttled, or by throttled time. It is measured by the stalls
and by the launching thread's run delay, each a lower bound: throttled time itself is «cumulative wall-time that any cpus
have been throttled for this group» (the kernel's statistics of CFS bandwidth control, Documentation/scheduler/sched-bwc.rst),
a sum over CPUs that must not be set against wall time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmark.analysis import ArmCell, Cause, CauseCode
from benchmark.measures import STALL_MS
from benchmark.results import Scalar

HALF = 0.5
NOTHING = 0.01
REST = 0.05
THROTTLED_PERIODS = 0.01
THROTTLED_MS_PER_S = 5.0
RUN_DELAY = 0.01
MIGRATIONS_PER_S = 10.0
SPEED_EQUAL = 0.02
NAMES = {
    CauseCode.GPU: "the GPU side",
    CauseCode.THROTTLING: "CFS throttling",
    CauseCode.OVERSUBSCRIPTION: "more threads than CPUs",
    CauseCode.CONTENTION: "waiting for a CPU that others use",
    CauseCode.MIGRATION: "threads that move between CPUs",
    CauseCode.NUMA: "CPUs on another NUMA node than the GPU",
    CauseCode.FREQUENCY: "the CPU's speed",
    CauseCode.UNEXPLAINED: "unexplained",
}


@dataclass(frozen=True)
class Arm:
    """One arm's part in a gap."""

    name: str
    cell: ArmCell
    environment: Mapping[str, Scalar]

    def rate(self, name: str) -> float | None:
        return self.cell.rates.get(name)

    def number(self, name: str) -> float | None:
        """A number of the environment; None if unknown, or if the arm's processes disagree."""
        value = self.environment.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def mean_ms(self) -> float:
        return self.cell.mean_ms or 0.0


@dataclass(frozen=True)
class Gap:
    """A slower and a faster arm; `fixed` is the slower one's group with as many threads as CPUs, where it was measured."""

    slow: Arm
    fast: Arm
    fixed: Arm | None = None

    @property
    def ms(self) -> float:
        return self.slow.mean_ms - self.fast.mean_ms

    def share(self, slow_ms: float, fast_ms: float) -> float:
        """Which part of the gap a difference in ms per step is, kept within 0 and 1."""
        return min(max((slow_ms - fast_ms) / self.ms, 0.0), 1.0)


def explain(gap: Gap, gpu_trouble: str = "") -> tuple[Cause, ...]:
    """The causes of a gap, the main one first; none where nothing but means is known.

    `gpu_trouble` says why the GPU sides are no equals: nothing else counts then.
    """
    if gpu_trouble:
        return (Cause(CauseCode.GPU, None, gpu_trouble),)
    if gap.ms <= 0 or not (gap.slow.cell.rates or gap.slow.cell.parts_ms):
        return ()
    rules: tuple[Callable[[Gap], Cause | None], ...] = (
        _throttling,
        _oversubscription,
        _contention,
        _migration,
        _numa,
        _frequency,
    )
    judged = [cause for cause in (rule(gap) for rule in rules) if cause is not None]
    found = [cause for cause in judged if cause.share is None or cause.share >= NOTHING]
    rest = 1 - max((cause.share for cause in found if cause.share is not None), default=0.0)
    main = next((cause for cause in found if cause.share is not None and cause.share >= HALF), None)
    unexplained = Cause(
        CauseCode.UNEXPLAINED, rest, f"{gap.ms * rest:.2f} of {gap.ms:.2f} ms a step have no known cause"
    )
    if main is None:
        return (unexplained, *found)
    others = [cause for cause in found if cause is not main]
    return (main, *others, *([unexplained] if rest >= REST else []))


def _throttled_share(arm: Arm) -> float | None:
    periods, throttled = arm.rate("periods"), arm.rate("throttled_periods")
    if periods is None or throttled is None:
        return None
    return throttled / periods if periods else 0.0


def is_throttled(arm: Arm) -> bool:
    """More than 1 % of the CFS periods, or 5 ms of throttled time a second."""
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
    evidence = [f"{_periods(slow)} throttled on {slow.name}, {_periods(fast, short=True)} on {fast.name}"]
    stalls = [arm.cell.parts_ms.get("stall") for arm in (slow, fast)]
    if stalls[0] is not None and stalls[1] is not None:
        shares.append(gap.share(stalls[0], stalls[1]))
        evidence.append(
            f"stalls ({STALL_MS:.0f} ms or more over the median) take {stalls[0]:.2f} ms a step on {slow.name}, "
            f"{stalls[1]:.2f} ms on {fast.name}"
        )
    delays = [arm.rate("run_delay_share") for arm in (slow, fast)]
    if delays[0] is not None and delays[1] is not None:
        shares.append(gap.share(delays[0] * slow.mean_ms, delays[1] * fast.mean_ms))
        evidence.append(
            f"the launching thread was kept from running for {delays[0]:.1%} of the time on {slow.name}, "
            f"{delays[1]:.1%} on {fast.name}"
        )
    return Cause(CauseCode.THROTTLING, max(shares, default=None), "; ".join(evidence))


def _periods(arm: Arm, *, short: bool = False) -> str:
    periods, throttled = arm.rate("periods"), arm.rate("throttled_periods")
    if periods is None or throttled is None:
        time = arm.rate("throttled_ms_per_s")
        return "an unknown number" if time is None else f"{time:.0f} ms of CPU time a second"
    if short:
        return f"{throttled:.0f} of {periods:.0f}" if periods else "none (no quota)"
    return f"{throttled:.0f} of {periods:.0f} CFS periods"


def cpu_limit(arm: Arm) -> float | None:
    """The CPUs that the arm may use at a time: the smaller of its affinity and its quota, as far as known."""
    return min((v for v in (arm.number("cpus_allowed"), arm.number("quota_cpus")) if v is not None), default=None)


def crowding(arm: Arm) -> tuple[int, float] | None:
    """Torch's threads and the CPUs for them where there are too few; else None."""
    threads, limit = arm.number("threads"), cpu_limit(arm)
    if threads is None or limit is None or threads <= max(1, math.ceil(limit)):
        return None
    return int(threads), limit


def _oversubscription(gap: Gap) -> Cause | None:
    crowded = crowding(gap.slow)
    if crowded is None:
        return None
    evidence = f"{crowded[0]} threads on {crowded[1]:g} CPUs on {gap.slow.name}"
    if gap.fixed is None or gap.fixed.cell.mean_ms is None:
        return Cause(
            CauseCode.OVERSUBSCRIPTION, None, f"{evidence}; no arm with a fixed number of threads to tell its part"
        )
    fixed = gap.fixed
    evidence += (
        f"; with {fixed.number('threads') or cpu_limit(fixed) or 0:g} threads ({fixed.name}) a step takes {fixed.mean_ms:.2f} ms, "
        f"between {gap.slow.mean_ms:.2f} ms on {gap.slow.name} and {gap.fast.mean_ms:.2f} ms on {gap.fast.name}"
        if gap.fast.mean_ms <= fixed.mean_ms <= gap.slow.mean_ms
        else f"; {fixed.name} takes {fixed.mean_ms:.2f} ms a step, {gap.slow.name} {gap.slow.mean_ms:.2f} ms"
    )
    return Cause(CauseCode.OVERSUBSCRIPTION, gap.share(gap.slow.mean_ms, fixed.mean_ms), evidence)


def _waiting(arm: Arm) -> float | None:
    """Share of the time that the launching thread waited for a CPU without being throttled; None if it cannot be told."""
    quiet = arm.rate("quiet_run_delay_share")
    if quiet is not None:
        return quiet
    return None if is_throttled(arm) else arm.rate("run_delay_share")


def _contention(gap: Gap) -> Cause | None:
    slow, fast = _waiting(gap.slow), _waiting(gap.fast)
    if slow is None or fast is None or slow <= max(RUN_DELAY, fast):
        return None
    evidence = (
        f"the launching thread waited for a CPU for {slow:.1%} of the time on {gap.slow.name}, {fast:.1%} on {gap.fast.name} "
        f"(blocks without throttling)"
    )
    evidence += _pair(gap, "involuntary_switches_per_s", "it was preempted {:.0f} times a second, {:.0f} on {}")
    evidence += _pair(gap, "host_busy_cpus", "the host had {:.1f} CPUs busy, {:.1f} on {}")
    return Cause(CauseCode.CONTENTION, gap.share(slow * gap.slow.mean_ms, fast * gap.fast.mean_ms), evidence)


def _pair(gap: Gap, rate: str, text: str) -> str:
    slow, fast = gap.slow.rate(rate), gap.fast.rate(rate)
    return "" if slow is None or fast is None else "; " + text.format(slow, fast, gap.fast.name)


def _migration(gap: Gap) -> Cause | None:
    slow, fast = gap.slow.rate("migrations_per_s"), gap.fast.rate("migrations_per_s")
    if slow is None or fast is None or slow < max(MIGRATIONS_PER_S, 2 * fast):
        return None
    enqueue = [arm.cell.parts_ms.get("enqueue") for arm in (gap.slow, gap.fast)]
    speed = canary_ratio(gap)
    if enqueue[0] is None or enqueue[1] is None or enqueue[0] <= enqueue[1] or abs((speed or 1.0) - 1) > SPEED_EQUAL:
        return None
    evidence = f"the launching thread moved {slow:.0f} times a second on {gap.slow.name}, {fast:.0f} on {gap.fast.name}"
    return Cause(CauseCode.MIGRATION, None, f"{evidence}; what that costs was not measured")


def _numa(gap: Gap) -> Cause | None:
    gpu = gap.slow.number("gpu_numa_node")
    slow, fast = (numa_nodes(arm.environment.get("cpu_numa_nodes")) for arm in (gap.slow, gap.fast))
    if gpu is None or gpu < 0 or not slow or not fast or slow <= {int(gpu)} or slow == fast:
        return None
    h2d = [arm.cell.parts_ms.get("h2d") for arm in (gap.slow, gap.fast)]
    share = None if h2d[0] is None or h2d[1] is None else gap.share(h2d[0], h2d[1])
    evidence = (
        f"the GPU is at NUMA node {gpu:.0f}; CPUs of {gap.slow.name} are on {gap.slow.environment['cpu_numa_nodes']}, "
        f"of {gap.fast.name} on {gap.fast.environment['cpu_numa_nodes']}"
    )
    if share is not None:
        evidence += f"; the copy to the GPU takes {h2d[0]:.2f} ms a step against {h2d[1]:.2f} ms"
    return Cause(CauseCode.NUMA, share, evidence)


def numa_nodes(value: Scalar) -> frozenset[int]:
    """«0-1,3» as numbers; empty if unknown."""
    found: set[int] = set()
    for part in str(value if value is not None else "").replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def canary_ratio(gap: Gap) -> float | None:
    """Time of a fixed piece of CPU work on the slower arm over the faster one's."""
    slow, fast = gap.slow.rate("canary_ms"), gap.fast.rate("canary_ms")
    return slow / fast if slow and fast else None


def _frequency(gap: Gap) -> Cause | None:
    ratio = canary_ratio(gap)
    if ratio is None or ratio <= 1 + SPEED_EQUAL:
        return None
    evidence = (
        f"a fixed piece of CPU work took {gap.slow.rate('canary_ms'):.2f} ms on {gap.slow.name}, "
        f"{gap.fast.rate('canary_ms'):.2f} ms on {gap.fast.name} ({ratio:.2f}x)"
    )
    evidence += _pair(gap, "cpu_mhz", "its CPU ran at {:.0f} MHz, {:.0f} on {}")
    share = math.log(ratio) / math.log(gap.slow.mean_ms / gap.fast.mean_ms)
    return Cause(CauseCode.FREQUENCY, min(share, 1.0), evidence)


def acquitted(gap: Gap) -> list[str]:
    """What was measured and is not the cause, in sentences."""
    words = []
    ratio = canary_ratio(gap)
    if ratio is not None and ratio <= 1 + SPEED_EQUAL:
        words.append(
            f"The CPU's speed is acquitted: a fixed piece of CPU work took {gap.slow.rate('canary_ms'):.2f} ms on "
            f"{gap.slow.name} and {gap.fast.rate('canary_ms'):.2f} ms on {gap.fast.name} ({ratio:.2f}x)."
        )
    if _throttled_share(gap.slow) is not None and not is_throttled(gap.slow):
        counted = f"{_periods(gap.slow)} were throttled" if gap.slow.rate("periods") else "no quota applied"
        words.append(f"Throttling is acquitted: {counted} on {gap.slow.name}.")
    return words


def unknown(gap: Gap) -> list[str]:
    """What could not be judged for want of counters, in one sentence or none."""
    wanted = {
        "throttling": ("throttled_periods",),
        "waiting for a CPU": ("run_delay_share",),
        "migrations": ("migrations_per_s",),
        "the CPU's speed": ("canary_ms",),
    }
    lacking: dict[str, list[str]] = {}
    for cause, names in wanted.items():
        without = [arm.name for arm in (gap.slow, gap.fast) if any(arm.rate(name) is None for name in names)]
        if without:
            lacking.setdefault(" and ".join(without), []).append(cause)
    return [f"Not recorded on {arms}, so neither proved nor excluded: {', '.join(c)}." for arms, c in lacking.items()]
