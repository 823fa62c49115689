# SPDX-License-Identifier: GPL-3.0-or-later
"""Why: the causes of each gap that is decided, by the remedy that removes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import terms
from ..analysis import Analysis, Cause
from ..experiment import Experiment, Load, Question
from ..figures import finite, share
from ..wording import CAUSES, gradient_conclusion, trend_line
from . import charts
from .table import Table

NONE_DECIDED = "No cause is named: no gap is decided."
NOT_RECORDED = "No cause is named, because the input has no counters or shows no gap."


@dataclass(frozen=True)
class Row:
    """One cause: its part of the gap as text and bar, and what proves it."""

    name: str
    share: str
    svg: Markup
    evidence: str


@dataclass(frozen=True)
class Group:
    """The causes of one gap."""

    remedy: str
    rows: tuple[Row, ...]

    @property
    def table(self) -> Table:
        return Table(
            ("cause", "part of the gap", "evidence"), tuple((r.name, r.share, r.evidence) for r in self.rows), 3
        )


@dataclass(frozen=True)
class Causes:
    """`missing` says why no cause is named, if none is. `sentences` say more about two sides."""

    groups: tuple[Group, ...]
    missing: str
    sentences: tuple[str, ...] = ()


def of_experiment(experiment: Experiment) -> Causes:
    """The causes of both questions, threads first; those of loads other than a single tenant name their load."""
    groups = [
        Group(_remedy(question, one.load), _rows(one.causes))
        for question in Question
        for load in Load
        if (one := experiment.contrast(question, load)) is not None and one.causes
    ]
    return Causes(tuple(groups), "" if groups else NONE_DECIDED)


def _remedy(question: Question, load: Load) -> str:
    remedy = terms.QUESTIONS[question].remedy
    return remedy if load is Load.SOLO else f"{remedy}, {terms.LOADS[load].name}"


def of_analysis(analysis: Analysis) -> Causes:
    """The causes of the gap between two sides, with what was ruled out or not recorded, and the trend by size."""
    rows = _rows(analysis.causes)
    comparison = analysis.comparison
    conclusion = gradient_conclusion(comparison)
    sentences = [*analysis.why, *([] if conclusion in analysis.why else [conclusion])]
    return Causes(
        (Group("The gap between A and B", rows),) if rows else (),
        "" if rows else NOT_RECORDED,
        (*sentences, *map(trend_line, comparison.gradient)),
    )


def _rows(causes: Sequence[Cause]) -> tuple[Row, ...]:
    return tuple(_row(cause) for cause in causes)


def _row(cause: Cause) -> Row:
    known = cause.share is not None and finite(cause.share)
    text = share(cause.share) if known else "not known"
    name = CAUSES[cause.code]
    svg = charts.bar(cause.share or 0.0, "cause", f"{name}: {text} of the gap") if known else Markup()
    return Row(name, text, svg, cause.text)
