# SPDX-License-Identifier: GPL-3.0-or-later
"""Why: the causes of each gap that is decided, by the remedy that removes or adds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import terms
from ..analysis import Cause, Verdict
from ..experiment import Contrast, Experiment, Load, Question
from ..figures import finite, share
from ..wording import CAUSES, gradient_conclusion, trend_line
from . import charts
from .table import Table

NONE_DECIDED = "No cause is named: no gap is decided."
NOT_RECORDED = "No cause is named: the input has no counters."


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

    heading: str
    rows: tuple[Row, ...]

    @property
    def table(self) -> Table:
        return Table(
            ("cause", "part of the gap", "evidence"), tuple((r.name, r.share, r.evidence) for r in self.rows), 3
        )


@dataclass(frozen=True)
class Causes:
    """`missing` says why no cause is named, if none is. `sentences` say what was ruled out or not
    recorded, and how the gap changes with the size of the models."""

    groups: tuple[Group, ...]
    missing: str
    sentences: tuple[str, ...] = ()


def of_experiment(experiment: Experiment) -> Causes:
    """The causes of each question; those of loads other than a single tenant name their load."""
    groups = [
        Group(_heading(experiment, one), _rows(one.causes))
        for question in Question
        for load in Load
        if (one := experiment.contrast(question, load)) is not None and one.causes
    ]
    contrasts = () if experiment.invalid else experiment.contrasts
    decided = {one.headline.estimate.verdict for one in contrasts} & {Verdict.BEATS, Verdict.WORSE}
    missing = "" if groups else NOT_RECORDED if decided else NONE_DECIDED
    sentences = [text for one in contrasts for text in (*(item.text for item in one.ruled_out), *one.unknown)]
    for one in contrasts:
        if one.gradient:
            sentences += [gradient_conclusion(one.gradient, one.gradient_code), *map(trend_line, one.gradient)]
    return Causes(tuple(groups), missing, tuple(dict.fromkeys(sentences)))


def _heading(experiment: Experiment, contrast: Contrast) -> str:
    term = terms.question(contrast.question, experiment)
    heading = term.loss if contrast.headline.estimate.verdict is Verdict.WORSE else term.gain
    return heading if contrast.load is Load.SOLO else f"{heading}, {terms.LOADS[contrast.load].name}"


def _rows(causes: Sequence[Cause]) -> tuple[Row, ...]:
    return tuple(_row(cause) for cause in causes)


def _row(cause: Cause) -> Row:
    known = cause.share is not None and finite(cause.share)
    text = share(cause.share) if known else "not known"
    name = CAUSES[cause.code]
    svg = charts.bar(cause.share or 0.0, "cause", f"{name}: {text} of the gap") if known else Markup()
    return Row(name, text, svg, cause.text)
