# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiments and comparisons as text for a terminal, and as the object that `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import sentences
from .analysis import Cause, CellResult, Comparison, Estimate
from .experiment import Contrast, Experiment, FamilyEstimate, Invalid
from .figures import UNKNOWN, interval
from .results import REPORT_SCHEMA
from .wording import gradient_conclusion, note_line, trend_line, verdict_line


def to_object(result: Comparison) -> dict[str, Any]:
    """Plain data. Times are ms, ratios are A's time over B's; a value that could not be computed is None."""
    return {
        "schema": REPORT_SCHEMA,
        "verdict": result.verdict.value,
        "sentence": verdict_line(result),
        "a": result.label_a,
        "b": result.label_b,
        "margin": result.margin,
        "interleaved": result.interleaved,
        "family": {"basis": result.family_basis, **_estimate(result.family)},
        "families": [_family(found) for found in result.families],
        "control": _control(result.control, proves=result.control_proves),
        "invalid": _invalid(result.invalid),
        "cells": [_cell(cell) for cell in result.cells],
        "gradient": {
            "code": result.gradient_code.value,
            "conclusion": gradient_conclusion(result),
            "groups": [asdict(trend) for trend in result.gradient],
        },
        "notes": [note.to_dict() for note in result.notes],
    }


def experiment_object(experiment: Experiment) -> dict[str, Any]:
    """An experiment as plain data. Rates are images per second; ratios are above 1 where the later arm is faster."""
    return {
        "schema": REPORT_SCHEMA,
        "label": experiment.label,
        "arms": {role.value: arm for role, arm in experiment.arms.items()},
        "recommendation": experiment.recommendation.value,
        "lead": sentences.lead(experiment),
        "answers": [_contrast(contrast) for contrast in sentences.answers(experiment)],
        "asked": experiment.asked,
        "verdict": experiment.verdict,
        "sentence": experiment.sentence,
        "is_precise": experiment.is_precise,
        "rounds": experiment.rounds,
        "expected_rounds": experiment.expected_rounds,
        "margin": experiment.margin,
        "precision": experiment.precision,
        "interleaved": experiment.interleaved,
        "gpu_minutes": experiment.gpu_minutes,
        "gpu_hours_gained": experiment.gpu_hours_gained,
        "invalid": _invalid(experiment.invalid),
        "contrasts": [
            {
                **_contrast(contrast),
                "families": [_family(found) for found in contrast.families],
                "cells": [_cell(cell) for cell in contrast.cells],
                "causes": causes(contrast.causes),
            }
            for contrast in experiment.contrasts
        ],
        "throughputs": [
            {
                "role": found.role.value,
                "load": found.load.value,
                "tenants": found.tenants,
                "images_per_s": found.images_per_s,
                "p99_ms": found.p99_ms,
                "worst_tenant": found.worst_tenant,
                "loss": found.loss,
                "by_round": {str(number): rate for number, rate in found.by_round.items()},
                "by_tenant": {str(number): list(rates) for number, rates in found.by_tenant.items()},
            }
            for found in experiment.throughputs
        ],
        "control": _control(experiment.control, proves=experiment.control_proves),
        "advice": [asdict(item) for item in experiment.advice],
        "notes": [note.to_dict() for note in experiment.notes],
        "environment": dict(experiment.environment),
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "question": contrast.question.value,
        "load": contrast.load.value,
        **_estimate(contrast.headline.estimate),
        "verdict": contrast.headline.estimate.verdict.value,
    }


def causes(found: Sequence[Cause]) -> list[dict[str, Any]]:
    """Causes of one gap, ordered by remedy. Their shares add up to at most 1."""
    return [{"code": cause.code.value, "share": cause.share, "evidence": cause.text} for cause in found]


def _family(found: FamilyEstimate) -> dict[str, Any]:
    return {
        "family": found.family.value,
        "cells": [str(cell) for cell in found.cells],
        **_estimate(found.estimate),
        "verdict": found.estimate.verdict.value,
        "by_round": {str(number): ratio for number, ratio in found.by_round.items()},
    }


def _control(value: Estimate | None, *, proves: bool) -> dict[str, Any]:
    return {**_estimate(value), "proves": proves}


def _invalid(reasons: Sequence[Invalid]) -> list[dict[str, str]]:
    return [{"code": reason.code.value, "text": reason.text} for reason in reasons]


def _cell(result: CellResult) -> dict[str, Any]:
    return {
        "model": result.cell.model,
        "precision": result.cell.precision,
        "mode": result.cell.mode,
        "batch": result.cell.batch,
        "mean_a_ms": result.mean_a_ms,
        "mean_b_ms": result.mean_b_ms,
        **_estimate(result.estimate),
        "role": result.role.value,
        "status": result.status,
        "reason": result.reason,
    }


def _estimate(value: Estimate | None) -> dict[str, float | int | None]:
    return {
        "ratio": value.ratio if value else None,
        "low": value.low if value else None,
        "high": value.high if value else None,
        "confidence": value.confidence if value else None,
        "rounds": value.rounds if value else 0,
    }


def _table(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lines of text; the first columns and the last are names, the others numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if column < names or column == len(row) - 1 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def to_text(result: Comparison) -> str:
    """The verdict, the gradient, the table ("~" marks an unknown value) and the notes."""
    confidence = next((c.estimate.confidence for c in result.cells if c.estimate and c.estimate.confidence), None)
    head = f"{confidence:.2%} interval" if confidence else "interval"
    rows = [["model", "precision", "mode", "batch", f"A {result.label_a}", f"B {result.label_b}", "A/B", head, ""]]
    rows += [_row(cell) for cell in result.cells]
    parts = [verdict_line(result), gradient_conclusion(result)]
    parts += [f"  {trend_line(trend)}" for trend in result.gradient]
    parts += ["", *_table(rows, 4)]
    if result.notes:
        parts += ["", *map(note_line, result.notes)]
    return "\n".join(parts)


def _row(result: CellResult) -> list[str]:
    cell, value = result.cell, result.estimate
    name = [cell.model, cell.precision, cell.mode, UNKNOWN if cell.batch is None else str(cell.batch)]
    if value is None or result.mean_a_ms is None or result.mean_b_ms is None:
        return [*name, *[UNKNOWN] * 4, result.reason]
    means = [f"{result.mean_a_ms:.2f} ms", f"{result.mean_b_ms:.2f} ms"]
    return [*name, *means, f"{value.ratio:.2f}x", interval(value), result.role]
