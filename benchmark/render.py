# SPDX-License-Identifier: GPL-3.0-or-later
"""A comparison as text for a terminal, and as the object that `--json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .analysis import CellResult, Comparison, Estimate, Verdict
from .results import REPORT_SCHEMA
from .wording import UNKNOWN, gradient_conclusion, interval, note_line, trend_line, verdict_line


def to_object(result: Comparison) -> dict[str, Any]:
    """Plain data. Times are ms, ratios are A's time over B's; a value that could not be computed is None."""
    return {
        "schema": REPORT_SCHEMA,
        "verdict": result.verdict.value,
        "sentence": verdict_line(result),
        "a": result.label_a,
        "b": result.label_b,
        "margin": result.margin,
        "family": {"basis": result.family_basis, **_estimate(result.family)},
        "control": _estimate(result.control),
        "cells": [
            {
                "model": cell.cell.model,
                "precision": cell.cell.precision,
                "mode": cell.cell.mode,
                "batch": cell.cell.batch,
                "mean_a_ms": cell.mean_a_ms,
                "mean_b_ms": cell.mean_b_ms,
                **_estimate(cell.estimate),
                "verdict": cell.verdict.value,
                "role": cell.role.value,
                "status": cell.status,
                "reason": cell.reason,
            }
            for cell in result.cells
        ],
        "gradient": {
            "code": result.gradient_code.value,
            "conclusion": gradient_conclusion(result),
            "groups": [asdict(trend) for trend in result.gradient],
        },
        "notes": [note.to_dict() for note in result.notes],
    }


def _estimate(value: Estimate | None) -> dict[str, float | int | None]:
    return {
        "ratio": value.ratio if value else None,
        "low": value.low if value else None,
        "high": value.high if value else None,
        "confidence": value.confidence if value else None,
        "rounds": value.rounds if value else 0,
    }


def to_text(result: Comparison) -> str:
    """The verdict, the gradient, the table ("~" marks an unknown value) and the notes."""
    confidence = next((c.estimate.confidence for c in result.cells if c.estimate and c.estimate.confidence), None)
    head = f"{confidence:.2%} interval" if confidence else "interval"
    rows = [["model", "precision", "mode", "batch", f"A {result.label_a}", f"B {result.label_b}", "A/B", head, ""]]
    rows += [_row(cell) for cell in result.cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = []
    for row in rows:
        left = [text.ljust(width) for text, width in zip(row[:4], widths)]
        right = [text.rjust(width) for text, width in zip(row[4:8], widths[4:])]
        table.append("  ".join([*left, *right, row[8]]).rstrip())
    parts = [verdict_line(result), gradient_conclusion(result)]
    parts += [f"  {trend_line(trend)}" for trend in result.gradient]
    parts += ["", *table]
    if result.notes:
        parts += ["", *map(note_line, result.notes)]
    return "\n".join(parts)


def _row(result: CellResult) -> list[str]:
    cell, value = result.cell, result.estimate
    name = [cell.model, cell.precision, cell.mode, UNKNOWN if cell.batch is None else str(cell.batch)]
    if value is None or result.mean_a_ms is None or result.mean_b_ms is None:
        return [*name, *[UNKNOWN] * 4, f"{UNKNOWN}  {result.reason}"]
    verdict = UNKNOWN if result.verdict is Verdict.UNDECIDED else result.verdict.value
    means = [f"{result.mean_a_ms:.2f} ms", f"{result.mean_b_ms:.2f} ms"]
    return [*name, *means, f"{value.ratio:.2f}x", interval(value), f"{verdict}  {result.role}"]
