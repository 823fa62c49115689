# SPDX-License-Identifier: GPL-3.0-or-later
"""What two result sets allow to claim. Pure functions on plain data; times are ms, ratios are A's time over B's.

A is the reference («before»), B the candidate («after»): a ratio above 1 says that B is faster.

The rules and where they come from:

- The statistic of a cell and round is d = ln(mean_A) - ln(mean_B): means hold the stalls of CFS throttling, which a
  ratio of medians does not see. Rounds are the replicates, never steps (Kalibera & Jones, «Rigorous benchmarking in
  reasonable time», 2013; pyperf): the estimate is the mean of d over rounds with Student's t interval.
- Looks at 3, 5, 8 and 12 rounds, each at alpha / 4 (Bonferroni): the four intervals hold together with 1 - alpha,
  whichever look the measuring stopped at. Rounds after the newest look wait for the next one.
- Margin X: BEATS if the interval is above ln(1 + X), WORSE if below -ln(1 + X), EQUIVALENT if between them (two one-sided
  tests; Schuirmann 1987), else UNDECIDED.
- Claims about single cells pass Holm's step-down procedure (Holm 1979) over all cells with an interval.
- The family is the geometric mean over launch-bound cells: enqueue / (enqueue + wait) above 0.9 in either arm.
- Negative control: where its interval lies outside +-1 % the two arms differ in more than the CPU: INVALID. So they do
  where heat or the power supply slowed the GPU in one arm much oftener than in the other.
- Cells derived from others (the original's way of timing) hold the same steps once more: never in the family.
- The gradient: Kendall's tau (its one-sided p, exact without ties) between size and gap, Spearman's rho beside it.
  Sides that were not interleaved drift apart most in small models, and significantly so: of 26 published runs of the
  original (152 groups on 8 GPU models), first rows against last, 19 have a group that opens by more than 3 %, 6 by more
  than 10 %, 4 by more than 15 %, one by more than 20 %. There a gradient has to open by 20 %: 1 in 26 runs against itself
  would be called one. In interleaved rounds it has to open by X.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean, stdev

import numpy as np
import scipy  # loads its parts when they are used: a run that measures nothing must not wait for them

from benchmark.results import Cell, InputError, ResultSet, Timing

LOOKS = (3, 5, 8, 12)
MARGIN = 0.03
ALPHA = 0.05
CONTROL_MARGIN = 0.01
LAUNCH_BOUND = 0.9
# Bits of NVML's clocksEventReasons that slow the GPU from outside: HwSlowdown, SwThermal, HwThermal, HwPowerBrake. A power
# cap (0x4) is no fault: the arm that keeps the GPU busier reaches it sooner.
GPU_SLOWED = 0x8 | 0x20 | 0x40 | 0x80
GPU_SLOWED_MARGIN = 0.1
GRADIENT_CELLS = 5
DRIFT_OPENING = 0.20
AS_THE_ORIGINAL = "as the original times it"
CPU_SIDE = "points to the CPU side (launch-bound cells suffer most)"


class Verdict(StrEnum):
    """What may be said about B against A."""

    BEATS = "BEATS"
    WORSE = "WORSE"
    EQUIVALENT = "EQUIVALENT"
    UNDECIDED = "UNDECIDED"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Estimate:
    """A's time over B's, with the interval at `confidence` where there were rounds enough; `p` is of `verdict`."""

    ratio: float
    rounds: int
    verdict: Verdict = Verdict.UNDECIDED
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    p: float = 1.0


@dataclass(frozen=True)
class CellResult:
    """One common cell; `estimate` is None where one side could not time it, and `reason` says why."""

    cell: Cell
    verdict: Verdict
    estimate: Estimate | None = None
    mean_a_ms: float | None = None
    mean_b_ms: float | None = None
    role: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Trend:
    """Gap against size (B's time) within one precision and mode; `small` and `large` are the ratios of the outer thirds."""

    precision: str
    mode: str
    cells: int
    rho: float
    p: float
    small: float
    large: float
    grows_as_models_shrink: bool


@dataclass(frozen=True)
class Comparison:
    """The whole answer; `family` and `control` are geometric means over the cells named in `family_basis`."""

    label_a: str
    label_b: str
    margin: float
    verdict: Verdict
    sentence: str
    cells: tuple[CellResult, ...]
    family: Estimate | None
    family_basis: str
    control: Estimate | None
    gradient: tuple[Trend, ...]
    gradient_conclusion: str
    notes: tuple[str, ...]


def look_at(rounds: int) -> int | None:
    """The newest look that this many rounds allow, or None before the first."""
    return max((look for look in LOOKS if look <= rounds), default=None)


def estimate(d: Sequence[float], margin: float, alpha: float = ALPHA) -> Estimate:
    """Mean of the log ratios `d`, one a round in run order, with interval and verdict at the newest look.

    Before the first look there is no interval, and the verdict is UNDECIDED.
    """
    look = look_at(len(d))
    if look is None:
        return Estimate(math.exp(fmean(d)), len(d))
    used = d[:look]
    mean, error = fmean(used), stdev(used) / math.sqrt(look)
    level = alpha / len(LOOKS)
    half = float(scipy.stats.t.ppf(1 - level / 2, look - 1)) * error
    verdict, p = _claim(mean, error, look - 1, math.log1p(margin))
    return Estimate(
        math.exp(mean),
        look,
        verdict if p <= level else Verdict.UNDECIDED,
        math.exp(mean - half),
        math.exp(mean + half),
        1 - level,
        p,
    )


def _claim(mean: float, error: float, freedom: int, edge: float) -> tuple[Verdict, float]:
    """The region that holds `mean`, and the smallest level at which the two-sided interval lies within that region."""
    if mean > edge:
        verdict, distance = Verdict.BEATS, mean - edge
    elif mean < -edge:
        verdict, distance = Verdict.WORSE, -edge - mean
    else:
        verdict, distance = Verdict.EQUIVALENT, edge - abs(mean)
    if error == 0:
        return verdict, 0.0 if distance > 0 else 1.0
    return verdict, 2 * float(scipy.stats.t.sf(distance / error, freedom))


def holm(p: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects at family-wise level `alpha`, in the order given."""
    rejected = [False] * len(p)
    for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] > alpha / (len(p) - step):
            break
        rejected[index] = True
    return rejected


def compare(a: ResultSet, b: ResultSet, margin: float = MARGIN, alpha: float = ALPHA) -> Comparison:
    """Compares B with A over their common cells. Raises InputError where there is none."""
    common = [cell for cell in a.cells() if cell in set(b.cells())]
    if not common:
        raise InputError([_no_common(a, b)])
    rounds_a, rounds_b = _by_round(a), _by_round(b)
    d = {cell: _log_ratios(cell, rounds_a, rounds_b) for cell in common}
    failed = {cell: _failure(cell, a, b) for cell in common}
    timed = [cell for cell in common if not failed[cell] and d[cell]]
    derived = {cell for cell in timed if any(t.derived for side in (a, b) for t in side.timings(cell))}
    controls = _controls([cell for cell in timed if cell not in derived], a, b)
    rest = [cell for cell in timed if cell not in controls and cell not in derived]
    bound = [cell for cell in rest if _launch_bound(cell, a, b)]
    family_cells, basis = (bound, "launch-bound cell") if bound else (rest, "cell")
    family = _pooled(family_cells, d, margin, alpha)
    control = _pooled(controls, d, CONTROL_MARGIN, alpha)
    slowed = _gpu_slowed(a, b)
    invalid = bool(slowed) or (control is not None and control.verdict in (Verdict.BEATS, Verdict.WORSE))

    estimates = {cell: estimate(list(d[cell].values()), margin, alpha) for cell in timed}
    tested = [cell for cell in timed if estimates[cell].low is not None]
    kept = holm([estimates[cell].p for cell in tested], alpha / len(LOOKS))
    claimed = {cell for cell, keep in zip(tested, kept) if keep}
    cells = []
    for cell in common:
        if cell not in estimates:
            reason = failed[cell] or "no round in which both sides timed it"
            cells.append(CellResult(cell, Verdict.UNDECIDED, reason=reason))
            continue
        verdict = estimates[cell].verdict if cell in claimed else Verdict.UNDECIDED
        role = (
            "control"
            if cell in controls
            else AS_THE_ORIGINAL
            if cell in derived
            else "launch-bound"
            if cell in bound
            else ""
        )
        sides = _side_means(cell, rounds_a, rounds_b, list(d[cell])[: estimates[cell].rounds])
        cells.append(CellResult(cell, Verdict.INVALID if invalid else verdict, estimates[cell], *sides, role))
    interleaved = bool(a.run_ids) and a.run_ids == b.run_ids and any(value.low for value in estimates.values())
    opening = margin if interleaved else max(margin, DRIFT_OPENING)
    trends = gradient([result for result in cells if result.estimate and result.role != "control"], opening)
    conclusion = _conclude(trends, invalid or _differ("gpu", a, b))
    verdict = Verdict.INVALID if invalid else family.verdict if family else Verdict.UNDECIDED
    result = Comparison(
        a.label,
        b.label,
        margin,
        verdict,
        "",
        tuple(cells),
        family,
        f"{len(family_cells)} {basis}{'' if len(family_cells) == 1 else 's'}",
        control,
        trends,
        conclusion,
        (*a.notes, *b.notes, *_notes(a, b, d, common, control, bool(bound))),
    )
    return replace(result, sentence=_sentence(result, slowed))


def family_cells(comparison: Comparison) -> list[Cell]:
    """The cells that the verdict is about: the launch-bound ones, else all but the controls and the derived ones."""
    timed = [result for result in comparison.cells if result.estimate is not None]
    bound = [result.cell for result in timed if result.role == "launch-bound"]
    return bound or [result.cell for result in timed if not result.role]


def family_estimate(
    cells: Sequence[Cell], a: ResultSet, b: ResultSet, margin: float, alpha: float = ALPHA
) -> Estimate | None:
    """Geometric mean over `cells` of A's time over B's; None if no round has all of them on both sides."""
    rounds_a, rounds_b = _by_round(a), _by_round(b)
    return _pooled(list(cells), {cell: _log_ratios(cell, rounds_a, rounds_b) for cell in cells}, margin, alpha)


def family_mean(cells: Sequence[Cell], results: ResultSet) -> float | None:
    """Geometric mean in ms over `cells` of their geometric means over rounds; None where a cell was not timed."""
    rounds = _by_round(results)
    means = []
    for cell in cells:
        logs = [log for processes in rounds.values() if (log := _round_log(cell, processes)) is not None]
        if not logs:
            return None
        means.append(fmean(logs))
    return math.exp(fmean(means)) if means else None


def _by_round(results: ResultSet) -> dict[int, list[dict[Cell, Timing]]]:
    rounds: dict[int, list[dict[Cell, Timing]]] = {}
    for process in results.processes:
        rounds.setdefault(process.round, []).append(dict(process.timings))
    return rounds


def _round_log(cell: Cell, processes: list[dict[Cell, Timing]]) -> float | None:
    """Mean over the round's processes of the log of each one's mean step; None where none timed the cell."""
    means = [math.log(p[cell].mean_ms) for p in processes if cell in p and p[cell].status == "ok"]
    return fmean(means) if means else None


def _log_ratios(
    cell: Cell, a: dict[int, list[dict[Cell, Timing]]], b: dict[int, list[dict[Cell, Timing]]]
) -> dict[int, float]:
    """d by round, for the rounds in which both sides timed the cell."""
    ratios = {}
    for number in sorted(a.keys() & b.keys()):
        log_a, log_b = _round_log(cell, a[number]), _round_log(cell, b[number])
        if log_a is not None and log_b is not None:
            ratios[number] = log_a - log_b
    return ratios


def _side_means(
    cell: Cell,
    a: dict[int, list[dict[Cell, Timing]]],
    b: dict[int, list[dict[Cell, Timing]]],
    rounds: list[int],
) -> tuple[float, float]:
    """Geometric means over the rounds used, so that their quotient is the ratio; for one run its plain mean."""
    logs = [[_round_log(cell, side[number]) or 0.0 for number in rounds] for side in (a, b)]
    return math.exp(fmean(logs[0])), math.exp(fmean(logs[1]))


def _failure(cell: Cell, a: ResultSet, b: ResultSet) -> str:
    """The sides on which the cell ran out of memory or was skipped, in words; empty if on none."""
    found = []
    for side in (a, b):
        for timing in side.timings(cell):
            if timing.status == "oom":
                found.append(f"{side.label}: out of memory")
            elif timing.status == "skipped":
                found.append(f"{side.label}: skipped{f' ({timing.reason})' if timing.reason else ''}")
    return "; ".join(dict.fromkeys(found))


def _gpu_slowed(a: ResultSet, b: ResultSet) -> str:
    """Says on which side heat or the power supply slowed the GPU oftener, by more than the margin; empty if on none."""
    shares = []
    for side in (a, b):
        blocks = [block for process in side.processes for timing in process.timings.values() for block in timing.blocks]
        known = [int(b.counters["gpu_throttle_reasons"]) for b in blocks if "gpu_throttle_reasons" in b.counters]
        if not known:
            return ""
        shares.append(sum(1 for mask in known if mask & GPU_SLOWED) / len(known))
    if abs(shares[0] - shares[1]) <= GPU_SLOWED_MARGIN:
        return ""
    return f"heat or the power supply slowed the GPU in {shares[0]:.0%} of the blocks of {a.label}, {shares[1]:.0%} of {b.label}"


def _controls(cells: list[Cell], a: ResultSet, b: ResultSet) -> list[Cell]:
    """Cells declared as control, else double precision on a GPU, which the CPU does not move."""
    declared = [cell for cell in cells if any(t.control for side in (a, b) for t in side.timings(cell))]
    if declared:
        return declared
    on_gpu = a.environment.get("gpu") and b.environment.get("gpu")
    plain = [cell for cell in cells if cell.precision == "double" and not cell.mode.endswith("-loader")]
    return plain if on_gpu else []


def _launch_bound(cell: Cell, a: ResultSet, b: ResultSet) -> bool:
    for side in (a, b):
        enqueue = sum(timing.enqueue_ms for timing in side.timings(cell))
        wait = sum(timing.wait_ms for timing in side.timings(cell))
        if enqueue + wait > 0 and enqueue / (enqueue + wait) > LAUNCH_BOUND:
            return True
    return False


def _pooled(cells: list[Cell], d: dict[Cell, dict[int, float]], margin: float, alpha: float) -> Estimate | None:
    """Geometric mean over `cells`, by round; rounds that lack one of them are left out, as they would shift the mix."""
    if not cells:
        return None
    whole = sorted(set.intersection(*(set(d[cell]) for cell in cells)))
    return estimate([fmean(d[cell][number] for cell in cells) for number in whole], margin, alpha) if whole else None


def gradient(results: Sequence[CellResult], opening: float) -> tuple[Trend, ...]:
    """Trend of the gap against size for each precision and mode with at least five cells.

    Size is B's mean step. The gap is ln(ratio), turned so that it is positive on the whole: swapping A and B changes
    no conclusion. A trend needs p <= 0.05 and ratios of the outer thirds that differ by more than the share `opening`.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for result in results:
        if result.estimate is not None and result.mean_b_ms is not None:
            point = (result.mean_b_ms, math.log(result.estimate.ratio))
            groups.setdefault((result.cell.precision, result.cell.mode), []).append(point)
    trends = []
    for (precision, mode), points in groups.items():
        if len(points) < GRADIENT_CELLS:
            continue
        sizes, logs = np.array(sorted(points)).T
        gaps = logs if logs.sum() >= 0 else -logs
        if np.ptp(gaps) == 0 or np.ptp(sizes) == 0:
            continue
        third = len(points) // 3
        small, large = float(logs[:third].mean()), float(logs[-third:].mean())
        p = float(scipy.stats.kendalltau(sizes, gaps, alternative="less").pvalue)
        opens = float(gaps[:third].mean() - gaps[-third:].mean()) > math.log1p(opening)
        trends.append(
            Trend(
                precision,
                mode,
                len(points),
                float(scipy.stats.spearmanr(sizes, gaps).statistic),
                p,
                math.exp(small),
                math.exp(large),
                opens and p <= ALPHA,
            )
        )
    return tuple(trends)


def _conclude(trends: tuple[Trend, ...], gpu_side_differs: bool) -> str:
    if not trends:
        return f"No gradient: no precision and mode has {GRADIENT_CELLS} cells that differ."
    growing = [f"{trend.precision} {trend.mode}" for trend in trends if trend.grows_as_models_shrink]
    if not growing:
        return "The gap does not grow as models shrink, as it would where launching kernels is what waits for the CPU."
    finding = f"The gap grows as models shrink ({', '.join(growing)})"
    if gpu_side_differs:
        return f"{finding}, but the GPU side differs too: this says nothing about the CPU side."
    return f"{finding}: {CPU_SIDE}."


def _differ(key: str, a: ResultSet, b: ResultSet) -> bool:
    """Whether both environments know `key` and disagree on it."""
    left, right = a.environment.get(key), b.environment.get(key)
    return bool(left and right and left != right)


def _no_common(a: ResultSet, b: ResultSet) -> str:
    sides = "; ".join(f"{side.label} has {', '.join(map(str, side.cells())) or 'none'}" for side in (a, b))
    return f"no common cell: {sides}. Expected at least one cell on both sides. Compare runs of the same matrix."


def _notes(
    a: ResultSet,
    b: ResultSet,
    d: dict[Cell, dict[int, float]],
    common: list[Cell],
    control: Estimate | None,
    launch_bound: bool,
) -> list[str]:
    """What a reader of the verdict has to know about the input; red flags first."""
    notes = []
    for key, name in (("gpu", "GPU"), ("gpu_uuid", "GPU card")):
        if _differ(key, a, b):
            left, right = a.environment[key], b.environment[key]
            notes.append(f"red flag: the {name}s differ: {a.label} has {left}, {b.label} has {right}")
    ratios = [value for rounds in d.values() for value in rounds.values()]
    if ratios and not any(ratios):
        notes.append("red flag: both sides hold the same numbers: is it the same run twice?")
    rounds = max((len(by_round) for by_round in d.values()), default=0)
    if rounds < LOOKS[0]:
        if control is not None and abs(math.log(control.ratio)) > math.log1p(CONTROL_MARGIN):
            notes.append(f"red flag: the control's ratio is {control.ratio:.3f}x: more than the CPU differs")
        if rounds == 1:
            notes.append(f"steps of one run are no replicates: an interval needs {LOOKS[0]} rounds of fresh processes")
        elif rounds:
            notes.append(f"{rounds} rounds: the first look at an interval is at {LOOKS[0]}")
    else:
        if a.run_ids != b.run_ids:
            notes.append("the sides come from different runs: rounds are paired by number, drift is not cancelled")
        if not launch_bound:
            notes.append("no cell is known as launch-bound: the verdict is about all cells but the controls")
        if control is None:
            notes.append("no negative control: nothing shows that the sides differ in the CPU only")
        used = look_at(rounds)
        if used != rounds:
            notes.append(f"{rounds} rounds: {used} are used, as looks are at {', '.join(map(str, LOOKS))} rounds")
    partial = [cell for cell in common if 0 < len(d[cell]) < rounds]
    if partial:
        notes.append(f"not in every round: {', '.join(map(str, partial))}; family and control use whole rounds only")
    for side in (a, b):
        alone = [str(cell) for cell in side.cells() if cell not in common]
        if alone:
            notes.append(f"only in {side.label}, left out: {', '.join(alone)}")
    skip = {"started", "ended", "gpu", "gpu_uuid", "gpu_pci", "memory_available"}
    differing = [
        f"{key} {a.environment[key]} / {b.environment[key]}"
        for key in a.environment
        if key not in skip and key in b.environment and a.environment[key] != b.environment[key]
    ]
    if differing:
        notes.append(f"environments differ ({a.label} / {b.label}): {'; '.join(differing)}")
    return notes


def _sentence(result: Comparison, slowed: str) -> str:
    """The verdict in one line of text; `slowed` is what the GPU itself said, empty if nothing."""
    a, b, family, control = result.label_a, result.label_b, result.family, result.control
    if slowed:
        return f"INVALID: {slowed}: cool it and check its power, then measure again."
    if result.verdict is Verdict.INVALID and control is not None:
        return (
            f"INVALID: the negative control differs by {ratio_text(control)}, which the CPU cannot explain: "
            f"make the GPUs equal, then measure again."
        )
    if family is None:
        return f"UNDECIDED: no cell was timed on both sides of {a} and {b}."
    ratios = [cell.estimate.ratio for cell in result.cells if cell.estimate and cell.role != "control"]
    if family.low is None:
        span = f"{min(ratios):.2f}x to {max(ratios):.2f}x" if len(ratios) > 1 else f"{family.ratio:.2f}x"
        why = (
            "one run cannot carry an interval"
            if family.rounds == 1
            else f"{family.rounds} rounds are too few for an interval"
        )
        return f"UNDECIDED: {a} takes {span} the time of {b} over {result.family_basis}, but {why}."
    words = {
        Verdict.BEATS: f"{b} is faster than {a}",
        Verdict.WORSE: f"{b} is slower than {a}",
        Verdict.EQUIVALENT: f"{b} and {a} are equal within {result.margin:.1%}",
        Verdict.UNDECIDED: f"{b} against {a} cannot be told yet with a margin of {result.margin:.1%}",
    }
    checked = f"; control {ratio_text(control)}" if control is not None else ""
    return (
        f"{result.verdict}: {words[result.verdict]}: {a} takes {ratio_text(family)} the time of {b} on "
        f"{result.family_basis}, {family.rounds} rounds{checked}."
    )


def ratio_text(value: Estimate) -> str:
    """«1.234x [1.210, 1.260]», or the bare ratio where there is no interval."""
    if value.low is None or value.high is None:
        return f"{value.ratio:.3f}x"
    return f"{value.ratio:.3f}x [{value.low:.3f}, {value.high:.3f}]"
