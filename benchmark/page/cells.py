# SPDX-License-Identifier: GPL-3.0-or-later
"""Every cell with its means, its ratio and its interval. A cell has no verdict: only families do."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import terms
from ..analysis import CellResult
from ..experiment import Contrast, Experiment, Load, Question
from ..figures import UNKNOWN, change, detail, number
from ..measures import P99_STEPS
from ..pod.cells import family
from ..roles import COMPARED
from . import charts, forest
from .table import Table, without_empty_columns

NOTE = f"~ means not known; a 99th percentile needs {P99_STEPS} steps."


@dataclass(frozen=True)
class Row:
    """One cell: its name, a plot of its ratio, and its numbers as texts."""

    name: str
    detail: str
    svg: Markup
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Cells:
    """The cells of one contrast. `missing` says of the others why they were not timed in both arms."""

    caption: str
    heads: tuple[str, ...]
    axis: Markup
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        return Table(("cell", *self.heads), tuple((f"{r.name} {r.detail}", *r.numbers) for r in self.rows), 1)


def of_experiment(experiment: Experiment) -> tuple[Cells, ...]:
    """The cells of each contrast by load and question, with quantiles and rates where they were recorded."""
    found = []
    for contrast in _ordered(experiment):
        before, after = (terms.arm(role, experiment.arms).short for role in COMPARED[contrast.question])
        caption = f"{after} against {before}: {terms.LOADS[contrast.load].name}"
        heads = (f"{before}, ms", f"{after}, ms", "times as fast", "interval", *_DETAILS)
        found.append(_cells(caption, heads, contrast.cells, contrast.margin))
    return tuple(found)


def _ordered(experiment: Experiment) -> list[Contrast]:
    loads = [(load, question) for load in Load for question in Question]
    return [one for load, question in loads if (one := experiment.contrast(question, load)) is not None]


_DETAILS = ("p50 ms", "p99 ms", "slowest ms", "images/s", "steps")
"""Columns with two numbers, before → after."""


def _details(result: CellResult) -> tuple[str, ...]:
    a, b = result.a, result.b
    texts = [
        change(getattr(a, key, None), getattr(b, key, None)) for key in ("p50_ms", "p99_ms", "max_ms", "images_per_s")
    ]
    before, after = (float(arm.steps) if arm else 0.0 for arm in (a, b))
    return (*texts, change(before, after) if max(before, after) > 1 else UNKNOWN)


def _cells(caption: str, heads: tuple[str, ...], results: Sequence[CellResult], margin: float) -> Cells:
    timed = [(result, result.estimate) for result in results if result.estimate is not None]
    scale = charts.ratio_scale([charts.Span(value.ratio, value.low, value.high) for _result, value in timed], margin)
    numbers = Table(heads, tuple((*_numbers(result), *_details(result)) for result, _value in timed), 0)
    kept = without_empty_columns(numbers, UNKNOWN)
    return Cells(
        caption=caption,
        heads=kept.heads,
        axis=charts.ratio_axis(scale),
        rows=tuple(
            Row(result.cell.model, detail(result.cell), forest.cell_svg(result, scale, margin), row)
            for (result, _value), row in zip(timed, kept.rows)
        ),
        missing=tuple(f"{result.cell}: {result.reason}" for result in results if result.estimate is None),
    )


def _numbers(result: CellResult) -> tuple[str, str, str, str]:
    value = result.estimate
    ratio = UNKNOWN if value is None else f"{value.ratio:.2f}"
    return number(result.mean_a_ms), number(result.mean_b_ms), ratio, terms.spread(value)


def experiment_csv(experiment: Experiment) -> str:
    """Every cell of every contrast as a row of CSV. Times are ms; an unknown value is empty."""
    sides = [f"{side}_{key}" for side in ("before", "after") for key in _ARM]
    heads = ["question", "load", "family", *_CELL, *_NUMBERS, *sides]
    rows = [
        [contrast.question.value, contrast.load.value, family(result.cell), *_plain(result)]
        for contrast in _ordered(experiment)
        for result in contrast.cells
    ]
    return _csv(heads, rows)


_CELL = ("model", "precision", "mode", "batch")
_ARM = ("status", "steps", "p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_s")
_NUMBERS = ("mean_before_ms", "mean_after_ms", "ratio", "low", "high", "rounds")


def _plain(result: CellResult) -> list[object]:
    value = result.estimate
    numbers = (None,) * 4 if value is None else (value.ratio, value.low, value.high, value.rounds)
    arms = [getattr(arm, key, None) for arm in (result.a, result.b) for key in _ARM]
    return [*result.cell, result.mean_a_ms, result.mean_b_ms, *numbers, *arms]


def _csv(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_inert(value) for value in row] for row in rows)
    return text.getvalue()


def _inert(value: object) -> object:
    """Puts an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
