# SPDX-License-Identifier: GPL-3.0-or-later
"""What two sides must have in common before anything is estimated. Pure."""

from __future__ import annotations

from .results import InputError, ResultSet


def check_sides(a: ResultSet, b: ResultSet) -> None:
    """:raises InputError: if A and B time different steps, or differ in the batch size of all their cells"""
    problems = _kind_problems(a, b) or _batch_problems(a, b)
    if problems:
        raise InputError(problems)


def _kind_problems(a: ResultSet, b: ResultSet) -> list[str]:
    """Only JSON lines have a run."""
    if bool(a.run_ids) == bool(b.run_ids):
        return []
    ours, originals = (a, b) if a.run_ids else (b, a)
    return [
        f"{ours.label} has JSON lines, {originals.label} output of the original benchmark: expected two of one kind, "
        f"because the original's steps include the copy to the GPU, beside workers that load. "
        f"Run `original` on both sides, or neither."
    ]


def _batch_problems(a: ResultSet, b: ResultSet) -> list[str]:
    """Cells that are common to A and B, if it were not for the batch. Sides that share a cell pass."""
    if set(a.cells()) & set(b.cells()):
        return []
    sizes = [{cell._replace(batch=None): cell.batch for cell in side.cells()} for side in (a, b)]
    shared = [cell for cell in sizes[0] if cell in sizes[1]]
    if not shared:
        return []
    known = next((size for own in sizes for size in (own[shared[0]],) if size is not None), None)
    left, right = (f"{side.label} has {_batch(own[shared[0]])}" for side, own in zip((a, b), sizes))
    remedy = (
        f"If it was {known}, say so with --batch {known}, else run one of them again."
        if None in (sizes[0][shared[0]], sizes[1][shared[0]])
        else "Run one of them again with the other's batch size (original: --BATCH_SIZE)."
    )
    return [f"{left}, {right}: expected the same, because the time of a step grows with its batch. {remedy}"]


def _batch(size: int | None) -> str:
    return "an unrecorded batch size" if size is None else f"batch {size}"
