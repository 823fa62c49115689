# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arms of one node to an Experiment. Pure functions from result sets to plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

from . import roles as arm_names
from . import sentences, terms, wording
from .advice import advice
from .analysis import Estimate, Gap, Role, Verdict
from .causes import explain, ruled_out, unknown
from .compare import (
    DRIFT_OPENING,
    Pair,
    Selection,
    Side,
    cell_results,
    control_notes,
    control_of,
    control_proves,
    fair_margin,
    family_estimates,
    family_ratios,
    first_family,
    gpu_differs,
    gradient,
    gradient_code,
    interleaved,
    pair,
    pair_notes,
    select_cells,
    side,
)
from .decide import busy_load, decisive, recommend
from .environments import differences, same
from .experiment import (
    ArmRole,
    Contrast,
    Experiment,
    FamilyEstimate,
    Invalid,
    Load,
    Question,
    Recommendation,
    Throughput,
)
from .gaps import family_gap
from .measures import held_minutes, tail_ms
from .pod.cells import Cell
from .results import InputError, Note, NoteCode, ResultSet, Scalar
from .roles import AUTO, COMPARED, STEPS, by_role, split
from .statistics import (
    CONTROL_MARGIN,
    INTERIM_ANALYSES,
    MARGIN,
    PRECISION,
    estimate,
    expected_rounds,
    geometric_mean,
    has_interval,
)
from .validity import differing, environments, invalid, values

Arms = Mapping[str, ResultSet]
"""The arms of one run, by name."""
DAY_HOURS = 24


@dataclass(frozen=True)
class Step:
    """Two arms under one load, before anything is said about them. `margin` is the one that applies to them."""

    roles: tuple[ArmRole, ArmRole]
    load: Load
    arms: tuple[ResultSet, ResultSet]
    selection: Selection
    pair: Pair
    margin: float
    families: tuple[FamilyEstimate, ...]

    @property
    def headline(self) -> FamilyEstimate | None:
        """The estimate of the first family that was tried; None if no round has all of that family's cells."""
        about = first_family(self.selection.tried)
        return next((own for own in self.families if own.family is about), None)

    @property
    def verdict(self) -> Verdict:
        return self.headline.estimate.verdict if self.headline is not None else Verdict.UNDECIDED

    @property
    def control(self) -> Estimate | None:
        return control_of(self.families)


def assess(
    runs: Mapping[str, Arms],
    *,
    margin: float = MARGIN,
    precision: float = PRECISION,
    allow_different: Iterable[str] = (),
    label: str = "",
) -> Experiment:
    """What the runs of one node show. One run has all arms, interleaved; several are before and after a switch.

    :param runs: run -> arm -> results, in the order in which they were measured
    :param label: the node's name; by default the one that its processes recorded
    :raises InputError: if the arms have no roles, if there are fewer than two, or if several runs have all of them
    """
    return _assessed(_Chosen.of(runs), margin, precision, tuple(allow_different), label)


def assess_sides(
    a: ResultSet,
    b: ResultSet,
    others: Iterable[ResultSet] = (),
    *,
    margin: float = MARGIN,
    precision: float = PRECISION,
    allow_different: Iterable[str] = (),
) -> Experiment:
    """What B changes against A, and each step of it that another arm allows to tell apart.

    :raises InputError: if the sides have no common cell, or impossible ratios
    """
    if not set(a.cells()) & set(b.cells()):
        raise InputError([wording.no_common_cell(a, b)])
    question = question_of(a, b)
    return _assessed(_Chosen.of_sides(question, a, b, others), margin, precision, tuple(allow_different), "", question)


def _assessed(
    chosen: _Chosen,
    margin: float,
    precision: float,
    allowed: tuple[str, ...],
    label: str,
    asked: Question | None = None,
) -> Experiment:
    steps = _steps(chosen, margin)
    by_question = {question: [step for step in steps if step.roles == roles] for question, roles in COMPARED.items()}
    questions = [question for question in Question if question in {*STEPS, asked} and by_question[question]]
    questions = questions or [Question.WHOLE]
    whole = Question.SIDES if asked is Question.SIDES else Question.WHOLE
    reasons = tuple(dict.fromkeys(_invalid(steps, allowed)))
    verdicts = [_verdicts(steps, question) for question in (*STEPS, whole)]
    recommendation = Recommendation.REPEAT if reasons else recommend(*verdicts)
    measured = [step for question in questions for step in by_question[question]]
    rounds = min((step.headline.estimate.rounds for step in measured if step.headline), default=0)
    widest = next(iter((*by_question[whole], *measured)), None)
    found = Experiment(
        label=label or chosen.label,
        arms=chosen.names,
        contrasts=tuple(
            _contrast(chosen, question, step, valid=not reasons)
            for question in questions
            for step in by_question[question]
            if step.headline is not None
        ),
        throughputs=tuple(_throughputs(chosen, steps)),
        recommendation=recommendation,
        sentence="",
        advice=(),
        invalid=reasons,
        control=widest.control if widest is not None else None,
        control_proves=control_proves(widest.control if widest is not None else None),
        margin=max((step.margin for step in steps), default=margin),
        precision=precision,
        rounds=rounds,
        expected_rounds=_expected_rounds(measured, precision),
        gpu_minutes=held_minutes(chosen.measured),
        gpu_hours_gained=_gained(recommendation, steps),
        interleaved=all(interleaved(*step.arms) for step in steps),
        notes=tuple(dict.fromkeys(_notes(chosen, steps, widest, allowed))),
        environment=chosen.environment,
        differences=differences(*chosen.ends),
        environments={own: results.environment for own, results in chosen.arms.items()},
        measured=min(
            (p.started for own in chosen.measured for p in own.processes if p.started is not None), default=None
        ),
        asked=asked,
    )
    return replace(found, sentence=sentences.sentence(found), advice=tuple(advice(found)))


@dataclass(frozen=True)
class _Chosen:
    """The arm of each role, under the name that readers meet; `names` holds those of the input. `again` holds the arms of
    TODAY and THREADS that were measured once more at the end."""

    arms: Mapping[ArmRole, ResultSet]
    names: Mapping[ArmRole, str]
    together: Mapping[tuple[ArmRole, ArmRole], tuple[ResultSet, ResultSet]]
    again: Mapping[ArmRole, ResultSet]
    unused: tuple[str, ...]
    measured: tuple[ResultSet, ...]
    """All arms of all runs."""

    @classmethod
    def of(cls, runs: Mapping[str, Arms]) -> _Chosen:
        roles = {run: by_role(arms) for run, arms in runs.items()}
        every = [role for role in ArmRole if any(role in own for own in roles.values())]
        if len(every) < 2:
            raise InputError([wording.one_role([arm for arms in runs.values() for arm in arms])])
        whole = [run for run, own in roles.items() if len(own) == len(every)]
        if len(whole) > 1:
            raise InputError([wording.several_runs(whole)])
        order = [*whole, *(run for run in runs if run not in whole)]
        found: dict[ArmRole, list[ResultSet]] = {}
        together: dict[tuple[ArmRole, ArmRole], tuple[ResultSet, ResultSet]] = {}
        for run in order:
            for role, arm in roles[run].items():
                found.setdefault(role, []).append(runs[run][arm])
            for a, b in combinations(roles[run], 2):
                pair_of = terms.as_shown(a, runs[run][roles[run][a]]), terms.as_shown(b, runs[run][roles[run][b]])
                together.setdefault((a, b), pair_of)
        used = {arm for own in roles.values() for arm in own.values()}
        return cls(
            arms={role: terms.as_shown(role, found[role][0]) for role in every},
            names={role: found[role][0].label for role in every},
            together=together,
            again={} if whole else {role: own[1] for role, own in found.items() if len(own) > 1},
            unused=tuple(dict.fromkeys(arm for arms in runs.values() for arm in arms if arm not in used)),
            measured=tuple(results for arms in runs.values() for results in arms.values()),
        )

    @classmethod
    def of_sides(cls, question: Question, a: ResultSet, b: ResultSet, others: Iterable[ResultSet]) -> _Chosen:
        """A and B, and the arm of the third role in a group of theirs."""
        every = list(others)
        if question is Question.SIDES:
            sides = {ArmRole.A: a, ArmRole.B: b}
            names = {own: results.label for own, results in sides.items()}
            return cls(sides, names, together={}, again={}, unused=(), measured=(a, b, *every))
        groups = {split(arm.arm)[0] for arm in (a, b)}
        third = {
            other.arm: other
            for other in every
            if arm_names.role(other.arm) not in (None, *COMPARED[question]) and split(other.arm)[0] in groups
        }
        found = dict(zip(COMPARED[question], (a, b)))
        found |= {own: third[arm] for own, arm in by_role(third).items()} if third else {}
        names = {own: found[own].label for own in ArmRole if own in found}
        arms = {own: terms.as_shown(own, found[own]) for own in names}
        return cls(arms, names, together={}, again={}, unused=(), measured=(a, b, *every))

    def pair(self, roles: tuple[ArmRole, ArmRole]) -> tuple[ResultSet, ResultSet]:
        """The arms of two roles: of one run if it has both."""
        return self.together.get(roles) or (self.arms[roles[0]], self.arms[roles[1]])

    @property
    def ends(self) -> tuple[ResultSet, ResultSet]:
        """The first and the last arm."""
        first, *_others, last = self.arms.values()
        return first, last

    def fixed(self, arm: ResultSet) -> ResultSet | None:
        """The arm of the same run and group with a fixed number of threads, if this one leaves the number to torch."""
        group, threads = split(arm.arm)
        if threads != AUTO:
            return None
        found = (own for own in (*self.arms.values(), *self.measured) if own.run_ids == arm.run_ids)
        return next((own for own in found if split(own.arm)[0] == group and split(own.arm)[1].isdigit()), None)

    @property
    def label(self) -> str:
        """The node's name as it was given, else the name that a process found: that of its pod, in a pod."""
        names = [str(name) for key in ("node", "host") for own in self.arms.values() for name in values(own, key)]
        return names[0] if names else "this node"

    @property
    def environment(self) -> dict[str, Scalar]:
        """The keys on which all arms agree."""
        first, *others = self.arms.values()
        found = [same(first, other) for other in others]
        return {key: value for key, value in found[0].items() if all(key in own for own in found)}


def question_of(a: ResultSet, b: ResultSet) -> Question:
    """The question that the comparison of B with A answers, from the names of the arms; SIDES on two nodes or if no
    other fits."""
    both = (arm_names.role(a.arm), arm_names.role(b.arm))
    found = next((question for question, roles in COMPARED.items() if roles == both), Question.SIDES)
    return found if _on_one_node(a, b) else Question.SIDES


def _on_one_node(a: ResultSet, b: ResultSet) -> bool:
    """By the name that was given, else by that of the host; arms without names count as measured on one."""
    for key in ("node", "host"):
        names = [values(own, key) for own in (a, b)]
        if all(names):
            return names[0] == names[1]
    return True


def _steps(chosen: _Chosen, margin: float) -> list[Step]:
    """Every pair of roles under every load in which both were measured."""
    steps = []
    for load in Load:
        sides = {role: own for role, results in chosen.arms.items() if (own := side(results, load)).rounds}
        if len(sides) < 2:
            continue
        for roles in combinations(sides, 2):
            arms = chosen.pair(roles)
            a, b = side(arms[0], load), side(arms[1], load)
            selection = select_cells([a, b])
            found = pair(a, b, selection)
            shift = _shift(chosen, roles[0], load, selection)
            applied = fair_margin(margin, turns=interleaved(*arms) or not arms[0].run_ids, shift=shift)
            steps.append(
                Step(roles, load, arms, selection, found, applied, family_estimates(found, selection, applied))
            )
    return steps


def _shift(chosen: _Chosen, reference: ArmRole, load: Load, selection: Selection) -> float | None:
    """How much an arm at most differs from its own second measurement, as a share; None without an interval of that."""
    if reference not in chosen.again or selection.headline is None:
        return None
    first, second = side(chosen.arms[reference], load), side(chosen.again[reference], load)
    own = selection.headline
    found = pair(first, second, selection)
    if any(cell not in found.log_ratios for cell in selection.families[own]):
        return None
    d = family_ratios(found, selection.families[own], own)
    if not has_interval(len(d)):
        return None
    value = estimate(list(d.values()), MARGIN)
    return max((value.high or 1.0) - 1, 1 / (value.low or 1.0) - 1)


def _contrast(chosen: _Chosen, question: Question, step: Step, *, valid: bool) -> Contrast:
    cells = cell_results(step.pair, step.selection, step.margin, step.load)
    gap = _gap(chosen, step)
    causes = explain(gap) if gap is not None and valid and step.verdict in (Verdict.BEATS, Verdict.WORSE) else ()
    turns = interleaved(*step.arms) and step.headline is not None and has_interval(step.headline.estimate.rounds)
    opening = step.margin if turns else max(step.margin, DRIFT_OPENING)
    trends = gradient([result for result in cells if result.role is not Role.CONTROL], opening)
    return Contrast(
        question,
        step.load,
        step.families,
        cells,
        step.margin,
        causes,
        ruled_out(gap) if gap is not None and causes else (),
        tuple(unknown(gap)) if gap is not None and valid else (),
        trends,
        gradient_code(trends, not valid or gpu_differs(*step.arms)),
    )


def _gap(chosen: _Chosen, step: Step) -> Gap | None:
    """The gap over the first family. A fixed number of threads shows what the slower arm's threads cost."""
    if step.headline is None:
        return None
    slower = step.arms[0] if step.headline.estimate.ratio >= 1 else step.arms[1]
    return family_gap(step.headline.cells, step.arms, chosen.fixed(slower), step.load)


def _invalid(steps: Sequence[Step], allowed: Sequence[str]) -> Iterable[Invalid]:
    for step in steps:
        yield from invalid(step.arms, step.load, step.control, allowed)


def _expected_rounds(steps: Sequence[Step], precision: float) -> int | None:
    """The most rounds that any of the steps is expected to need; None if that is not known of one."""
    needed = []
    for step in steps:
        if step.headline is None:
            return None
        d = [math.log(ratio) for ratio in step.headline.by_round.values()]
        needed.append(expected_rounds(d, step.margin, precision))
    known = [rounds for rounds in needed if rounds is not None]
    return max(known) if known and len(known) == len(needed) else None


_WAYS: Mapping[Recommendation, ArmRole] = {
    Recommendation.SET_THREADS: ArmRole.THREADS,
    Recommendation.PIN: ArmRole.EXCLUSIVE,
    Recommendation.BOTH: ArmRole.EXCLUSIVE,
    Recommendation.PIN_IF_BUSY: ArmRole.EXCLUSIVE,
}


def _gained(recommendation: Recommendation, steps: Sequence[Step]) -> float | None:
    """What the recommended arm saves in a day: the work that takes 24 hours as it is today takes 24 h / ratio."""
    if recommendation in (Recommendation.NEITHER, Recommendation.KEEP):
        return 0.0
    target = steps[0].roles[1] if recommendation is Recommendation.CHANGE else _WAYS.get(recommendation)
    ways = {step.load: step for step in steps if step.roles[1] is target and step.roles[0] is _reference(steps)}
    load = decisive({load: step.verdict for load, step in ways.items()})
    if recommendation is Recommendation.PIN_IF_BUSY:
        load = busy_load(_verdicts(steps, Question.EXCLUSIVE), _verdicts(steps, Question.WHOLE))
    headline = ways[load].headline if load in ways else None
    return DAY_HOURS * (1 - 1 / headline.estimate.ratio) if headline is not None else None


def _verdicts(steps: Sequence[Step], question: Question) -> dict[Load, Verdict]:
    return {step.load: step.verdict for step in steps if step.roles == COMPARED[question]}


def _reference(steps: Sequence[Step]) -> ArmRole:
    """TODAY, or the first role that was measured instead."""
    return min((step.roles[0] for step in steps), key=list(ArmRole).index)


def _throughputs(chosen: _Chosen, steps: Sequence[Step]) -> Iterable[Throughput]:
    """One for each arm and load, over the cells of the first contrast and the rounds in which the arm has all of them."""
    alone: dict[ArmRole, float] = {}
    for load in Load:
        cells = next((step.headline.cells for step in steps if step.load is load and step.headline), None)
        if cells is None:
            continue
        for role, results in chosen.arms.items():
            found = _throughput(role, load, side(results, load), cells)
            if found is None:
                continue
            each = found.images_per_s / found.tenants
            if load is Load.SOLO:
                alone[role] = each
            loss = None if load is Load.SOLO or role not in alone else 1 - each / alone[role]
            yield replace(found, loss=loss)


def _throughput(role: ArmRole, load: Load, own: Side, cells: Sequence[Cell]) -> Throughput | None:
    """None without a whole round, or if the input does not say how many images a step has."""
    if any(cell.batch is None or cell not in own.logs for cell in cells):
        return None
    rounds = sorted(set.intersection(*(set(own.logs[cell]) for cell in cells)))
    if not rounds:
        return None
    processes = [process for process in own.results.processes if process.load == load and process.round in rounds]
    by_round = {n: geometric_mean(_rate(cell, math.exp(own.logs[cell][n])) for cell in cells) for n in rounds}
    tenants = sorted({process.tenant for process in processes})
    by_tenant = {
        number: tuple(
            geometric_mean(
                _rate(cell, process.timings[cell].mean_ms)
                for process in processes
                if (process.round, process.tenant) == (number, tenant)
                for cell in cells
                if cell in process.timings
            )
            for tenant in tenants
        )
        for number in rounds
    }
    each = [geometric_mean(rates) for rates in zip(*by_tenant.values())]
    return Throughput(
        role,
        load,
        len(tenants),
        geometric_mean(by_round.values()),
        tail_ms([[p.timings[cell] for p in processes if cell in p.timings] for cell in cells]),
        min(each) / median(each) if len(tenants) > 1 else None,
        by_round=by_round,
        by_tenant=by_tenant,
    )


def _rate(cell: Cell, step_ms: float) -> float:
    """Images per second."""
    return (cell.batch or 0) * 1000 / step_ms


def _notes(chosen: _Chosen, steps: Sequence[Step], widest: Step | None, allowed: Sequence[str]) -> Iterable[Note]:
    """Red flags first; each note once."""
    notes = [note for step in steps for note in pair_notes(step.pair, step.selection)]
    notes += [note for results in chosen.arms.values() for note in results.notes]
    if widest is not None:
        notes += _rounds_notes(widest)
    for roles in {step.roles for step in steps}:
        arms = chosen.pair(roles)
        if not interleaved(*arms) and arms[0].run_ids:
            notes.append(wording.note(NoteCode.DIFFERENT_RUNS))
        notes += [wording.note(NoteCode.DIFFERENT_ALLOWED, key=key) for key in differing(*arms) if key in allowed]
        shift = next((s.margin for s in steps if s.roles == roles and not interleaved(*s.arms)), None)
        if shift is not None and roles[0] in chosen.again:
            notes.append(wording.note(NoteCode.SHIFT_MEASURED, margin=shift))
    shared = set.intersection(*(set(results.cells()) for results in chosen.arms.values()))
    for results in chosen.arms.values():
        alone = [str(cell) for cell in results.cells() if cell not in shared]
        if alone:
            notes.append(wording.note(NoteCode.CELLS_LEFT_OUT, where=results.where, cells=", ".join(alone)))
    exclusive = chosen.arms.get(ArmRole.EXCLUSIVE)
    if exclusive is not None and any(own.get("quota_cpus", 0) is None for own in environments(exclusive)):
        notes.append(wording.note(NoteCode.NO_QUOTA))
    if ArmRole.A not in chosen.arms and {step.load for step in steps} == {Load.SOLO}:
        notes.append(wording.note(NoteCode.IDLE_NODE_ONLY))
    if chosen.unused:
        notes.append(wording.note(NoteCode.UNUSED_ARMS, arms=", ".join(map(arm_names.shown_name, chosen.unused))))
    return sorted(notes, key=lambda note: not note.red_flag)


def _rounds_notes(step: Step) -> list[Note]:
    """What the control shows; before the first analysis, that there are too few rounds."""
    rounds = max((own.estimate.rounds for own in step.families), default=0)
    if has_interval(rounds):
        return control_notes(step.control)
    notes = []
    if step.control is not None and abs(math.log(step.control.ratio)) > math.log1p(CONTROL_MARGIN):
        notes.append(wording.note(NoteCode.CONTROL_DIFFERS, ratio=step.control.ratio))
    if rounds:
        code = NoteCode.ONE_RUN if rounds == 1 else NoteCode.FEW_ROUNDS
        notes.append(wording.note(code, rounds=rounds, first=INTERIM_ANALYSES[0]))
    return notes
