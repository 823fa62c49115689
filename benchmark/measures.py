# SPDX-License-Identifier: GPL-3.0-or-later
"""One arm's measurements of a cell over all rounds: times, the parts of a step, and the system's counters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from .analysis import ArmCell
from .pod.cells import Cell
from .results import Block, ResultSet, Timing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# The smallest sample whose largest value is above the 99th percentile with 95 % probability: 1 - 0.99^299 = 0.95.
P99_STEPS = 299
# A step this much longer than the median was stopped, not slow: CFS throttles for the rest of a 100 ms period.
STALL_MS = 20.0
# Bits of NVML's clocksEventReasons that slow the GPU from outside: HwSlowdown, SwThermal, HwThermal, HwPowerBrake. A
# power cap (0x4) is not a fault: the arm that keeps the GPU busier reaches it sooner.
GPU_SLOWED = 0x8 | 0x20 | 0x40 | 0x80


def arm_cell(results: ResultSet, cell: Cell, load: str | None = None) -> ArmCell | None:
    """The cell over all rounds of one arm.

    :param load: one of `experiment.Load`; without it, all loads together
    :returns: None if the arm never tried it, and without times if it always failed
    """
    timings = [p.timings[cell] for p in results.processes if load in (None, p.load) and cell in p.timings]
    if not timings:
        return None
    failed, timings = timings[0].status, [timing for timing in timings if timing.status == "ok"]
    if not timings:
        return ArmCell(failed)
    every = [step for timing in timings for step in timing.iter_ms]
    blocks = [block for timing in timings for block in timing.blocks]
    mean = fmean(every)
    rate = cell.batch * 1000 / mean if cell.batch else None
    if len(timings) == len(every) and not blocks:  # a log, which prints averages only
        return ArmCell("ok", len(every), mean, images_per_s=rate)
    import numpy as np  # only here, as scipy in `statistics`

    steps = np.array(every)
    middle = float(np.percentile(steps, 50))
    return ArmCell(
        "ok",
        len(steps),
        mean,
        middle,
        float(np.percentile(steps, 90)),
        float(np.percentile(steps, 99)) if len(steps) >= P99_STEPS else None,
        float(steps.max()),
        rate,
        _launch_share(blocks),
        _parts(blocks, steps, middle),
        rates(blocks),
    )


def _launch_share(blocks: Sequence[Block]) -> float | None:
    """Launching as a part of data, copy, launching and waiting, over the blocks that split their steps up."""
    split = [block.parts_ms for block in blocks if "enqueue" in block.parts_ms and "wait" in block.parts_ms]
    total = math.fsum(value for parts in split for value in parts.values())
    return math.fsum(parts["enqueue"] for parts in split) / total if total > 0 else None


def _parts(blocks: Sequence[Block], steps: npt.NDArray[np.float64], middle: float) -> dict[str, float]:
    """ms per step: each part over the blocks that recorded it, and the stalls, which the parts contain."""
    parts = {}
    for name in ("data", "h2d", "enqueue", "wait"):
        recorded = [block for block in blocks if name in block.parts_ms]
        if recorded:
            total = math.fsum(block.parts_ms[name] for block in recorded)
            parts[name] = total / sum(len(block.iter_ms) for block in recorded)
    parts["stall"] = float(((steps - middle) * (steps > middle + STALL_MS)).mean())
    return parts


def rates(blocks: Iterable[Block]) -> dict[str, float]:
    """Counters of blocks of one or more cells, as in ArmCell.rates; a counter that no block has is absent.

    Each is over the blocks that recorded it. `quiet_run_delay_share` is run_delay_share over the blocks in which
    nothing was throttled, because the kernel counts the time of a throttled thread as run delay too.
    """
    counters = [block.counters for block in blocks]

    def known(*names: str) -> list[tuple[float, ...]]:
        return [tuple(c[name] for name in names) for c in counters if all(name in c for name in names)]

    found: dict[str, float] = {}
    for name in ("periods", "throttled_periods", "wall_ms"):
        if values := known(name):
            found[name] = math.fsum(value for (value,) in values)
    for name, counter, factor in (
        ("throttled_ms_per_s", "throttled_ms", 1000.0),
        ("run_delay_share", "run_delay_ms", 1.0),
        ("migrations_per_s", "migrations", 1000.0),
        ("involuntary_switches_per_s", "switches_involuntary", 1000.0),
        ("voluntary_switches_per_s", "switches_voluntary", 1000.0),
        ("cpus_used", "cpu_ms", 1.0),
        ("steal_cpus", "steal_ms", 1.0),
    ):
        pairs = known(counter, "wall_ms")
        if pairs and (wall := math.fsum(w for _value, w in pairs)) > 0:
            found[name] = factor * math.fsum(value for value, _w in pairs) / wall
    if values := known("host_busy_cpus", "cpu_ms", "wall_ms"):
        found["others_busy_cpus"] = fmean(max(busy - cpu / wall, 0.0) if wall else 0.0 for busy, cpu, wall in values)
    quiet = [p for p in known("run_delay_ms", "wall_ms", "throttled_periods") if not p[2]]
    if quiet and (wall := math.fsum(p[1] for p in quiet)) > 0:
        found["quiet_run_delay_share"] = math.fsum(p[0] for p in quiet) / wall
    for name in ("threads", "canary_ms", "cpu_mhz", "gpu_sm_mhz", "gpu_temperature", "gpu_power_w", "host_busy_cpus"):
        if values := known(name):
            found[name] = median(value for (value,) in values)
    if values := known("gpu_throttle_reasons"):
        found["gpu_slowed_share"] = sum(1 for (mask,) in values if int(mask) & GPU_SLOWED) / len(values)
    return found


def tail_ms(cells: Sequence[Sequence[Timing]]) -> float | None:
    """The 99th percentile of a step over several cells in ms; None with fewer than P99_STEPS steps.

    Each step counts as a multiple of its cell's mean, so that the slowest model does not decide alone; the result is
    that of the cells' geometric mean.
    """
    import numpy as np

    steps = [np.array([step for timing in timings for step in timing.iter_ms]) for timings in cells]
    if sum(map(len, steps)) < P99_STEPS:
        return None
    relative = float(np.percentile(np.concatenate([own / own.mean() for own in steps]), 99))
    return relative * math.exp(fmean(math.log(own.mean()) for own in steps))


def held_minutes(arms: Iterable[ResultSet]) -> float | None:
    """Minutes in which processes held a GPU, from their start to their end; None if that was not recorded of one.

    A process that times several loads appears once for each, with one start. Tenants hold a GPU each.
    """
    total = 0.0
    for results in arms:
        spans: dict[int, list[tuple[float, float]]] = {}
        for process in results.processes:
            environment = process.environment or results.environment
            if not environment.get("gpu") or environment.get("device") == "cpu":
                continue
            if process.started is None or process.ended is None:
                return None
            spans.setdefault(process.tenant, []).append((process.started, process.ended))
        total += sum(map(_covered, spans.values()))
    return total / 60 if total else None


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that at least one of the spans covers."""
    covered, until = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    return covered
