# SPDX-License-Identifier: GPL-3.0-or-later
"""Where it was measured: the environment, what differs in it, and the notes on the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import terms
from ..analysis import Difference
from ..experiment import Experiment
from ..figures import scalar
from ..results import Note, NoteCode
from .table import Table

_NOTED_KEYS = {NoteCode.GPU_CARDS_DIFFER: "gpu_uuid"}
"""Notes that a difference on this key of the environments already shows."""


@dataclass(frozen=True)
class Environment:
    """`flags` make the result doubtful. `differing` is a table without rows where nothing differs."""

    flags: tuple[str, ...]
    notes: tuple[str, ...]
    differing: Table
    same: tuple[tuple[str, str], ...]

    @property
    def same_table(self) -> Table:
        return Table(("key", "value"), self.same, 2)


def of_experiment(experiment: Experiment) -> Environment:
    """What differs between the first and the last arm, red flags first and what is on purpose last, and what all share."""
    first, last = (terms.arm(role, experiment.arms).short for role in experiment.ends)
    flagged = {item.key for item in experiment.differences if item.red_flag}
    shown = {code for code, key in _NOTED_KEYS.items() if key in flagged}
    flags, notes = _split([note for note in experiment.notes if note.code not in shown])
    differing = [
        f"{item.key}: {scalar(item.key, item.a)} in {first}, {scalar(item.key, item.b)} in {last}: {item.red_flag}"
        for item in experiment.differences
        if item.red_flag
    ]
    rows = [
        (item.key, scalar(item.key, item.a), scalar(item.key, item.b), _remark(item))
        for item in sorted(experiment.differences, key=_order)
    ]
    same = tuple((key, scalar(key, value)) for key, value in sorted(experiment.environment.items()))
    return Environment((*differing, *flags), notes, Table(("key", first, last, ""), tuple(rows), 4), same)


def _split(notes: Sequence[Note]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of the notes that are red flags, and of the others."""
    flags = tuple(note.text for note in notes if note.red_flag)
    return flags, tuple(note.text for note in notes if not note.red_flag)


def _order(item: Difference) -> tuple[bool, bool, str]:
    return not item.red_flag, item.by_design, item.key


def _remark(item: Difference) -> str:
    return "red flag" if item.red_flag else "on purpose" if item.by_design else ""
