# SPDX-License-Identifier: GPL-3.0-or-later
"""The forest plots: one for each contrast, with a row for each family of cells and a dot for each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from .. import terms
from ..analysis import CellResult, Estimate, Verdict
from ..experiment import Contrast, Experiment, Family, FamilyEstimate, Load, Question
from ..figures import share
from ..pod.words import count
from ..roles import COMPARED
from ..statistics import MARGIN
from . import charts
from .table import Table

_TONES = {Verdict.BEATS: "faster", Verdict.WORSE: "slower", Verdict.EQUIVALENT: "equal"}


@dataclass(frozen=True)
class Measured:
    """One row before it is drawn, with its contrast's margin. `by_round` holds the ratios of single rounds, by number."""

    name: str
    detail: str
    estimate: Estimate
    margin: float
    by_round: Mapping[int, float] = field(default_factory=dict)
    headline: bool = False
    control: bool = False

    @property
    def span(self) -> charts.Span:
        value = self.estimate
        return charts.Span(value.ratio, value.low, value.high, tuple(self.by_round.values()))


@dataclass(frozen=True)
class Row:
    """A drawn row: `ratio`, `interval` and `said` are its texts."""

    name: str
    detail: str
    svg: Markup
    ratio: str
    interval: str
    said: str
    headline: bool


@dataclass(frozen=True)
class Plot:
    """One contrast. `question` is its heading, `ends` say which arms are compared."""

    question: str
    ends: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Forest:
    """The plots of one load, on one scale."""

    plots: tuple[Plot, ...]
    axis: Markup
    margin: str
    confidence: str
    key: tuple[tuple[Markup, str], ...]
    rounds: bool


def of_experiment(experiment: Experiment, load: Load) -> Forest:
    """The contrasts under one load. In an invalid experiment no row makes a claim."""
    found = [one for question in Question if (one := experiment.contrast(question, load)) is not None]
    plots = [
        (terms.question(one.question, experiment).question, _ends(experiment, one), _measured(one)) for one in found
    ]
    return _draw(plots, bool(experiment.invalid), turns=experiment.interleaved)


def _ends(experiment: Experiment, contrast: Contrast) -> str:
    before, after = (terms.arm(role, experiment.arms).short for role in COMPARED[contrast.question])
    if contrast.question is Question.SIDES and contrast.load is Load.SOLO:
        return f"{after} against {before}"
    return f"{after} against {before}: {terms.LOADS[contrast.load].name}"


def _measured(contrast: Contrast) -> list[Measured]:
    return [row_of(one, contrast.margin, headline=index == 0) for index, one in enumerate(contrast.families)]


def row_of(found: FamilyEstimate, margin: float, *, headline: bool) -> Measured:
    """A family as a row. The headline's is the one that the recommendation is about."""
    detail = f"{terms.FAMILIES[found.family].clause} ({count(len(found.cells), 'cell')})"
    control = found.family is Family.CONTROL
    name = terms.FAMILIES[found.family].name
    return Measured(name, detail, found.estimate, margin, found.by_round, headline, control)


def _draw(plots: Sequence[tuple[str, str, Sequence[Measured]]], invalid: bool, *, turns: bool) -> Forest:
    every = [row for _question, _ends, rows in plots for row in rows]
    margins = sorted({row.margin for row in every})
    scale = charts.ratio_scale([row.span for row in every], max(margins, default=MARGIN))
    tones = {_tone(row, invalid) for row in every}
    key: list[tuple[Markup, str]] = [
        (charts.key_mark("diamond", tone), text)
        for tone, text in (
            ("faster", "faster"),
            ("slower", "slower"),
            ("equal", "no difference that matters"),
            ("unknown", "no claim"),
        )
        if tone in tones
    ]
    rounds = any(row.by_round for row in every)
    if rounds:
        key.append((charts.key_mark("dot", "round"), "one round"))
    return Forest(
        plots=tuple(
            Plot(question, ends, tuple(draw_row(row, scale, invalid) for row in rows)) for question, ends, rows in plots
        ),
        axis=charts.ratio_axis(scale),
        margin=" and ".join(f"± {share(margin)}" for margin in margins),
        confidence=terms.explained([row.estimate for row in every], turns=turns),
        key=tuple(key),
        rounds=rounds,
    )


def _tone(row: Measured, invalid: bool) -> str:
    """A control makes no claim: it must not move."""
    return "unknown" if invalid or row.control else _TONES.get(row.estimate.verdict, "unknown")


def draw_row(row: Measured, scale: charts.LogScale, invalid: bool) -> Row:
    """The row on its scale, with its texts."""
    value = row.estimate
    said = "" if row.control else terms.CONCLUSIONS[Verdict.INVALID if invalid else value.verdict]
    shape = "square" if row.control else "diamond"
    rounds = ", ".join(f"{ratio:.2f}" for ratio in row.by_round.values())
    title = f"{row.name}: {terms.times(value.ratio)}, interval {terms.spread(value)}"
    title += f"; rounds: {rounds}" if rounds else ""
    return Row(
        row.name,
        row.detail,
        charts.forest_row(row.span, scale, row.margin, shape, _tone(row, invalid), title),
        f"{value.ratio:.2f}",
        terms.spread(value),
        said,
        row.headline,
    )


def cell_svg(result: CellResult, scale: charts.LogScale, margin: float) -> Markup:
    """A single cell with its interval. It makes no claim: only families do."""
    value = result.estimate
    if value is None:
        return Markup()
    title = f"{result.cell}: {terms.times(value.ratio)}, interval {terms.spread(value)}"
    span = charts.Span(value.ratio, value.low, value.high)
    return charts.forest_row(span, scale, margin, "circle", "equal", title)


def tables(forest: Forest) -> tuple[tuple[str, Table], ...]:
    """The plots as tables of texts, each with its heading."""
    heads = ("family", "", "times as fast", "interval", "")
    return tuple(
        (
            f"{plot.question} ({plot.ends})",
            Table(heads, tuple((row.name, row.detail, row.ratio, row.interval, row.said) for row in plot.rows), 2),
        )
        for plot in forest.plots
    )
