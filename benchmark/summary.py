# SPDX-License-Identifier: GPL-3.0-or-later
"""What each arm of a run measured, without comparing: the object that becomes facts of a host, and a table of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .analysis import ArmCell
from .measures import arm_cell
from .pod.cells import Cell
from .pod.words import count
from .results import REPORT_SCHEMA, Note, ResultSet
from .roles import shown_name
from .wording import note_line

_TIMES = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_s", "launch_share")


def summarise(arms: Mapping[str, ResultSet]) -> dict[str, Any]:
    """Plain data. Times are ms per step over all rounds of an arm; a value that was not recorded is None."""
    return {
        "schema": REPORT_SCHEMA,
        "run_ids": sorted({run_id for results in arms.values() for run_id in results.run_ids}),
        "arms": {
            name: {
                "shown_name": shown_name(name),
                "environment": dict(results.environment),
                "rounds": len({process.round for process in results.processes}),
                "cells": [_cell(cell, found) for cell in results.cells() if (found := arm_cell(results, cell))],
            }
            for name, results in arms.items()
        },
        "notes": [note.to_dict() for note in notes(arms)],
    }


def notes(arms: Mapping[str, ResultSet]) -> list[Note]:
    """The notes of all arms, each once."""
    return list(dict.fromkeys(note for results in arms.values() for note in results.notes))


def _cell(cell: Cell, found: ArmCell) -> dict[str, Any]:
    periods = {key: int(found.rates[key]) if key in found.rates else None for key in ("throttled_periods", "periods")}
    return {
        "model": cell.model,
        "precision": cell.precision,
        "mode": cell.mode,
        "batch": cell.batch,
        "status": found.status,
        "steps": found.steps,
        **{key: None if (value := getattr(found, key)) is None else round(value, 3) for key in _TIMES},
        **periods,
    }


def to_text(arms: Mapping[str, ResultSet]) -> str:
    """One table per arm; "~" marks a value that was not recorded."""
    parts = []
    for name, arm in summarise(arms)["arms"].items():
        rounds = count(arm["rounds"], "round")
        rows = [["model", "precision", "mode", "batch", "steps", "mean", "p50", "p99", "images/s", "throttled"]]
        rows += [_row(cell) for cell in arm["cells"]]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        parts.append(f"{name}: {rounds}" if arm["shown_name"] == name else f"{name} ({arm['shown_name']}): {rounds}")
        for row in rows:
            texts = [
                text.ljust(width) if n < 3 else text.rjust(width) for n, (text, width) in enumerate(zip(row, widths))
            ]
            parts.append(f"  {'  '.join(texts)}".rstrip())
    return "\n".join([*parts, *map(note_line, notes(arms))])


def _row(cell: Mapping[str, Any]) -> list[str]:
    name = [cell["model"], cell["precision"], cell["mode"], str(cell["batch"])]
    if cell["status"] != "ok":
        return [*name, {"oom": "out of memory"}.get(cell["status"], cell["status"]), *[""] * 5]
    times = ["~" if cell[key] is None else f"{cell[key]:.2f} ms" for key in ("mean_ms", "p50_ms", "p99_ms")]
    rate = "~" if cell["images_per_s"] is None else f"{cell['images_per_s']:.0f}"
    periods, throttled = cell["periods"], cell["throttled_periods"]
    share = "~" if periods is None or throttled is None else f"{throttled} of {periods}"
    return [*name, str(cell["steps"]), *times, rate, share]
