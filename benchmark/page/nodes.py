# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of several nodes: a row for each, with its verdict, its contrasts on one scale, and the link to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .. import terms
from ..analysis import Estimate, Verdict
from ..experiment import ArmRole, Load, Question, Recommendation
from ..figures import UNKNOWN, number
from ..pod.words import count
from ..results import REPORT_SCHEMA
from ..roles import COMPARED
from ..statistics import MARGIN
from . import charts, forest, head


@dataclass(frozen=True)
class NodeReport:
    """What the report of a node tells. `answers` are the contrasts that its recommendation follows from."""

    node: str
    href: str
    lead: str
    recommendation: Recommendation
    reasons: tuple[str, ...]
    rounds: int
    hours: float | None
    answers: tuple[tuple[Question, Load, forest.Measured], ...]

    @classmethod
    def of_object(cls, report: Mapping[str, Any], href: str) -> NodeReport:
        """:param report: of `render.to_object`
        :param href: where its page is, seen from this one
        :raises KeyError, TypeError, ValueError: if it is something else
        """
        if report["schema"] != REPORT_SCHEMA:
            raise ValueError(report["schema"])
        wanted = {(one["question"], one["load"]) for one in report["answers"]}
        return cls(
            str(report["label"]),
            href,
            str(report["lead"]),
            Recommendation(report["recommendation"]),
            tuple(str(reason["text"]) for reason in report["invalid"]),
            int(report["rounds"]),
            report["gpu_hours_gained"],
            tuple(
                (Question(one["question"]), Load(one["load"]), _measured(str(report["label"]), one))
                for one in report["contrasts"]
                if (one["question"], one["load"]) in wanted
            ),
        )


def _measured(node: str, contrast: Mapping[str, Any]) -> forest.Measured:
    found = Estimate(
        float(contrast["ratio"]),
        int(contrast["rounds"]),
        Verdict(contrast["verdict"]),
        contrast["low"],
        contrast["high"],
        contrast["confidence"],
    )
    by_round = {int(name): float(ratio) for name, ratio in contrast["families"][0]["by_round"].items()}
    return forest.Measured(node, "", found, float(contrast["margin"]), by_round)


@dataclass(frozen=True)
class Answer:
    """One question on one node, under one load."""

    load: str
    row: forest.Row


@dataclass(frozen=True)
class NodeRow:
    """One node; `answers` holds those of each question, in the order of the columns."""

    node: str
    href: str
    badge: head.Badge
    lead: str
    reasons: tuple[str, ...]
    answers: tuple[tuple[Answer, ...], ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Nodes:
    """`heading` says whether the nodes ask for the same; if not, `leads` says which nodes ask for what."""

    title: str
    heading: str
    leads: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    axis: Markup
    rows: tuple[NodeRow, ...]


def of_reports(reports: Sequence[NodeReport], title: str) -> Nodes:
    """The page of these nodes, in their order."""
    questions = [
        asked for asked in Question if any(asked is own for one in reports for own, _load, _row in one.answers)
    ]
    every = [measured for one in reports for _question, _load, measured in one.answers]
    scale = charts.ratio_scale([row.span for row in every], max((row.margin for row in every), default=MARGIN))
    nodes: dict[str, list[str]] = {}
    for one in reports:
        nodes.setdefault(one.lead, []).append(one.node)
    ordered = sorted(nodes.items(), key=lambda entry: -len(entry[1]))
    return Nodes(
        title=title,
        heading=f"{ordered[0][0]}: on all {len(reports)} nodes." if len(ordered) == 1 else "The nodes differ.",
        leads=tuple((lead, ", ".join(names)) for lead, names in ordered) if len(ordered) > 1 else (),
        questions=tuple(map(_column, questions)),
        axis=charts.ratio_axis(scale),
        rows=tuple(_row(one, questions, scale) for one in reports),
    )


def _column(question: Question) -> str:
    """Which arms are compared."""
    sides = {ArmRole.A: "the first side", ArmRole.B: "the second side"}
    before, after = (terms.arm(role, sides) for role in COMPARED[question])
    return f"{after.start} against {before.short}"


def _row(report: NodeReport, questions: Sequence[Question], scale: charts.LogScale) -> NodeRow:
    invalid = report.recommendation is Recommendation.REPEAT
    return NodeRow(
        report.node,
        report.href,
        head.state(report.recommendation, f"{count(report.rounds, 'round')} so far"),
        report.lead,
        report.reasons,
        tuple(
            tuple(
                Answer(terms.LOADS[load].short, forest.draw_row(measured, scale, invalid))
                for own, load, measured in report.answers
                if own is question
            )
            for question in questions
        ),
        (str(report.rounds), UNKNOWN if invalid else number(report.hours)),
    )
