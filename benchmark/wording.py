# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of a comparison and its report: numbers, verdicts, notes, causes and advice.

Programs act on the codes in `analysis` and `results`, never on these texts. A value that is not known reads "~".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from .analysis import (
    GRADIENT_CELLS,
    MAIN_CAUSE,
    Advice,
    AdviceCode,
    Analysis,
    Arm,
    Cause,
    CauseCode,
    Comparison,
    Estimate,
    Factors,
    Gap,
    GradientCode,
    Role,
    RuledOut,
    Trend,
    Verdict,
)
from .pod.cells import Cell
from .results import Note, NoteCode, ResultSet, Scalar

UNKNOWN = "~"
# Keys of an environment that are not set, rather than not known, if they have no value.
UNSET = ("quota_cpus", "omp_num_threads")


def number(value: float | None, suffix: str = "") -> str:
    """Three significant digits without an exponent; "~" if there is no number."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}{suffix}"


def share(value: float | None) -> str:
    """A share as a percentage; "~" if there is none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:.{0 if abs(value) >= 0.0995 else 1}f}"
    return f"{text.removesuffix('.0')}%"


def count(value: int, noun: str) -> str:
    """Such as "1 round" or "3 rounds"."""
    return f"{value} {noun}{'' if value == 1 else 's'}"


def ratio_text(value: Estimate | None, digits: int = 3) -> str:
    """Such as "1.63x [1.52, 1.75]" with `digits` decimals, or the bare ratio if there is no interval."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return f"{value.ratio:.{digits}f}x"
    return f"{value.ratio:.{digits}f}x [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def interval(value: Estimate | None) -> str:
    """Such as "[1.520, 1.750]"; "~" if there is none."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"[{value.low:.3f}, {value.high:.3f}]"


def scalar(key: str, value: Scalar) -> str:
    """A value of an environment; the key decides whether a missing value is not set or not known."""
    if value is None or value == "":
        return "not set" if key in UNSET else "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def detail(cell: Cell) -> str:
    """A cell without its model."""
    return f"{cell.precision} {cell.mode}" + (f", batch {cell.batch}" if cell.batch is not None else "")


def change(value: float | None, other: float | None, text: Callable[[float | None], str] = number) -> str:
    """Such as "3.10 → 2.90"; "~" if neither value is known."""
    return UNKNOWN if value is None and other is None else f"{text(value)} → {text(other)}"


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


# Notes on the input

_NOTES: Mapping[NoteCode, str] = {
    NoteCode.CELLS_LEFT_OUT: "only in {side}, left out: {cells}",
    NoteCode.CONTROL_DIFFERS: "the control's ratio is {ratio:.3f}x: more than the CPU differs",
    NoteCode.DIFFERENT_RUNS: (
        "the sides come from different runs: rounds are paired by number, and drift does not cancel out"
    ),
    NoteCode.ENVIRONMENTS_DIFFER: "the environments differ ({a} / {b}): {keys}",
    NoteCode.FEW_ROUNDS: "{rounds} rounds: the first interim analysis is after {first}",
    NoteCode.GPU_CARDS_DIFFER: "the GPU cards differ: {a} has {left}, {b} has {right}",
    NoteCode.GPUS_DIFFER: "the GPUs differ: {a} has {left}, {b} has {right}",
    NoteCode.INCOMPLETE_ROUNDS: "not in every round: {cells}; family and control use complete rounds only",
    NoteCode.LAST_LINE_CUT: "{place}: the last line is incomplete and was ignored",
    NoteCode.LOG_INCOMPLETE: "{finding}",
    NoteCode.NO_CONTROL: "no negative control: nothing shows that the sides differ in the CPU only",
    NoteCode.NO_LAUNCH_BOUND_CELL: (
        "no cell is known to be launch-bound: the verdict is about all cells except the controls"
    ),
    NoteCode.NO_SYSTEM_INFO: "{name}: no system_info.txt: only the GPU's name is known of its environment",
    NoteCode.ONE_RUN: "steps of one run are not replicates: an interval needs {first} rounds of fresh processes",
    NoteCode.PROCESSES_ENDED_EARLY: "{arm}: {ended} of {started} processes ended early; their complete blocks count",
    NoteCode.ROUNDS_UNUSED: "{rounds} rounds: {used} are used, because interim analyses are after {analyses} rounds",
    NoteCode.SAME_NUMBERS: "both sides contain the same numbers: is it the same run twice?",
    NoteCode.SEVERAL_GPU_CARDS: "{arm} ran on several GPU cards ({cards}): cards of one model differ by 2 to 5 %",
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


# The verdict


def family_basis(cells: int, launch_bound: bool) -> str:
    """Such as "4 launch-bound cells"."""
    return count(cells, "launch-bound cell" if launch_bound else "cell")


def verdict_line(comparison: Comparison) -> str:
    """The verdict in one line, its name first."""
    return f"{comparison.verdict}: {_statement(comparison)}"


def _statement(comparison: Comparison) -> str:
    a, b, family, control = comparison.label_a, comparison.label_b, comparison.family, comparison.control
    if comparison.verdict is Verdict.INVALID:
        return _why_invalid(comparison)
    if family is None:
        return f"no cell was timed on both sides of {a} and {b}."
    if family.low is None:
        ratios = [r.estimate.ratio for r in comparison.cells if r.estimate and r.role is not Role.CONTROL]
        span = f"{min(ratios):.2f}x to {max(ratios):.2f}x" if len(ratios) > 1 else f"{family.ratio:.2f}x"
        few = "one run gives" if family.rounds == 1 else f"{family.rounds} rounds give"
        return f"{a} takes {span} the time of {b} over {comparison.family_basis}, but {few} no interval."
    claim = {
        Verdict.BEATS: f"{b} is faster than {a}",
        Verdict.WORSE: f"{b} is slower than {a}",
        Verdict.EQUIVALENT: f"{b} and {a} are equal within {comparison.margin:.1%}",
    }.get(comparison.verdict, f"no conclusion yet on {b} against {a} at a margin of {comparison.margin:.1%}")
    checked = f"; control {ratio_text(control)}" if control is not None else ""
    return (
        f"{claim}: {a} takes {ratio_text(family)} the time of {b} on {comparison.family_basis}, "
        f"{family.rounds} rounds{checked}."
    )


def _why_invalid(comparison: Comparison) -> str:
    if comparison.gpu_slowed is not None:
        return f"{_gpu_slowed(comparison)}: cool it and check its power, then measure again."
    return (
        f"the negative control differs by {ratio_text(comparison.control)}, which the CPU cannot explain: "
        f"make the GPUs equal, then measure again."
    )


def _gpu_slowed(comparison: Comparison) -> str:
    a, b = comparison.gpu_slowed or (0.0, 0.0)
    return (
        f"heat or the power supply slowed the GPU in {a:.0%} of the blocks of {comparison.label_a} "
        f"and {b:.0%} of {comparison.label_b}"
    )


def gpu_evidence(comparison: Comparison) -> str:
    """What shows that the GPU sides of an invalid comparison differ."""
    control = comparison.control
    if control is not None and control.verdict in (Verdict.BEATS, Verdict.WORSE):
        return f"the negative control differs by {ratio_text(control)}, which no CPU explains"
    return _gpu_slowed(comparison)


def headline(analysis: Analysis) -> str:
    """The verdict as one sentence that needs no other."""
    comparison = analysis.comparison
    a, b, family = comparison.label_a, comparison.label_b, comparison.family
    if comparison.verdict is Verdict.INVALID or family is None or family.low is None or family.high is None:
        return _statement(comparison)
    on = f"on {comparison.family_basis}{_others(analysis)}"
    control = f"; control {comparison.control.ratio:.2f}x" if comparison.control else ""
    margin = share(comparison.margin)
    if comparison.verdict is Verdict.BEATS:
        return f"{b} is {ratio_text(family, 2)} faster than {a} {on}{control}."
    if comparison.verdict is Verdict.WORSE:
        turned = f"{1 / family.ratio:.2f}x [{1 / family.high:.2f}, {1 / family.low:.2f}]"
        return f"{b} is {turned} slower than {a} {on}{control}."
    if comparison.verdict is Verdict.EQUIVALENT:
        return f"{b} and {a} are equal within {margin}: {ratio_text(family)} {on}{control}."
    return f"No conclusion yet on {b} against {a} at a margin of {margin}: {ratio_text(family)} {on}{control}."


def _others(analysis: Analysis) -> str:
    """The geometric mean over the cells outside family and controls, inverted where the verdict inverts its ratio."""
    cells = analysis.comparison.cells
    if not any(cell.role is Role.LAUNCH_BOUND for cell in cells):
        return ""
    logs = [math.log(cell.estimate.ratio) for cell in cells if cell.estimate and cell.role is Role.OTHER]
    if not logs:
        return ""
    others = "the other cell" if len(logs) == 1 else f"the {len(logs)} others"
    turn = -1 if analysis.comparison.verdict is Verdict.WORSE else 1
    return f", {math.exp(turn * fmean(logs)):.2f}x on {others}"


def effort(analysis: Analysis) -> str:
    """Such as "3 rounds, 4 GPU-minutes", as far as known."""
    family = analysis.comparison.family
    rounds = count(family.rounds, "round") if family else ""
    return ", ".join(part for part in (rounds, gpu_time(analysis)) if part)


def gpu_time(analysis: Analysis) -> str:
    """Such as "4 GPU-minutes"; empty if not known."""
    minutes = analysis.gpu_minutes
    if minutes is None or not math.isfinite(minutes):
        return ""
    text = f"{minutes:.0f}" if minutes >= 1.95 else f"{minutes:.1f}" if minutes >= 0.1 else "under 0.1"
    return f"{text} GPU-minute{'' if text == '1.0' else 's'}"


# The gradient


def gradient_conclusion(comparison: Comparison) -> str:
    """What the trends show."""
    if comparison.gradient_code is GradientCode.NONE:
        return f"No gradient: no precision and mode has {GRADIENT_CELLS} cells that differ."
    if comparison.gradient_code is GradientCode.FLAT:
        return "The gap does not grow as models shrink, as it would if launching kernels had to wait for the CPU."
    groups = ", ".join(
        f"{trend.precision} {trend.mode}" for trend in comparison.gradient if trend.grows_as_models_shrink
    )
    if comparison.gradient_code is GradientCode.GROWS_BUT_GPU_DIFFERS:
        meaning = ", but the GPU side differs too, so this says nothing about the CPU side."
    else:
        meaning = ": this points to the CPU side (launch-bound cells suffer most)."
    return f"The gap grows as models shrink ({groups}){meaning}"


def trend_line(trend: Trend) -> str:
    return (
        f"{trend.precision} {trend.mode}: smallest models {trend.small:.2f}x, largest {trend.large:.2f}x "
        f"(rank correlation {trend.rho:.2f}, p {trend.p:.2g}, {trend.cells} cells)"
    )


# Causes

CAUSES: Mapping[CauseCode, str] = {
    CauseCode.GPU: "the GPU side",
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
    return f"{_periods(gap.slow)} throttled on {gap.slow.name}, {_periods(gap.fast, short=True)} on {gap.fast.name}"


def _periods(arm: Arm, *, short: bool = False) -> str:
    periods, throttled = arm.rate("periods"), arm.rate("throttled_periods")
    if periods is None or throttled is None:
        time = arm.rate("throttled_ms_per_s")
        return "an unknown number" if time is None else f"{time:.0f} ms of CPU time per second"
    if short:
        return f"{throttled:.0f} of {periods:.0f}" if periods else "none (no quota)"
    return f"{throttled:.0f} of {periods:.0f} CFS periods"


def stalls(gap: Gap, slow_ms: float, fast_ms: float, least_ms: float) -> str:
    return (
        f"stalls ({least_ms:.0f} ms or more above the median) take {slow_ms:.2f} ms of a step on {gap.slow.name}, "
        f"{fast_ms:.2f} ms on {gap.fast.name}"
    )


def run_delay(gap: Gap, slow: float, fast: float) -> str:
    return (
        f"the launching thread was kept from running for {slow:.1%} of the time on {gap.slow.name}, "
        f"{fast:.1%} on {gap.fast.name}"
    )


def crowded(gap: Gap, threads: int, cpus: float) -> str:
    return f"{threads} threads on {cpus:g} CPUs on {gap.slow.name}"


NO_FIXED_ARM = "no arm with a fixed number of threads shows their part"


def fixed_threads(gap: Gap, fixed: Arm, threads: float) -> str:
    """What the arm with a fixed number of threads shows."""
    slow, fast = gap.slow, gap.fast
    if fast.mean_ms <= fixed.mean_ms <= slow.mean_ms:
        return (
            f"with {threads:g} threads ({fixed.name}) a step takes {fixed.mean_ms:.2f} ms, "
            f"between {slow.mean_ms:.2f} ms on {slow.name} and {fast.mean_ms:.2f} ms on {fast.name}"
        )
    return f"{fixed.name} takes {fixed.mean_ms:.2f} ms per step, {slow.name} {slow.mean_ms:.2f} ms"


def waiting(gap: Gap, slow: float, fast: float) -> str:
    return (
        f"the launching thread waited for a CPU for {slow:.1%} of the time on {gap.slow.name}, {fast:.1%} on "
        f"{gap.fast.name} (blocks without throttling)"
    )


def preempted(gap: Gap, slow: float, fast: float) -> str:
    return f"it was preempted {slow:.0f} times per second, {fast:.0f} on {gap.fast.name}"


def busy_host(gap: Gap, slow: float, fast: float) -> str:
    return f"the host had {slow:.1f} CPUs busy, {fast:.1f} on {gap.fast.name}"


def migrations(gap: Gap, slow: float, fast: float) -> str:
    return f"the launching thread moved {slow:.0f} times per second on {gap.slow.name}, {fast:.0f} on {gap.fast.name}"


MIGRATION_COST_UNKNOWN = "the cost of these moves was not measured"


def numa_placement(gap: Gap, gpu_node: float) -> str:
    nodes = [f"CPUs of {arm.name} are on {arm.environment['cpu_numa_nodes']}" for arm in (gap.slow, gap.fast)]
    return f"the GPU is at NUMA node {gpu_node:.0f}, {', '.join(nodes)}"


def copy_to_gpu(slow_ms: float, fast_ms: float) -> str:
    return f"the copy to the GPU takes {slow_ms:.2f} ms per step against {fast_ms:.2f} ms"


def reference_loop(gap: Gap, ratio: float) -> str:
    return (
        f"a fixed piece of CPU work took {gap.slow.rate('canary_ms'):.2f} ms on {gap.slow.name} and "
        f"{gap.fast.rate('canary_ms'):.2f} ms on {gap.fast.name} ({ratio:.2f}x)"
    )


def clock_speed(gap: Gap, slow: float, fast: float) -> str:
    return f"its CPU ran at {slow:.0f} MHz, {fast:.0f} on {gap.fast.name}"


def unexplained(gap: Gap, rest: float) -> str:
    return f"{gap.ms * rest:.2f} of {gap.ms:.2f} ms per step have no known cause"


def speed_ruled_out(gap: Gap, ratio: float) -> str:
    return f"CPU speed ruled out: {reference_loop(gap, ratio)}."


def throttling_ruled_out(arm: Arm) -> str:
    counted = f"{_periods(arm)} were throttled" if arm.rate("periods") else "no quota applied"
    return f"Throttling ruled out: {counted} on {arm.name}."


def not_recorded(arms: str, causes: Sequence[CauseCode]) -> str:
    names = ", ".join(_UNRECORDED[code] for code in causes)
    return f"Not recorded on {arms}, so neither proved nor ruled out: {names}."


def why(
    comparison: Comparison,
    causes: Sequence[Cause],
    ruled_out: Sequence[RuledOut],
    unknown: Sequence[str],
    *,
    recorded: bool,
    factors: Factors | None,
) -> list[str]:
    """Explains the family's gap: the causes, what was ruled out, what is unknown, and the part of the threads.

    `recorded` says whether the input has more than mean times.
    """
    sentences = []
    if causes:
        main, *rest = causes
        sentences.append(_main_cause(main, rest))
        sentences += [f"Also {_named(c)}: {c.text}." for c in rest if c.code is not CauseCode.UNEXPLAINED]
        sentences += [f"Unexplained: {c.text}." for c in rest if c.code is CauseCode.UNEXPLAINED]
    elif not recorded:
        sentences.append(gradient_conclusion(comparison))
    elif comparison.family is not None:
        sentences.append(
            f"The family's ratio of {comparison.family.ratio:.3f} lies within the margin of {comparison.margin:.1%}: "
            f"there is no gap to explain."
        )
    return [*sentences, *(item.text for item in ruled_out), *unknown, *([factors.sentence] if factors else [])]


def _main_cause(main: Cause, rest: Sequence[Cause]) -> str:
    if main.code is CauseCode.UNEXPLAINED:
        known = "None of the causes found" if rest else "No known cause"
        return f"{known} explains half of the gap: {main.text}."
    if main.share is None:
        return f"Main cause: {CAUSES[main.code]}: {main.text}."
    return f"Main cause: {_named(main)}: {main.text}."


def _named(cause: Cause) -> str:
    """The cause with its share. Shares by stalls and run delay are lower bounds."""
    if cause.share is None:
        return f"{CAUSES[cause.code]} (part of the gap unknown)"
    least = "at least " if cause.code is CauseCode.THROTTLING and cause.share < 1 else ""
    half = "" if cause.share >= MAIN_CAUSE else " only"
    return f"{CAUSES[cause.code]} ({least}{cause.share:.0%} of the gap{half})"


def in_short(analysis: Analysis) -> list[str]:
    """The causes by name with the main one's first evidence, and the part that the number of threads has."""
    if analysis.comparison.verdict is Verdict.INVALID:
        return []
    sentences = list(analysis.why[:1])
    if analysis.causes:
        main, *others = [
            f"{CAUSES[c.code]} ({share(c.share)} of the gap)" if finite(c.share) else CAUSES[c.code]
            for c in analysis.causes
        ]
        sentences = [f"{main[:1].upper()}{main[1:]}: {analysis.causes[0].evidence[0]}."]
        sentences += [f"Also {', '.join(others)}."] if others else []
    alone = analysis.factors.share_by_threads if analysis.factors else None
    if finite(alone):
        sentences.append(f"Setting the number of threads alone closes {share(alone)} of the gap.")
    return sentences


# Threads and placement


def threads_not_set(group: str) -> str:
    return f"No arm of {group} has its threads set: their part is unknown."


def threads_not_timed(a: str, fixed: str, b: str) -> str:
    return f"{a}, {b} and {fixed} do not have the same cells timed: the part of the threads is unknown."


def thread_times(means: Mapping[str, float], cells: int) -> str:
    """The mean step of each arm in ms, over so many cells."""
    steps = ", ".join(f"{arm} {mean:.2f} ms" for arm, mean in means.items())
    return f"{steps} per step, geometric mean of {count(cells, 'cell')}"


def no_gap_to_divide(a: str, b: str, margin: float, times: str) -> str:
    return f"{a} and {b} do not differ by more than {margin:.1%}: there is no gap to divide ({times})."


def no_gain_to_divide(a: str, b: str, times: str) -> str:
    return f"{b} is slower than {a}: there is no gain to divide ({times})."


def threads_part(a: str, b: str, fixed: str, threads: str, part: float, extra: Estimate | None, times: str) -> str:
    """What a fixed number of threads does alone: it closes `part` of the gap; `extra` is `fixed` over B."""
    if extra is not None:
        times += f"; {fixed} takes {ratio_text(extra)} the time of {b}"
    if part < 0:
        return f"{threads} threads widen the gap by {-part:.0%} instead of closing it ({times})."
    if part > 1:
        return f"{threads} threads alone gain more than {b}: {part:.0%} of its gain ({times})."
    return f"{threads} threads alone close {part:.0%} of the gap between {a} and {b} ({times})."


# Advice

_ADVICE: Mapping[AdviceCode, str] = {
    AdviceCode.ALIGN_CPU_SPEED: (
        "Part of the gap is CPU speed. On two machines, set the same frequency governor and boost. On one machine, "
        "make sure that no other work shares its cores. Then measure again."
    ),
    AdviceCode.ALIGN_NUMA: (
        "The CPUs of {b} are on NUMA node {nodes} and its GPU is at node {gpu}: keep them together with Topology "
        "Manager (policy best-effort or single-numa-node)."
    ),
    AdviceCode.KEEP_A: "Keep {a}: {b} is slower. Undo the change if it is already made.",
    AdviceCode.MEASURE_FIXED_THREADS: (
        "Measure {slow} with OMP_NUM_THREADS={limit:.0f} too: it runs {threads} threads on {limit:g} CPUs, and a "
        "fitting number of threads may close part of the gap without pinning."
    ),
    AdviceCode.NO_CHANGE: (
        "No gain in speed: {a} and {b} are equal within {margin:.1%}. Change only for another reason."
    ),
    AdviceCode.REPEAT: (
        "Do not act on these numbers: make the GPU side equal (card, clocks, heat), then measure again."
    ),
    AdviceCode.SET_THREADS: (
        "The cheap remedy: set OMP_NUM_THREADS{number}, the CPU limit, in pods that cannot be pinned: it closes "
        "{part:.0%} of the gap without changing the node."
    ),
    AdviceCode.TAKE_B: "Take {b}: it is faster than {a} beyond the margin.",
    AdviceCode.THREADS_DO_NOT_HELP: (
        "OMP_NUM_THREADS is not a substitute here: the number of threads closes {part:.0%} of the gap."
    ),
}


def advice(code: AdviceCode, **values: object) -> Advice:
    """The advice with `values` in its text."""
    return Advice(code, _ADVICE[code].format(**values))


def measure_more(comparison: Comparison, first: int, following: int | None) -> Advice:
    """What to measure before a decision; `following` is the next interim analysis, None after the last."""
    family = comparison.family
    if family is None:
        text = "Measure again with cells that both sides can time."
    elif family.low is None:
        text = f"Measure at least {first} rounds of fresh processes: without an interval, no change is justified."
    elif following is None:
        text = (
            f"{family.rounds} rounds did not decide: quiet the machine, or accept a wider margin than "
            f"{comparison.margin:.1%}."
        )
    else:
        text = f"Continue measuring: the next interim analysis is after {following} rounds."
    return Advice(AdviceCode.MEASURE_MORE, text)


def beyond_threads(b: str, extra: Estimate) -> Advice:
    """What B gains beyond the number of threads; `extra` is A's group with fixed threads over B."""
    ratio = ratio_text(extra)
    text = {
        Verdict.BEATS: f"{b} gains {ratio} beyond the number of threads: this is the part of pinning.",
        Verdict.EQUIVALENT: f"{b} gains nothing beyond the number of threads ({ratio}): the threads alone are enough.",
        Verdict.WORSE: f"{b} is slower than the number of threads alone ({ratio}): prefer the threads.",
    }.get(extra.verdict, f"What {b} gains beyond the number of threads is undecided ({ratio}).")
    return Advice(AdviceCode.COMPARE_WITH_THREADS, text)


def quota_remains(b: str, quota: float, throttled: Arm | None) -> Advice:
    """`throttled` is B's arm if it was throttled."""
    text = (
        f"{b} still has a CFS quota of {quota:g} CPUs: Kubernetes below 1.33 keeps it under the static policy, later "
        f"versions drop it (DisableCPUQuotaWithExclusiveCPUs)."
    )
    if throttled is not None:
        counted, periods = throttled.rate("throttled_periods"), throttled.rate("periods")
        how_often = f" in {counted:.0f} of {periods:.0f} CFS periods" if counted is not None and periods else ""
        text += f" It was still throttled{how_often}: set OMP_NUM_THREADS to the CPU limit there too."
    return Advice(AdviceCode.QUOTA_REMAINS, text)
