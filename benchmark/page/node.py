# SPDX-License-Identifier: GPL-3.0-or-later
"""The full node: both questions under each load, and each arm's rate, worst tenant, slowest steps and loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import terms
from ..experiment import ArmRole, Contrast, Experiment, Load, Throughput
from ..figures import UNKNOWN, number, share
from . import charts, forest
from .table import Table


@dataclass(frozen=True)
class Answer:
    """One question under one load; without a measurement the texts say so."""

    ratio: str
    interval: str
    said: str
    svg: Markup


@dataclass(frozen=True)
class LoadRow:
    """One load: its answers in the order of the questions."""

    load: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class ArmRow:
    """One arm under one load: a strip of its tenants and rounds, and its numbers as texts."""

    arm: str
    svg: Markup
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """The panel. `rates` holds the arms by load; `dots` says what a dot of the strips is."""

    questions: tuple[str, ...]
    rows: tuple[LoadRow, ...]
    axis: Markup
    rates: tuple[tuple[str, tuple[ArmRow, ...]], ...]
    rates_axis: Markup
    heads: tuple[str, ...]
    dots: str
    tables: tuple[tuple[str, Table], ...]


_HEADS = ("node, images/s", "worst tenant", "p99 of a step", "loss by load")


def of_experiment(experiment: Experiment) -> Node | None:
    """The panel; None if only one tenant was measured on an idle node."""
    loads = experiment.loads
    if set(loads) <= {Load.SOLO}:
        return None
    questions = tuple(terms.question(asked, experiment).question for asked in experiment.questions)
    rows, axis = _answers(experiment, loads)
    rates, rates_axis, dots = _rates(experiment, loads)
    return Node(
        questions=questions,
        rows=rows,
        axis=axis,
        rates=rates,
        rates_axis=rates_axis,
        heads=_HEADS,
        dots=dots,
        tables=_tables(questions, rows, rates),
    )


def _answers(experiment: Experiment, loads: Sequence[Load]) -> tuple[tuple[LoadRow, ...], Markup]:
    measured = [forest.row_of(one.headline, one.margin, headline=True) for one in experiment.contrasts]
    scale = charts.ratio_scale([row.span for row in measured], experiment.margin)
    rows = tuple(
        LoadRow(
            terms.LOADS[load].name,
            tuple(_answer(experiment, experiment.contrast(question, load), scale) for question in experiment.questions),
        )
        for load in loads
    )
    return rows, charts.ratio_axis(scale)


def _answer(experiment: Experiment, contrast: Contrast | None, scale: charts.LogScale) -> Answer:
    if contrast is None:
        return Answer(UNKNOWN, UNKNOWN, "not measured", Markup())
    measured = forest.row_of(contrast.headline, contrast.margin, headline=True)
    row = forest.draw_row(measured, scale, bool(experiment.invalid))
    return Answer(row.ratio, row.interval, row.said, row.svg)


def _rates(
    experiment: Experiment, loads: Sequence[Load]
) -> tuple[tuple[tuple[str, tuple[ArmRow, ...]], ...], Markup, str]:
    found = {(one.load, one.role): one for one in experiment.throughputs}
    by_tenant = any(one.by_tenant for one in found.values())
    longest = max((value for one in found.values() for value in _dots(one)), default=0.0)
    rates = tuple(
        (
            terms.LOADS[load].name,
            tuple(_arm(experiment, found[load, role], longest) for role in ArmRole if (load, role) in found),
        )
        for load in loads
        if any((load, role) in found for role in ArmRole)
    )
    dots = "a dot for each tenant and round" if by_tenant else "a dot for each round, mean of its tenants"
    return rates, charts.value_axis(longest), dots


def _dots(one: Throughput) -> list[float]:
    """Images per second of a tenant: each tenant in each round, else their mean in each round."""
    if one.by_tenant:
        return [rate for rates in one.by_tenant.values() for rate in rates]
    return [rate / one.tenants for rate in one.by_round.values()] or [one.images_per_s / one.tenants]


def _arm(experiment: Experiment, one: Throughput, longest: float) -> ArmRow:
    dots = _dots(one)
    name = terms.arm(one.role, experiment.arms).name
    title = f"{name}: {number(min(dots))} to {number(max(dots))} images/s for each tenant"
    numbers = (
        number(one.images_per_s),
        UNKNOWN if one.worst_tenant is None else f"{share(one.worst_tenant)} of the median",
        number(one.p99_ms, " ms"),
        share(one.loss),
    )
    return ArmRow(name, charts.strip(dots, longest, one.role.value, title), numbers)


def _tables(
    questions: Sequence[str], rows: Sequence[LoadRow], rates: Sequence[tuple[str, Sequence[ArmRow]]]
) -> tuple[tuple[str, Table], ...]:
    answers = Table(
        ("load", *questions),
        tuple((row.load, *(f"{one.ratio} ({one.interval}) {one.said}" for one in row.answers)) for row in rows),
        1 + len(questions),
    )
    numbers = Table(
        ("load", "arm", *_HEADS), tuple((load, arm.arm, *arm.numbers) for load, arms in rates for arm in arms), 2
    )
    return (("Times as fast, by load", answers), ("Each arm under each load", numbers))
