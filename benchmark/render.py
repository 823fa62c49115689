# SPDX-License-Identifier: GPL-3.0-or-later
"""An experiment as text for a terminal, and as the object that `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import sentences, terms
from .analysis import Cause, CellResult, Estimate
from .experiment import Contrast, Experiment, FamilyEstimate, Invalid, Load
from .figures import UNKNOWN, interval, scalar
from .results import REPORT_SCHEMA
from .roles import COMPARED
from .wording import gradient_conclusion, note_line, trend_line


def to_object(experiment: Experiment) -> dict[str, Any]:
    """An experiment as plain data. Rates are images per second; ratios are above 1 where the later arm is faster."""
    return {
        "schema": REPORT_SCHEMA,
        "label": experiment.label,
        "arms": {role.value: arm for role, arm in experiment.arms.items()},
        "recommendation": experiment.recommendation.value,
        "lead": terms.lead(experiment),
        "answers": [_contrast(experiment, contrast) for contrast in sentences.answers(experiment)],
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
                **_contrast(experiment, contrast),
                "families": [_family(found) for found in contrast.families],
                "margin": contrast.margin,
                "cells": [_cell(cell) for cell in contrast.cells],
                "causes": causes(contrast.causes),
                "ruled_out": [asdict(item) for item in contrast.ruled_out],
                "unknown": list(contrast.unknown),
                "gradient": {
                    "code": contrast.gradient_code.value,
                    "conclusion": gradient_conclusion(contrast.gradient, contrast.gradient_code),
                    "groups": [asdict(trend) for trend in contrast.gradient],
                },
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
        "differences": [asdict(item) for item in experiment.differences],
    }


def _contrast(experiment: Experiment, contrast: Contrast) -> dict[str, Any]:
    return {
        "question": contrast.question.value,
        "name": _name(experiment, contrast),
        "load": contrast.load.value,
        "load_name": terms.LOADS[contrast.load].short.lower(),
        **_estimate(contrast.headline.estimate),
        "verdict": contrast.headline.estimate.verdict.value,
    }


def _name(experiment: Experiment, contrast: Contrast) -> str:
    """Such as "exclusive CPUs against threads set"."""
    before, after = (terms.arm(role, experiment.arms).short for role in COMPARED[contrast.question])
    return f"{after} against {before}"


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
        "a": asdict(result.a) if result.a is not None else None,
        "b": asdict(result.b) if result.b is not None else None,
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


def to_text(experiment: Experiment) -> str:
    """What was found, each contrast with its gradient and cells ("~" marks an unknown value), and the notes."""
    parts = [experiment.sentence]
    for contrast in experiment.contrasts:
        parts += ["", *_contrast_lines(experiment, contrast)]
    first, last = (terms.arm(role, experiment.arms).short for role in experiment.ends)
    differing = [item for item in experiment.differences if not item.by_design]
    if differing or experiment.notes:
        parts.append("")
    parts += [
        f"{item.key} differs: {scalar(item.key, item.a)} in {first}, {scalar(item.key, item.b)} in {last}"
        for item in differing
    ]
    return "\n".join([*parts, *map(note_line, experiment.notes)])


def _contrast_lines(experiment: Experiment, contrast: Contrast) -> list[str]:
    before, after = (terms.arm(role, experiment.arms).short for role in COMPARED[contrast.question])
    confidence = contrast.headline.estimate.confidence
    head = f"{confidence:.2%} interval" if confidence else "interval"
    rows = [["model", "precision", "mode", "batch", before, after, "times as fast", head, ""]]
    rows += [_row(cell) for cell in contrast.cells]
    load = "" if contrast.load is Load.SOLO else f", {terms.LOADS[contrast.load].name}"
    lines = [f"{_name(experiment, contrast)}{load}:"]
    if contrast.gradient:
        lines.append(gradient_conclusion(contrast.gradient, contrast.gradient_code))
        lines += [f"  {trend_line(trend)}" for trend in contrast.gradient]
    return [*lines, *_table(rows, 4)]


def _row(result: CellResult) -> list[str]:
    cell, value = result.cell, result.estimate
    name = [cell.model, cell.precision, cell.mode, UNKNOWN if cell.batch is None else str(cell.batch)]
    if value is None or result.mean_a_ms is None or result.mean_b_ms is None:
        return [*name, *[UNKNOWN] * 4, result.reason]
    means = [f"{result.mean_a_ms:.2f} ms", f"{result.mean_b_ms:.2f} ms"]
    return [*name, *means, f"{value.ratio:.2f}x", interval(value), result.role]
