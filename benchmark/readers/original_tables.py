# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of CSV tables that the original benchmark writes, and our `original`: one process, every step in ms."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping

from .. import wording
from ..pod.cells import PRECISIONS, Cell
from ..pod.words import count
from ..results import InputError, Note, NoteCode, Process, ResultSet, Scalar, Timing
from .original_log import END, MODES, parse_environment, parse_failures
from .plausible import LEAST_STEPS, LONGEST_MS, SHORTEST_MS, constant, is_constant, unit_problem

_CSV_NAME = re.compile(r"(?P<device>.+)_(?P<count>\d+)_gpus__(?P<precision>\w+)_model_(?P<mode>\w+)_benchmark\.csv")
_Columns = dict[str, tuple[float, ...]]


def parse_csv_folder(
    files: Mapping[str, str], name: str, label: str, system_info: str | None = None, config: str | None = None
) -> ResultSet:
    """The tables by file name, of one run; columns are models, rows are steps. The batch size is that of config.json.

    Cells that `original` could not time have no column; their status is in its system_info.txt.
    """
    problems: list[str] = []
    columns: dict[Cell, tuple[str, tuple[float, ...]]] = {}
    setups: dict[str, str] = {}
    for file, text in sorted(files.items()):
        place = f"{name}/{file}"
        found = _CSV_NAME.fullmatch(file)
        if found is None or found["precision"] not in PRECISIONS or found["mode"] not in MODES.values():
            problems.append(
                f"{place}: expected a name like 'NVIDIA A100_1_gpus__half_model_train_benchmark.csv' with half, float "
                f"or double, and train or inference. Rename it, or remove it from the folder."
            )
            continue
        setups[f"{found['count']} x {found['device']}"] = found["device"]
        for model, steps in _parse_csv(text, place, problems).items():
            columns[Cell(model, found["precision"], found["mode"])] = (f"{place}: column {model!r}", steps)
    if len(setups) > 1:
        problems.append(
            f"{name}: has results of {len(setups)} setups ({', '.join(sorted(setups))}): expected one. "
            f"Copy the files of each into a separate folder."
        )
    problems += _copied(columns)
    batch = None
    if config is not None:
        try:
            batch, gpus = _batch_and_gpus(config)
        except (ValueError, KeyError, TypeError, RecursionError):
            problems.append(
                f"{name}/config.json: expected a JSON object with BATCH_SIZE and NUM_GPU, as the original writes it. "
                f"Copy the run's own file there, or remove this one."
            )
        else:
            counts = sorted({setup.partition(" x ")[0] for setup in setups})
            if len(counts) == 1 and counts != [str(gpus)]:
                problems.append(
                    f"{name}/config.json: is of a run on {count(gpus, 'GPU')}, the tables are of {counts[0]}: expected those of one "
                    f"run, because the batch grows with the GPUs. Remove it, and give the batch with --batch."
                )
    if problems:
        raise InputError(problems)
    info = system_info or ""
    timings = {**parse_failures(info), **{cell: Timing("ok", steps) for cell, (_place, steps) in columns.items()}}
    environment: dict[str, Scalar] = {"gpu": next(iter(setups.values()), None), **parse_environment(info)}
    return ResultSet(
        label,
        (Process(1, 0, {cell._replace(batch=batch): timing for cell, timing in timings.items()}),),
        environment,
        notes=_notes(name, info, config),
    )


def _notes(name: str, system_info: str, config: str | None) -> tuple[Note, ...]:
    if not system_info:
        return (wording.note(NoteCode.NO_SYSTEM_INFO, name=name),)
    if config is not None and END not in system_info:  # the original without a config.json wrote no end either
        finding = f"{name}: cut, its system_info.txt has no line '{END}': tables or columns may be missing"
        return (wording.note(NoteCode.LOG_INCOMPLETE, finding=finding),)
    return ()


def _batch_and_gpus(config: str) -> tuple[int, int]:
    """:raises KeyError, TypeError, ValueError, RecursionError: if the config is another than the original's"""
    values = json.loads(config)
    size, gpus = values["BATCH_SIZE"], values["NUM_GPU"]
    for value in (size, gpus):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TypeError(value)
    return size, gpus


def _copied(columns: Mapping[Cell, tuple[str, tuple[float, ...]]]) -> list[str]:
    """Columns with the times of another one, in any table: no two cells take the same times."""
    problems = []
    seen: dict[tuple[float, ...], str] = {}
    for place, steps in columns.values():
        if len(steps) < LEAST_STEPS or is_constant(steps):
            continue
        first = seen.setdefault(steps, place)
        if first != place:
            problems.append(
                f"{place}: has the times of {first}: expected times of its own. "
                f"Copy the original's files again, or run it again."
            )
    return problems


def _parse_csv(text: str, place: str, problems: list[str]) -> _Columns:
    """Columns of one CSV file, in ms; adds what is wrong to `problems`."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        problems.append(f"{place}: is no CSV table: {error}. Copy the original's file again.")
        return {}
    if len(rows) < 2:
        problems.append(f"{place}: has no times: expected a header of models and a row per step. Run it again.")
        return {}
    header = [model.strip() for model in rows[0]]
    for model in sorted({m for m in header if header.count(m) > 1}):
        problems.append(f"{place}: column {model!r} twice: expected each model once. Remove one.")
    columns: dict[str, list[float]] = {model: [] for model in header}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            problems.append(
                f"{place}: row {number} has {count(len(row), 'value')}: expected {len(header)}, one per model. "
                f"Remove the row, or run it again."
            )
            continue
        for model, value in zip(header, row):
            step = _number(value)
            if math.isfinite(step):
                columns[model].append(step)
            else:
                problems.append(
                    f"{place}: row {number}, column {model!r}: {value!r} is not a number: expected ms. "
                    f"Remove the column, or run it again."
                )
    for model, values in columns.items():
        wrong = [value for value in values if not SHORTEST_MS <= value <= LONGEST_MS]
        if wrong and (
            problem := unit_problem(f"{place}: column {model!r}, {count(len(wrong), 'value')}, first", wrong[0])
        ):
            problems.append(problem)
        elif is_constant(values):
            problems.append(f"{place}: column {model!r}: {constant(values)}")
    return {model: tuple(values) for model, values in columns.items()}


def _number(text: str) -> float:
    """NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
