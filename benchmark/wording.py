# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of an evaluation: notes, refusals, reasons for invalidity, the gradient and the evidence of causes.

Programs act on the codes in `analysis` and `results`, never on these texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from . import terms
from .analysis import Arm, CauseCode, Estimate, Gap, GradientCode, Trend
from .experiment import ArmRole
from .figures import ratio_text
from .pod.cells import Cell
from .pod.words import count
from .results import Note, NoteCode, ResultSet
from .statistics import GRADIENT_CELLS

# Notes on the input

_NOTES: Mapping[NoteCode, str] = {
    NoteCode.CARD_TAKEN_OUT: (
        "in round {rounds} the arms ran on different cards: the control's difference is taken out, and the control "
        "itself uses the other rounds"
    ),
    NoteCode.CELLS_FAILED: "not timed in more than one round {where}, left out of all rounds: {cells}",
    NoteCode.CELLS_LEFT_OUT: "not in every arm, left out {where}: {cells}",
    NoteCode.CONTROL_DIFFERS: "the control's ratio is {ratio:.3f}x: more than the CPU differs",
    NoteCode.CONTROL_PROVES_NOTHING: (
        "the control proves nothing yet: its interval {ratio} does not lie within {margin:.0%}, so the GPU sides may "
        "differ by more"
    ),
    NoteCode.DIFFERENT_ALLOWED: "the arms differ in {key}, which was allowed by name",
    NoteCode.DIFFERENT_RUNS: (
        "not measured in turns: rounds are paired by number, and what else differed counts too, so the margin is wider"
    ),
    NoteCode.FEW_ROUNDS: "{rounds} rounds: the first interim analysis is after {first}",
    NoteCode.GPU_CARDS_DIFFER: (
        "in round {rounds} the arms ran on different cards, and no control shows by how much these differ: cards of one "
        "model differ by 2 to 5 %"
    ),
    NoteCode.IDLE_NODE_ONLY: "measured with one tenant: what a full node makes of it was not measured",
    NoteCode.INCOMPLETE_ROUNDS: "round {rounds} lacks a cell in one of the arms: it does not count for that family",
    NoteCode.LAST_LINE_CUT: "{place}: the last line is incomplete and was ignored",
    NoteCode.LOG_INCOMPLETE: "{finding}",
    NoteCode.NO_CONTROL: "no negative control: nothing shows that the sides differ in the CPU only",
    NoteCode.NO_QUOTA: (
        "the arm with exclusive CPUs has no CPU quota, as from Kubernetes 1.33 on: its effect contains that of the quota"
    ),
    NoteCode.NO_SYSTEM_INFO: "{name}: no system_info.txt: only the GPU's name is known of its environment",
    NoteCode.ONE_RUN: "steps of one run are not replicates: an interval needs {first} rounds of fresh processes",
    NoteCode.PROCESSES_ENDED_EARLY: "{arm}: processes that ended early: {ended} of {started}; their complete blocks count",
    NoteCode.SAME_NUMBERS: "both sides contain the same numbers: is it the same run twice?",
    NoteCode.SEVERAL_GPU_CARDS: "{arm}: several GPU cards ({cards}): cards of one model differ by 2 to 5 %",
    NoteCode.SHIFT_MEASURED: (
        "the first arm was measured again at the end: the halves differ by at most {margin:.1%}, which is the margin"
    ),
    NoteCode.UNUSED_ARMS: "not used, because another arm has the same role: {arms}",
}


def note(code: NoteCode, **values: object) -> Note:
    """The note with `values` in its text."""
    return Note(code, _NOTES[code].format(**values))


def note_line(remark: Note) -> str:
    """A note as a line for a terminal."""
    return f"note: {'red flag: ' if remark.red_flag else ''}{remark.text}"


def not_timed(cell: Cell, a: ResultSet, b: ResultSet) -> str:
    """Why a cell was not timed on both sides."""
    found = []
    for side in (a, b):
        for timing in side.timings(cell):
            if timing.status == "oom":
                found.append(f"{side.label}: out of memory")
            elif timing.status == "skipped":
                found.append(f"{side.label}: skipped{f' ({timing.reason})' if timing.reason else ''}")
    return "; ".join(dict.fromkeys(found)) or "no round in which both sides timed it"


def no_common_cell(a: ResultSet, b: ResultSet) -> str:
    sides = "; ".join(f"{side.label} has {', '.join(map(str, side.cells())) or 'none'}" for side in (a, b))
    return f"no common cell: {sides}. Expected at least one cell on both sides. Compare runs of the same matrix."


def impossible_ratio(a: str, b: str, cell: Cell, ratio: float, most: float) -> str:
    return (
        f"{cell}: a step takes {ratio:.3g} times as long {a} as {b}: expected {1 / most:g} to {most:g}. Convert both to "
        f"ms, or compare runs of the same program."
    )


# Arms and their roles


def no_roles(arms: Iterable[str], groups: Sequence[str]) -> str:
    return (
        f"no arm of {', '.join(arms)} says what it stands for: expected names such as none-auto, none-4 and static-4, "
        f"with one of the groups {', '.join(groups)}. Compare two sides instead: report A B."
    )


def two_groups(role: ArmRole, arms: Sequence[str]) -> str:
    return (
        f"{', '.join(arms)} are all {terms.described(role)!r}: expected one group for it. Name the folder of one measurement, or "
        f"compare two of them: report A B."
    )


def one_role(arms: Sequence[str]) -> str:
    return (
        f"{', '.join(dict.fromkeys(arms))}: only one of the arms of an experiment: expected two or more, such as "
        f"none-auto, none-4 and static-4. Name the folder of the whole measurement."
    )


def several_runs(runs: Sequence[str]) -> str:
    return (
        f"the runs {', '.join(runs)} have all arms each: expected one run, or the halves before and after a switch. Name "
        f"the files of one run."
    )


# Validity


def settings_differ(key: str, a: tuple[str, str], b: tuple[str, str]) -> str:
    return (
        f"{key} differs: {a[1]} {a[0]}, {b[1]} {b[0]}. Measure both with the same, or allow it by name "
        f"(--allow-different {key})."
    )


def device_changed(arm: str, rounds: Mapping[str, Iterable[int]]) -> str:
    """:param rounds: device -> the rounds that computed on it"""
    where = " and ".join(
        f"on {_DEVICES.get(device, device)} in round {', '.join(map(str, sorted(numbers)))}"
        for device, numbers in sorted(rounds.items(), reverse=True)
    )
    return (
        f'The arm "{arm}" computed {where}: its pod lost the GPU. Find out why (diagnose-gpu-pods.yml), and measure the arm '
        f"again."
    )


_DEVICES = {"cuda": "the GPU", "cpu": "the CPU"}


def not_as_named(arm: str, role: ArmRole, findings: Sequence[str]) -> str:
    return (
        f'The arm "{arm}" is not what it stands for ({terms.arm(role, {}).detail}): {"; ".join(findings)}. Correct the pod or '
        f"the container, and measure the arm again."
    )


NO_QUOTA = "it has no CPU quota"


def narrow_mask(cpus: float, quota: float) -> str:
    return f"it has {count(cpus, 'CPU')} for a quota of {quota:g}, as if they were its own"


def wide_mask(cpus: float, quota: float) -> str:
    return f"it has {count(cpus, 'CPU')} for a quota of {quota:g}, so it shares them"


def other_cpus(cpus: float, asked: int) -> str:
    return f"it has {count(cpus, 'CPU')}, and asked for {asked}"


def whole_machine(cpus: float) -> str:
    return f"it has all {cpus:g} CPUs of the machine"


def other_threads(found: float, wanted: int) -> str:
    return f"it ran {count(found, 'thread')}, not {wanted}"


def control_moved(control: Estimate) -> str:
    return (
        f"The negative control differs by {ratio_text(control)}, which the CPU cannot explain. Make the GPUs equal (card, "
        f"clocks, heat), then measure again."
    )


_QUIET = "Measure again while nothing else runs on the node."


def others_busy(a: tuple[str, float], b: tuple[str, float]) -> str:
    return f"Others kept {a[1]:.1f} CPUs busy {a[0]}, and {b[1]:.1f} {b[0]}. {_QUIET}"


def stolen(a: tuple[str, float], b: tuple[str, float]) -> str:
    return f"The hypervisor took {a[1]:.1f} CPUs {a[0]}, and {b[1]:.1f} {b[0]}. {_QUIET}"


def speed_differs(a: tuple[str, float], b: tuple[str, float]) -> str:
    return (
        f"A fixed piece of CPU work took {a[1]:.2f} ms {a[0]}, and {b[1]:.2f} ms {b[0]}: the CPUs were not equally "
        f"fast. Make their clocks equal. {_QUIET}"
    )


def gpu_slowed(a: tuple[str, float], b: tuple[str, float]) -> str:
    return (
        f"Heat or the power supply slowed the GPU in {a[1]:.0%} of the blocks {a[0]}, and in {b[1]:.0%} {b[0]}. Cool it "
        f"and check its power, then measure again."
    )


# The gradient


def gradient_conclusion(trends: Sequence[Trend], code: GradientCode) -> str:
    """What the trends show."""
    if code is GradientCode.NONE:
        return f"No gradient: no precision and mode has {GRADIENT_CELLS} cells that differ."
    if code is GradientCode.FLAT:
        return "The gap does not grow as models shrink, as it would if launching kernels had to wait for the CPU."
    groups = ", ".join(f"{trend.precision} {trend.mode}" for trend in trends if trend.grows_as_models_shrink)
    if code is GradientCode.GROWS_BUT_GPU_DIFFERS:
        meaning = ", but the GPU side differs too, so this says nothing about the CPU side."
    else:
        meaning = ": small models suffer most, as if launching kernels had to wait for the CPU."
    return f"The gap grows as models shrink ({groups}){meaning}"


def trend_line(trend: Trend) -> str:
    return (
        f"{trend.precision} {trend.mode}: smallest models {trend.small:.2f}x, largest {trend.large:.2f}x "
        f"(rank correlation {trend.rho:.2f}, {count(trend.cells, 'cell')})"
    )


# Causes

CAUSES: Mapping[CauseCode, str] = {
    CauseCode.THROTTLING: "CFS throttling",
    CauseCode.OVERSUBSCRIPTION: "more threads than CPUs",
    CauseCode.CONTENTION: "waiting for a CPU that others use",
    CauseCode.MIGRATION: "threads that move between CPUs",
    CauseCode.NUMA: "CPUs on another NUMA node than the GPU",
    CauseCode.FREQUENCY: "CPU speed",
    CauseCode.UNEXPLAINED: "unexplained",
}
_UNRECORDED: Mapping[CauseCode, str] = {
    CauseCode.THROTTLING: "throttling",
    CauseCode.CONTENTION: "waiting for a CPU",
    CauseCode.MIGRATION: "migrations",
    CauseCode.FREQUENCY: "CPU speed",
}


def throttled_periods(gap: Gap) -> str:
    return f"{_periods(gap.slow)} throttled {gap.slow.where}, {_periods(gap.fast, short=True)} {gap.fast.where}"


def _periods(arm: Arm, *, short: bool = False) -> str:
    periods, throttled = arm.rate("periods"), arm.rate("throttled_periods")
    if periods is None or throttled is None:
        time = arm.rate("throttled_ms_per_s")
        return "an unknown number" if time is None else f"{time:.0f} ms of CPU time per second"
    if short:
        return f"{throttled:.0f} of {periods:.0f}" if periods else "none (no quota)"
    return f"{throttled:.0f} of {count(round(periods), 'CFS period')}"


def stalls(gap: Gap, slow_ms: float, fast_ms: float, least_ms: float) -> str:
    return (
        f"stalls ({least_ms:.0f} ms or more above the median) take {slow_ms:.2f} ms of a step {gap.slow.where}, "
        f"{fast_ms:.2f} ms {gap.fast.where}"
    )


def run_delay(gap: Gap, slow: float, fast: float) -> str:
    return (
        f"the launching thread was kept from running for {slow:.1%} of the time {gap.slow.where}, "
        f"{fast:.1%} {gap.fast.where}"
    )


def crowded(gap: Gap, threads: int, cpus: float) -> str:
    return f"{count(threads, 'thread')} on {count(cpus, 'CPU')} {gap.slow.where}"


NO_FIXED_ARM = "no arm with a fixed number of threads shows their part"


def fixed_threads(gap: Gap, fixed: Arm, threads: float) -> str:
    """What the arm with a fixed number of threads shows."""
    slow, fast = gap.slow, gap.fast
    if fixed == fast:
        return f"with {count(threads, 'thread')} a step takes {fixed.mean_ms:.2f} ms instead of {slow.mean_ms:.2f} ms {slow.where}"
    if fast.mean_ms <= fixed.mean_ms <= slow.mean_ms:
        return (
            f"with {count(threads, 'thread')} a step takes {fixed.mean_ms:.2f} ms, "
            f"between {slow.mean_ms:.2f} ms {slow.where} and {fast.mean_ms:.2f} ms {fast.where}"
        )
    return f"a step takes {fixed.mean_ms:.2f} ms with {count(threads, 'thread')}, {slow.mean_ms:.2f} ms {slow.where}"


def waiting(gap: Gap, slow: float, fast: float) -> str:
    return (
        f"the launching thread waited for a CPU for {slow:.1%} of the time {gap.slow.where}, {fast:.1%} "
        f"{gap.fast.where} (blocks without throttling)"
    )


def preempted(gap: Gap, slow: float, fast: float) -> str:
    return f"it was preempted {slow:.0f} times per second, {fast:.0f} {gap.fast.where}"


def busy_host(gap: Gap, slow: float, fast: float) -> str:
    return f"the host had {slow:.1f} CPUs busy, {fast:.1f} {gap.fast.where}"


def migrations(gap: Gap, slow: float, fast: float) -> str:
    return f"the launching thread moved {slow:.0f} times per second {gap.slow.where}, {fast:.0f} {gap.fast.where}"


MIGRATION_COST_UNKNOWN = "the cost of these moves was not measured"


def numa_placement(gap: Gap, gpu_node: float) -> str:
    nodes = [f"on {arm.environment['cpu_numa_nodes']} {arm.where}" for arm in (gap.slow, gap.fast)]
    return f"the GPU is at NUMA node {gpu_node:.0f}, the CPUs are {', '.join(nodes)}"


def copy_to_gpu(slow_ms: float, fast_ms: float) -> str:
    return f"the copy to the GPU takes {slow_ms:.2f} ms per step against {fast_ms:.2f} ms"


def reference_loop(gap: Gap, ratio: float) -> str:
    return (
        f"a fixed piece of CPU work took {gap.slow.rate('canary_ms'):.2f} ms {gap.slow.where} and "
        f"{gap.fast.rate('canary_ms'):.2f} ms {gap.fast.where} ({ratio:.2f}x)"
    )


def clock_speed(gap: Gap, slow: float, fast: float) -> str:
    return f"its CPU ran at {slow:.0f} MHz, {fast:.0f} {gap.fast.where}"


def unexplained(gap: Gap, rest: float) -> str:
    return f"{gap.ms * rest:.2f} of {gap.ms:.2f} ms per step have no cause whose part is known"


def speed_ruled_out(gap: Gap, ratio: float) -> str:
    return f"CPU speed ruled out: {reference_loop(gap, ratio)}."


def throttling_ruled_out(arm: Arm) -> str:
    counted = f"{_periods(arm)} were throttled" if arm.rate("periods") else "no quota applied"
    return f"Throttling ruled out: {counted} {arm.where}."


def not_recorded(arms: str, causes: Sequence[CauseCode]) -> str:
    names = ", ".join(_UNRECORDED[code] for code in causes)
    return f"Not recorded {arms}, so neither proved nor ruled out: {names}."
