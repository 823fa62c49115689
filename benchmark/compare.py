# SPDX-License-Identifier: GPL-3.0-or-later
"""What two result sets allow to claim. Pure functions on plain data; times are ms, ratios are A's time over B's.

A is the reference ("before"), B the candidate ("after"). A ratio above 1 means that B is faster.

The rules and their sources:

- The statistic of a cell and round is d = ln(mean_A) - ln(mean_B). Means contain the stalls of CFS throttling, which a
  ratio of medians misses. Rounds are the replicates, never steps (Kalibera & Jones, "Rigorous benchmarking in
  reasonable time", 2013; pyperf): the estimate is the mean of d over rounds with Student's t interval.
- Interim analyses (group-sequential looks) at 3, 5, 8 and 12 rounds, each at alpha / 4 (Bonferroni): the four intervals
  hold together with 1 - alpha, whichever analysis the measurement stopped at. Later rounds wait for the next analysis.
- Margin X: BEATS if the interval is above ln(1 + X), WORSE if below -ln(1 + X), EQUIVALENT if between them (two
  one-sided tests; Schuirmann 1987), else UNDECIDED.
- Claims about single cells pass Holm's step-down procedure (Holm 1979) over all cells with an interval.
- The family is the geometric mean over launch-bound cells: enqueue / (enqueue + wait) above 0.9 in either arm.
- Negative control: if its interval lies outside +-1 %, the two arms differ in more than the CPU: INVALID. The same
  holds if heat or the power supply slowed the GPU much more often in one arm than in the other.
- Cells derived from others (timed as the original does) contain the same steps again, so the family excludes them.
- The gradient: Kendall's tau (one-sided p, exact without ties) between size and gap, with Spearman's rho.
  Sides that were not interleaved drift apart most in small models, and significantly so: of 26 published runs of the
  original (152 groups on 8 GPU models), first rows against last, 19 have a group that opens by more than 3 %, 6 by more
  than 10 %, 4 by more than 15 %, one by more than 20 %. Without interleaving, a gradient therefore has to open by 20 %:
  1 in 26 runs against itself would still show one. In interleaved rounds it has to open by X.

scipy is imported where it is used: it takes a second, and whoever only imports this module must not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, stdev

from . import wording
from .analysis import GRADIENT_CELLS, CellResult, Comparison, Estimate, GradientCode, Role, Trend, Verdict
from .pod.cells import Cell
from .results import InputError, Note, NoteCode, ResultSet, Status, Timing

INTERIM_ANALYSES = (3, 5, 8, 12)
"""Numbers of rounds."""
MARGIN = 0.03
ALPHA = 0.05
CONTROL_MARGIN = 0.01
LAUNCH_BOUND = 0.9
# Bits of NVML's clocksEventReasons that slow the GPU from outside: HwSlowdown, SwThermal, HwThermal, HwPowerBrake. A
# power cap (0x4) is not a fault: the arm that keeps the GPU busier reaches it sooner.
GPU_SLOWED = 0x8 | 0x20 | 0x40 | 0x80
GPU_SLOWED_MARGIN = 0.1
DRIFT_OPENING = 0.20

_Processes = dict[int, list[dict[Cell, Timing]]]
"""The timings of each process, by round."""


def newest_analysis(rounds: int) -> int | None:
    """The newest interim analysis that this many rounds allow, as a number of rounds; None before the first."""
    return max((analysis for analysis in INTERIM_ANALYSES if analysis <= rounds), default=None)


def estimate(d: Sequence[float], margin: float, alpha: float = ALPHA) -> Estimate:
    """Mean of the log ratios `d`, one per round in run order, with interval and verdict at the newest interim analysis.

    Before the first one there is no interval, and the verdict is UNDECIDED.
    """
    rounds = newest_analysis(len(d))
    if rounds is None:
        return Estimate(math.exp(fmean(d)), len(d))
    from scipy import stats

    used = d[:rounds]
    mean, error = fmean(used), stdev(used) / math.sqrt(rounds)
    level = alpha / len(INTERIM_ANALYSES)
    half = float(stats.t.ppf(1 - level / 2, rounds - 1)) * error
    verdict, p = _claim(mean, error, rounds - 1, math.log1p(margin))
    return Estimate(
        math.exp(mean),
        rounds,
        verdict if p <= level else Verdict.UNDECIDED,
        math.exp(mean - half),
        math.exp(mean + half),
        1 - level,
        p,
    )


def _claim(mean: float, error: float, freedom: int, edge: float) -> tuple[Verdict, float]:
    """The region that contains `mean`, and the smallest level at which the two-sided interval lies inside it."""
    if mean > edge:
        verdict, distance = Verdict.BEATS, mean - edge
    elif mean < -edge:
        verdict, distance = Verdict.WORSE, -edge - mean
    else:
        verdict, distance = Verdict.EQUIVALENT, edge - abs(mean)
    if error == 0:
        return verdict, 0.0 if distance > 0 else 1.0
    from scipy import stats

    return verdict, 2 * float(stats.t.sf(distance / error, freedom))


def holm(p: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects at family-wise level `alpha`, in the order given."""
    rejected = [False] * len(p)
    for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] > alpha / (len(p) - step):
            break
        rejected[index] = True
    return rejected


@dataclass(frozen=True)
class Selection:
    """The common cells. `log_ratios` holds d by round; `roles` holds the cells that both sides timed."""

    cells: tuple[Cell, ...]
    log_ratios: Mapping[Cell, Mapping[int, float]]
    roles: Mapping[Cell, Role]

    def of(self, role: Role) -> list[Cell]:
        """The timed cells with this role."""
        return [cell for cell, own in self.roles.items() if own is role]

    @property
    def rounds(self) -> int:
        """The rounds in which both sides timed a cell, for the cell with the most of them."""
        return max(map(len, self.log_ratios.values()), default=0)


@dataclass(frozen=True)
class Estimates:
    """The estimate of every timed cell; `claimed` names the cells whose verdict passes Holm's procedure."""

    cells: Mapping[Cell, Estimate]
    claimed: frozenset[Cell]
    family: Estimate | None
    control: Estimate | None


def compare(a: ResultSet, b: ResultSet, margin: float = MARGIN, alpha: float = ALPHA) -> Comparison:
    """Compares B with A over their common cells.

    :param margin: the smallest difference worth a claim, as a share
    :param alpha: the level of all interim analyses together
    :raises InputError: if the sides have no common cell
    """
    selection = select_cells(a, b)
    return label(a, b, selection, estimate_cells(selection, margin, alpha), margin)


def select_cells(a: ResultSet, b: ResultSet) -> Selection:
    """The common cells, their log ratios and their roles. Raises InputError if there is no common cell."""
    common = [cell for cell in a.cells() if cell in set(b.cells())]
    if not common:
        raise InputError([wording.no_common_cell(a, b)])
    rounds_a, rounds_b = _by_round(a), _by_round(b)
    ratios = {cell: _log_ratios(cell, rounds_a, rounds_b) for cell in common}
    timed = [cell for cell in common if ratios[cell] and _status(cell, a, b) == "ok"]
    derived = {cell for cell in timed if any(timing.derived for timing in _timings(cell, a, b))}
    controls = _controls([cell for cell in timed if cell not in derived], a, b)

    def role(cell: Cell) -> Role:
        if cell in controls:
            return Role.CONTROL
        if cell in derived:
            return Role.DERIVED
        return Role.LAUNCH_BOUND if _launch_bound(cell, a, b) else Role.OTHER

    return Selection(tuple(common), ratios, {cell: role(cell) for cell in timed})


def estimate_cells(selection: Selection, margin: float, alpha: float) -> Estimates:
    """Estimates every timed cell, the family and the control, and corrects the cells' claims for their number."""
    ratios = selection.log_ratios
    cells = {cell: estimate(list(ratios[cell].values()), margin, alpha) for cell in selection.roles}
    tested = [cell for cell, value in cells.items() if value.low is not None]
    kept = holm([cells[cell].p for cell in tested], alpha / len(INTERIM_ANALYSES))
    return Estimates(
        cells=cells,
        claimed=frozenset(cell for cell, keep in zip(tested, kept) if keep),
        family=_pooled(_family(selection.roles), ratios, margin, alpha),
        control=_pooled(selection.of(Role.CONTROL), ratios, CONTROL_MARGIN, alpha),
    )


def label(a: ResultSet, b: ResultSet, selection: Selection, estimates: Estimates, margin: float) -> Comparison:
    """Turns estimates into verdicts, and adds the gradient and the notes."""
    family, control = estimates.family, estimates.control
    slowed = _gpu_slowed(a, b)
    invalid = slowed is not None or (control is not None and control.verdict in (Verdict.BEATS, Verdict.WORSE))
    cells = _cell_results(a, b, selection, estimates, invalid)
    interleaved = bool(a.run_ids) and a.run_ids == b.run_ids and any(value.low for value in estimates.cells.values())
    trends = gradient(
        [result for result in cells if result.role is not Role.CONTROL],
        margin if interleaved else max(margin, DRIFT_OPENING),
    )
    return Comparison(
        label_a=a.label,
        label_b=b.label,
        margin=margin,
        verdict=Verdict.INVALID if invalid else family.verdict if family else Verdict.UNDECIDED,
        cells=cells,
        family=family,
        family_basis=wording.family_basis(len(_family(selection.roles)), bool(selection.of(Role.LAUNCH_BOUND))),
        control=control,
        gpu_slowed=slowed,
        gradient=trends,
        gradient_code=_gradient_code(trends, invalid or _differ("gpu", a, b)),
        notes=(*a.notes, *b.notes, *_notes(a, b, selection, control)),
    )


def _cell_results(
    a: ResultSet, b: ResultSet, selection: Selection, estimates: Estimates, invalid: bool
) -> tuple[CellResult, ...]:
    rounds_a, rounds_b = _by_round(a), _by_round(b)
    results = []
    for cell in selection.cells:
        value = estimates.cells.get(cell)
        if value is None:
            status, reason = _status(cell, a, b), wording.not_timed(cell, a, b)
            results.append(CellResult(cell, Verdict.UNDECIDED, status=status, reason=reason))
            continue
        claim = value.verdict if cell in estimates.claimed else Verdict.UNDECIDED
        means = _side_means(cell, rounds_a, rounds_b, list(selection.log_ratios[cell])[: value.rounds])
        verdict = Verdict.INVALID if invalid else claim
        results.append(CellResult(cell, verdict, value, *means, selection.roles[cell]))
    return tuple(results)


def _family(roles: Mapping[Cell, Role]) -> list[Cell]:
    """The cells that the verdict is about: the launch-bound ones, else all but the controls and the derived ones."""
    bound = [cell for cell, role in roles.items() if role is Role.LAUNCH_BOUND]
    return bound or [cell for cell, role in roles.items() if role is Role.OTHER]


def family_cells(comparison: Comparison) -> list[Cell]:
    """The cells that the verdict of `comparison` is about."""
    return _family({result.cell: result.role for result in comparison.cells if result.estimate is not None})


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


def _by_round(results: ResultSet) -> _Processes:
    rounds: _Processes = {}
    for process in results.processes:
        rounds.setdefault(process.round, []).append(dict(process.timings))
    return rounds


def _round_log(cell: Cell, processes: list[dict[Cell, Timing]]) -> float | None:
    """Mean over the round's processes of the log of each one's mean step; None where none timed the cell."""
    means = [math.log(p[cell].mean_ms) for p in processes if cell in p and p[cell].status == "ok"]
    return fmean(means) if means else None


def _log_ratios(cell: Cell, a: _Processes, b: _Processes) -> dict[int, float]:
    """d by round, for the rounds in which both sides timed the cell."""
    ratios = {}
    for number in sorted(a.keys() & b.keys()):
        log_a, log_b = _round_log(cell, a[number]), _round_log(cell, b[number])
        if log_a is not None and log_b is not None:
            ratios[number] = log_a - log_b
    return ratios


def _side_means(
    cell: Cell,
    a: _Processes,
    b: _Processes,
    rounds: list[int],
) -> tuple[float, float]:
    """Geometric means in ms over the rounds used, so that their quotient is the ratio; for one run its plain mean."""
    logs = [[_round_log(cell, side[number]) or 0.0 for number in rounds] for side in (a, b)]
    return math.exp(fmean(logs[0])), math.exp(fmean(logs[1]))


def _timings(cell: Cell, a: ResultSet, b: ResultSet) -> list[Timing]:
    return [*a.timings(cell), *b.timings(cell)]


def _status(cell: Cell, a: ResultSet, b: ResultSet) -> Status:
    """oom if either side ran out of memory, else skipped if either side skipped the cell, else ok."""
    found = {timing.status for timing in _timings(cell, a, b)}
    return "oom" if "oom" in found else "skipped" if "skipped" in found else "ok"


def _gpu_slowed(a: ResultSet, b: ResultSet) -> tuple[float, float] | None:
    """The shares of A's and of B's blocks in which heat or the power supply slowed the GPU.

    None if a side did not record them, or if they differ by no more than GPU_SLOWED_MARGIN.
    """
    shares = []
    for side in (a, b):
        blocks = [block for process in side.processes for timing in process.timings.values() for block in timing.blocks]
        known = [int(b.counters["gpu_throttle_reasons"]) for b in blocks if "gpu_throttle_reasons" in b.counters]
        if not known:
            return None
        shares.append(sum(1 for mask in known if mask & GPU_SLOWED) / len(known))
    return (shares[0], shares[1]) if abs(shares[0] - shares[1]) > GPU_SLOWED_MARGIN else None


def _controls(cells: list[Cell], a: ResultSet, b: ResultSet) -> list[Cell]:
    """The cells declared as controls, else those in double precision on a GPU, which do not depend on the CPU."""
    declared = [cell for cell in cells if any(timing.control for timing in _timings(cell, a, b))]
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


def _pooled(
    cells: Sequence[Cell], d: Mapping[Cell, Mapping[int, float]], margin: float, alpha: float
) -> Estimate | None:
    """Geometric mean over `cells`. Rounds that lack one of them are left out, because they would shift the mix."""
    if not cells:
        return None
    whole = sorted(set.intersection(*(set(d[cell]) for cell in cells)))
    return estimate([fmean(d[cell][number] for cell in cells) for number in whole], margin, alpha) if whole else None


def gradient(results: Sequence[CellResult], opening: float) -> tuple[Trend, ...]:
    """Trend of the gap against size for each precision and mode with at least five timed cells.

    Size is B's mean step in ms. The gap is ln(ratio), with the sign that makes its sum positive, so that swapping A and
    B does not change the conclusion. A trend needs p <= 0.05 and ratios of the outer thirds that differ by more than
    the share `opening`.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for result in results:
        if result.estimate is not None and result.mean_b_ms is not None:
            point = (result.mean_b_ms, math.log(result.estimate.ratio))
            groups.setdefault((result.cell.precision, result.cell.mode), []).append(point)
    found = (
        _trend(precision, mode, sorted(points), opening)
        for (precision, mode), points in groups.items()
        if len(points) >= GRADIENT_CELLS
    )
    return tuple(trend for trend in found if trend is not None)


def _trend(precision: str, mode: str, points: list[tuple[float, float]], opening: float) -> Trend | None:
    """The trend of sizes and gaps, ordered by size; None if all sizes or all gaps are equal."""
    import numpy as np
    from scipy import stats

    sizes, logs = np.array(points).T
    gaps = logs if logs.sum() >= 0 else -logs
    if np.ptp(gaps) == 0 or np.ptp(sizes) == 0:
        return None
    third = len(points) // 3
    small, large = float(logs[:third].mean()), float(logs[-third:].mean())
    p = float(stats.kendalltau(sizes, gaps, alternative="less").pvalue)
    opens = float(gaps[:third].mean() - gaps[-third:].mean()) > math.log1p(opening)
    return Trend(
        precision,
        mode,
        len(points),
        float(stats.spearmanr(sizes, gaps).statistic),
        p,
        math.exp(small),
        math.exp(large),
        opens and p <= ALPHA,
    )


def _gradient_code(trends: Sequence[Trend], gpu_side_differs: bool) -> GradientCode:
    if not trends:
        return GradientCode.NONE
    if not any(trend.grows_as_models_shrink for trend in trends):
        return GradientCode.FLAT
    return GradientCode.GROWS_BUT_GPU_DIFFERS if gpu_side_differs else GradientCode.GROWS


def _differ(key: str, a: ResultSet, b: ResultSet) -> bool:
    """Whether both environments know `key` and disagree on it."""
    left, right = a.environment.get(key), b.environment.get(key)
    return bool(left and right and left != right)


def _notes(a: ResultSet, b: ResultSet, selection: Selection, control: Estimate | None) -> list[Note]:
    """What a reader of the verdict has to know about the input, red flags first."""
    return [
        *_same_input(a, b, selection),
        *_rounds(a, b, selection, control),
        *_left_out(a, b, selection),
        *_environments_differ(a, b),
    ]


def _same_input(a: ResultSet, b: ResultSet, selection: Selection) -> list[Note]:
    notes = []
    for key, code in (("gpu", NoteCode.GPUS_DIFFER), ("gpu_uuid", NoteCode.GPU_CARDS_DIFFER)):
        if _differ(key, a, b):
            values = {"left": a.environment[key], "right": b.environment[key]}
            notes.append(wording.note(code, a=a.label, b=b.label, **values))
    ratios = list(chain.from_iterable(by_round.values() for by_round in selection.log_ratios.values()))
    if ratios and not any(ratios):
        notes.append(wording.note(NoteCode.SAME_NUMBERS))
    return notes


def _rounds(a: ResultSet, b: ResultSet, selection: Selection, control: Estimate | None) -> list[Note]:
    rounds, notes = selection.rounds, []
    used = newest_analysis(rounds)
    if used is None:
        if control is not None and abs(math.log(control.ratio)) > math.log1p(CONTROL_MARGIN):
            notes.append(wording.note(NoteCode.CONTROL_DIFFERS, ratio=control.ratio))
        if rounds:
            code = NoteCode.ONE_RUN if rounds == 1 else NoteCode.FEW_ROUNDS
            notes.append(wording.note(code, rounds=rounds, first=INTERIM_ANALYSES[0]))
        return notes
    if a.run_ids != b.run_ids:
        notes.append(wording.note(NoteCode.DIFFERENT_RUNS))
    if not selection.of(Role.LAUNCH_BOUND):
        notes.append(wording.note(NoteCode.NO_LAUNCH_BOUND_CELL))
    if control is None:
        notes.append(wording.note(NoteCode.NO_CONTROL))
    if used != rounds:
        analyses = ", ".join(map(str, INTERIM_ANALYSES))
        notes.append(wording.note(NoteCode.ROUNDS_UNUSED, rounds=rounds, used=used, analyses=analyses))
    return notes


def _left_out(a: ResultSet, b: ResultSet, selection: Selection) -> list[Note]:
    notes = []
    partial = [cell for cell in selection.cells if 0 < len(selection.log_ratios[cell]) < selection.rounds]
    if partial:
        notes.append(wording.note(NoteCode.INCOMPLETE_ROUNDS, cells=", ".join(map(str, partial))))
    for side in (a, b):
        alone = [str(cell) for cell in side.cells() if cell not in selection.cells]
        if alone:
            notes.append(wording.note(NoteCode.CELLS_LEFT_OUT, side=side.label, cells=", ".join(alone)))
    return notes


def _environments_differ(a: ResultSet, b: ResultSet) -> list[Note]:
    skip = {"started", "ended", "gpu", "gpu_uuid", "gpu_pci", "memory_available"}
    differing = [
        f"{key} {a.environment[key]} / {b.environment[key]}"
        for key in a.environment
        if key not in skip and key in b.environment and a.environment[key] != b.environment[key]
    ]
    if not differing:
        return []
    return [wording.note(NoteCode.ENVIRONMENTS_DIFFER, a=a.label, b=b.label, keys="; ".join(differing))]
