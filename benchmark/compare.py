# SPDX-License-Identifier: GPL-3.0-or-later
"""Two arms side by side: which cells count, the log ratio of each round, and the estimate of each family. Pure.

A is the reference ("before"), B the candidate ("after"). Ratios are A's time over B's: above 1, B is faster. The
estimator and its sources are in `statistics`.

- Families are named by `pod.cells.family`, before anything is measured. The verdict is about the input pipeline, or
  about the next family in Family's order if it was not measured.
- The rate of a cell in a round is that of all tenants together, because tenants of one round are not independent.
- A round counts for a family only if both arms timed all of the family's cells in it. A cell that an arm reported as
  skipped or out of memory in more than one round, or that was timed in no round by both, leaves its family in all
  rounds, and a note says so: else a few failures would cost most rounds, or the mix of cells would shift.
- Where the card differs between the arms of a round, the control's log ratio is taken out of the others': cards of one
  model differ by 2 to 5 %. The control itself uses the rounds on one card.
- Cells derived from others (timed as the original does) contain the same steps again, so no family has them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from . import wording
from .analysis import CellResult, Estimate, GradientCode, Role, Trend, Verdict
from .experiment import Family, FamilyEstimate, Load
from .figures import ratio_text
from .measures import arm_cell
from .pod.cells import Cell, family
from .readers.plausible import largest_ratio
from .results import InputError, Note, NoteCode, Process, ResultSet, Status
from .statistics import BEFORE_AFTER_MARGIN, CONTROL_MARGIN, estimate, trend
from .validity import DEVICE, GPU

MOST_FAILURES = 1
"""Rounds in which a cell may fail without leaving its family."""
DRIFT_OPENING = 0.20
"""How much a gap has to open for a gradient between arms that were not interleaved. They drift apart most in small
models: of 26 published runs of the original, first rows against last, one has a group that opens by more than 20 %."""

_BY_ROUND = Mapping[int, float]


@dataclass(frozen=True)
class Side:
    """One arm under one load, by round.

    `logs` holds the negative log of the rate of all tenants, in ln(ms): the log of the mean step for one tenant.
    `failed` holds the rounds in which a process reported that it could not time a cell. `cards` has the GPUs by UUID.
    """

    results: ResultSet
    logs: Mapping[Cell, _BY_ROUND]
    failed: Mapping[Cell, frozenset[int]]
    cards: Mapping[int, frozenset[str]]
    rounds: frozenset[int]


def side(results: ResultSet, load: Load = Load.SOLO) -> Side:
    """The processes of an arm that ran under this load, by round."""
    own = [process for process in results.processes if process.load == load]
    rounds: dict[int, list[Process]] = {}
    for process in own:
        rounds.setdefault(process.round, []).append(process)
    cells = dict.fromkeys(cell for process in own for cell in process.timings)
    logs: dict[Cell, dict[int, float]] = {cell: {} for cell in cells}
    failed: dict[Cell, set[int]] = {cell: set() for cell in cells}
    for number, processes in sorted(rounds.items()):
        for cell in cells:
            found = [process.timings[cell] for process in processes if cell in process.timings]
            if any(timing.status != "ok" for timing in found):
                failed[cell].add(number)
            elif (log := _round_log(cell, processes)) is not None:
                logs[cell][number] = log
    return Side(
        results,
        logs,
        {cell: frozenset(numbers) for cell, numbers in failed.items()},
        {number: _cards(processes) for number, processes in rounds.items()},
        frozenset(rounds),
    )


def _round_log(cell: Cell, processes: Sequence[Process]) -> float | None:
    """Of one round; None unless each tenant timed the cell."""
    tenants: dict[int, list[float]] = {}
    for process in processes:
        if cell in process.timings:
            tenants.setdefault(process.tenant, []).append(math.log(process.timings[cell].mean_ms))
    if len(tenants) < max(process.tenants for process in processes):
        return None
    return -math.log(math.fsum(math.exp(-fmean(logs)) for logs in tenants.values()))


def _cards(processes: Iterable[Process]) -> frozenset[str]:
    found = (process.environment.get("gpu_uuid") for process in processes)
    return frozenset(str(card) for card in found if card)


def family_of(cell: Cell, sides: Iterable[ResultSet]) -> Family | None:
    """The family of a cell; None for one that is derived from another. Without a GPU no cell is a control.

    All cells of the original benchmark, whose output has no run, are fed by a loader.
    """
    every = list(sides)
    if any(timing.derived for results in every for timing in results.timings(cell)):
        return None
    found = Family(family(cell))
    if found is Family.CONTROL:
        return found if all(results.environment.get("gpu") for results in every) else Family.OTHER
    return found if any(results.run_ids for results in every) else Family.INPUT_PIPELINE


def first_family(families: Container[Family]) -> Family | None:
    """The family that comes first in Family, without the control; None if no other family is among these."""
    return next((found for found in Family if found in families and found is not Family.CONTROL), None)


@dataclass(frozen=True)
class Selection:
    """The cells that all sides have, by family. `left_out` failed too often to count; `tried` has their families too."""

    families: Mapping[Family, tuple[Cell, ...]]
    left_out: tuple[Cell, ...]
    tried: frozenset[Family]

    @property
    def headline(self) -> Family | None:
        """The family that the verdict is about, of those that have cells left."""
        return first_family(self.families)


def select_cells(sides: Sequence[Side]) -> Selection:
    """The families of the cells that every side tried, without the cells that failed in too many rounds."""
    results = [own.results for own in sides]
    families: dict[Family, list[Cell]] = {}
    left_out, tried = [], set()
    for cell in common_cells(sides):
        found = family_of(cell, results)
        if found is None:
            continue
        tried.add(found)
        timed = frozenset.intersection(*(frozenset(own.logs[cell]) for own in sides))
        failures = {number for own in sides for number in own.failed[cell]}
        if timed and len(failures) <= MOST_FAILURES:
            families.setdefault(found, []).append(cell)
        else:
            left_out.append(cell)
    return Selection({found: tuple(cells) for found, cells in families.items()}, tuple(left_out), frozenset(tried))


def common_cells(sides: Sequence[Side]) -> list[Cell]:
    """The cells that every side tried, in the first one's order."""
    first, *others = sides
    return [cell for cell in first.logs if all(cell in own.logs for own in others)]


@dataclass(frozen=True)
class Pair:
    """Two arms: d by cell and round, and the rounds in which they ran on different cards."""

    a: Side
    b: Side
    log_ratios: Mapping[Cell, _BY_ROUND]
    other_cards: frozenset[int]
    corrected: frozenset[int]
    """The rounds of `other_cards` that have a control, whose log ratio was taken out."""


def pair(a: Side, b: Side, selection: Selection) -> Pair:
    """Pairs the rounds of two arms by number.

    :raises InputError: if a cell's times differ by more than `largest_ratio` on one model of GPU, or on CPUs
    """
    raw = {
        cell: {n: a.logs[cell][n] - b.logs[cell][n] for n in sorted(a.logs[cell].keys() & b.logs[cell].keys())}
        for cell in common_cells([a, b])
    }
    one_model = a.results.environment.get(GPU) == b.results.environment.get(GPU)
    on_cpu = "cpu" in {side.results.environment.get(DEVICE) for side in (a, b)}
    if one_model:  # in double precision, a published A100 takes 1/31 of a Titan Xp's time
        _refuse_impossible(a, b, raw, largest_ratio(on_cpu=on_cpu))
    other_cards = frozenset(
        number
        for number in a.cards.keys() & b.cards.keys()
        if one_model and a.cards[number] and b.cards[number] and a.cards[number] != b.cards[number]
    )
    controls = selection.families.get(Family.CONTROL, ())
    shift = {
        n: fmean(raw[c][n] for c in controls) for n in other_cards if controls and all(n in raw[c] for c in controls)
    }
    ratios = {
        cell: by_round
        if cell in controls
        else {number: value - shift.get(number, 0.0) for number, value in by_round.items()}
        for cell, by_round in raw.items()
    }
    return Pair(a, b, ratios, other_cards, frozenset(shift))


def _refuse_impossible(a: Side, b: Side, ratios: Mapping[Cell, _BY_ROUND], most: float) -> None:
    far = {cell: fmean(by_round.values()) for cell, by_round in ratios.items() if by_round}
    problems = [
        wording.impossible_ratio(a.results.where, b.results.where, cell, math.exp(mean), most)
        for cell, mean in far.items()
        if abs(mean) > math.log(most)
    ]
    if problems:
        raise InputError(problems)


def family_estimates(found: Pair, selection: Selection, margin: float) -> tuple[FamilyEstimate, ...]:
    """The estimate of each family that has a round with all of its cells: the headline's first, the control last."""
    estimates = []
    order = [own for own in Family if own is not Family.CONTROL]
    for own in (*order, Family.CONTROL):
        cells = selection.families.get(own, ())
        d = family_ratios(found, cells, own)
        if d:
            edge = CONTROL_MARGIN if own is Family.CONTROL else margin
            ratios = {number: math.exp(value) for number, value in d.items()}
            estimates.append(FamilyEstimate(own, cells, estimate(list(d.values()), edge), ratios))
    return tuple(estimates)


def family_ratios(found: Pair, cells: Sequence[Cell], own: Family) -> dict[int, float]:
    """d of each round in which both arms timed all of the cells. A control proves nothing across cards."""
    if not cells:
        return {}
    rounds = set.intersection(*(set(found.log_ratios[cell]) for cell in cells))
    if own is Family.CONTROL:
        rounds -= found.other_cards
    return {number: fmean(found.log_ratios[cell][number] for cell in cells) for number in sorted(rounds)}


def cell_results(found: Pair, selection: Selection, margin: float, load: Load) -> tuple[CellResult, ...]:
    """Every common cell with its interval, without a verdict."""
    headline = selection.families[selection.headline] if selection.headline is not None else ()
    results = []
    for cell in common_cells([found.a, found.b]):
        by_round = found.log_ratios[cell]
        arms = [arm_cell(own.results, cell, load) for own in (found.a, found.b)]
        if not by_round:
            status = _status(cell, found.a.results, found.b.results)
            reason = wording.not_timed(cell, found.a.results, found.b.results)
            results.append(CellResult(cell, status=status, reason=reason, a=arms[0], b=arms[1]))
            continue
        value = estimate(list(by_round.values()), margin)
        means = [math.exp(fmean(own.logs[cell][number] for number in by_round)) for own in (found.a, found.b)]
        role = _role(cell, family_of(cell, (found.a.results, found.b.results)), headline)
        plain = Estimate(value.ratio, value.rounds, Verdict.UNDECIDED, value.low, value.high, value.confidence)
        results.append(CellResult(cell, plain, means[0], means[1], role, a=arms[0], b=arms[1]))
    return tuple(results)


def _role(cell: Cell, own: Family | None, headline: Sequence[Cell]) -> Role:
    if own is None:
        return Role.DERIVED
    if own is Family.CONTROL:
        return Role.CONTROL
    return Role.HEADLINE if cell in headline else Role.OTHER


def _status(cell: Cell, a: ResultSet, b: ResultSet) -> Status:
    """oom if either side ran out of memory, else skipped if either side skipped the cell, else ok."""
    found = {timing.status for timing in (*a.timings(cell), *b.timings(cell))}
    return "oom" if "oom" in found else "skipped" if "skipped" in found else "ok"


def control_of(families: Iterable[FamilyEstimate]) -> Estimate | None:
    """The control's estimate, whose margin is CONTROL_MARGIN."""
    return next((own.estimate for own in families if own.family is Family.CONTROL), None)


def control_proves(control: Estimate | None) -> bool:
    """Whether the control's interval lies inside its margin. Only then does it prove that the GPU side is equal."""
    return control is not None and control.verdict is Verdict.EQUIVALENT


def interleaved(a: ResultSet, b: ResultSet) -> bool:
    """Whether the arms took turns in one run."""
    return bool(a.run_ids) and a.run_ids == b.run_ids


def fair_margin(margin: float, *, turns: bool, shift: float | None = None) -> float:
    """The margin for two arms: a floor if they took no `turns`, unless the `shift` between the halves was measured."""
    if turns:
        return margin
    return max(margin, BEFORE_AFTER_MARGIN if shift is None else shift)


def gpu_differs(a: ResultSet, b: ResultSet) -> bool:
    """Whether both sides know their model of GPU, and the models differ."""
    left, right = a.environment.get(GPU), b.environment.get(GPU)
    return bool(left and right and left != right)


def gradient(results: Sequence[CellResult], opening: float) -> tuple[Trend, ...]:
    """The trend of each precision and mode that has enough cells (`statistics.trend`)."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for result in results:
        if result.estimate is not None and result.mean_b_ms is not None:
            point = (result.mean_b_ms, math.log(result.estimate.ratio))
            groups.setdefault((result.cell.precision, result.cell.mode), []).append(point)
    found = (trend(*group, points, opening) for group, points in groups.items())
    return tuple(own for own in found if own is not None)


def gradient_code(trends: Sequence[Trend], gpu_side_differs: bool) -> GradientCode:
    if not trends:
        return GradientCode.NONE
    if not any(own.grows_as_models_shrink for own in trends):
        return GradientCode.FLAT
    return GradientCode.GROWS_BUT_GPU_DIFFERS if gpu_side_differs else GradientCode.GROWS


def control_notes(control: Estimate | None) -> list[Note]:
    """Whether there is a control, and whether it proves that the GPU side is equal."""
    if control is None:
        return [wording.note(NoteCode.NO_CONTROL)]
    if control_proves(control):
        return []
    return [wording.note(NoteCode.CONTROL_PROVES_NOTHING, ratio=ratio_text(control), margin=CONTROL_MARGIN)]


def pair_notes(found: Pair, selection: Selection) -> list[Note]:
    """What is odd about two arms: the same numbers twice, other cards, failed cells, rounds that do not count."""
    notes = []
    ratios = [value for by_round in found.log_ratios.values() for value in by_round.values()]
    if ratios and not any(ratios):
        notes.append(wording.note(NoteCode.SAME_NUMBERS))
    uncorrected = found.other_cards - found.corrected
    if uncorrected:
        notes.append(wording.note(NoteCode.GPU_CARDS_DIFFER, rounds=_listed(uncorrected)))
    if found.corrected:
        notes.append(wording.note(NoteCode.CARD_TAKEN_OUT, rounds=_listed(found.corrected)))
    if selection.left_out:
        cells = ", ".join(map(str, selection.left_out))
        where = f"{found.a.results.where} or {found.b.results.where}"
        notes.append(wording.note(NoteCode.CELLS_FAILED, where=where, cells=cells))
    common = found.a.rounds & found.b.rounds
    lost = {n for cells in selection.families.values() for c in cells for n in common if n not in found.log_ratios[c]}
    if lost:
        notes.append(wording.note(NoteCode.INCOMPLETE_ROUNDS, rounds=_listed(lost)))
    return notes


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
