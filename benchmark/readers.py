# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of results: our JSON lines, and the logs and CSV folders of ryujaehun/pytorch-gpu-benchmark.

Each parse_* function takes text and returns data; `read`, `read_arms` and `texts` read files. Every reader raises
InputError with all problems that it found, each with the place, the value, what was expected and the remedy.

JSON lines, schema 1 (one object per line, UTF-8, each line ends with a newline; keys not named here are ignored, null
means absent, and lines that begin with # are messages for people):

- all lines: schema (1), kind ("process", "block" or "end"), run_id (text; one for all rounds of an arm), arm (text),
  round (integer from 1; rounds of equal number are compared), process (integer from 0, within round and arm).
- kind "process": env, an object of scalars (gpu, gpu_uuid, driver, cuda, cudnn, torch, host, cpu_count, threads, ...).
- kind "block": model (text), precision (half, float, double), mode (text: train, inference, ...), batch (integer
  from 1), status (ok, oom, skipped), iter_ms (milliseconds of each step in run order; required and not empty for ok).
  Optional: reason (text), control (true for a negative control), order (integer from 0), started (seconds since 1970),
  counters (an object of numbers over the block), and lists as long as iter_ms: data_ms, h2d_ms, enqueue_ms, wait_ms.
- kind "end": status "done". A process without it ended early; its complete blocks count.

The blocks of a cell within one process are joined. Each *-loader cell also yields a *-step cell, h2d + enqueue + wait
of the same steps, which is what the original benchmark times. A last line that is not JSON was cut by the end of the
process; it is ignored with a note.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from . import wording
from .pod.cells import PRECISIONS, RESNETS, Cell
from .results import SCHEMA, Block, InputError, Note, NoteCode, Process, ResultSet, Scalar, Status, Timing

_Read = TypeVar("_Read")

# A step of these networks launches 60 kernels or more at microseconds each: below 0.1 ms the unit cannot be ms.
SHORTEST_MS = 0.1
LONGEST_MS = 1e6

# Counters span the steps and the time between them, so steps cannot take longer, nor almost none of that time.
_WALL_SHARE = (0.01, 1.1)

_FAILED: tuple[Status, ...] = ("oom", "skipped")
_PARTS_KEYS = ("data_ms", "h2d_ms", "enqueue_ms", "wait_ms")
_STEP_PARTS = ("h2d_ms", "enqueue_ms", "wait_ms")
_LOADER, _DERIVED = "-loader", "-step"
_MODES = {"Training": "train", "Inference": "inference"}
_CELL_LINE = re.compile(r"Benchmarking (Training|Inference) (\w+) precision type (\S+)\s*$")
# until 2020 the original printed "resnet18  model average train time :  75.7 ms"
_TIME_LINE = re.compile(r"(?<!\S)(\S+)\s+model average (\S+) time\s*:\s*(\S.*)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_UNIT_LETTERS = string.ascii_letters + "µ"
_MAX_UNPACKED = 256 * 1024**2
"""Bytes that a .gz file may unpack to: the JSON lines of a thousand processes take less."""
_CSV_NAME = re.compile(r"(?P<device>.+)_(?P<count>\d+)_gpus__(?P<precision>\w+)_model_(?P<mode>\w+)_benchmark\.csv")
_ENVIRONMENT = {
    "benchmark start": "started",
    "benchmark end": "ended",
    "Number of GPUs on current device": "gpus_visible",
    "CUDA Version": "cuda",
    "Cudnn Version": "cudnn",
    "Device Name": "gpu",
    "cpu_count": "cpu_count",
    "memory_available": "memory_available",
}


def parse_environment(text: str) -> dict[str, Scalar]:
    """The environment that the original prints in its log or its system_info.txt; absent lines are absent keys."""
    environment: dict[str, Scalar] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon and key.strip() in _ENVIRONMENT:
            environment[_ENVIRONMENT[key.strip()]] = value.strip()
        elif line.startswith("uname_result("):
            for name in ("node", "release"):
                found = re.search(rf"{name}='([^']*)'", line)
                if found:
                    environment[name] = found.group(1)
    return environment


def _unit_problem(place: str, value: float) -> str | None:
    if SHORTEST_MS <= value <= LONGEST_MS:
        return None
    return (
        f"{place}: {value:g} cannot be the milliseconds of a step: expected {SHORTEST_MS:g} to {LONGEST_MS:g}. "
        f"Convert the file to ms, or run the benchmark again."
    )


def parse_log(text: str, name: str, label: str, *, partial: bool = False) -> ResultSet:
    """The original's stdout: one process, one average per cell.

    A log without "benchmark end" is refused with a list of its missing cells, unless `partial` accepts it as it is.
    """
    problems: list[str] = []
    timings: dict[Cell, Timing] = {}
    announced: dict[Cell, int] = {}
    current: Cell | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        place = f"{name}:{number}"
        cut = number == len(lines) and not text.endswith("\n")
        if header := _CELL_LINE.search(line):
            current = Cell(header.group(3), header.group(2), _MODES[header.group(1)])
            announced.setdefault(current, number)
        elif (result := _TIME_LINE.search(line.rstrip())) and not (cut and _split_time(result[3])[1] in ("", "m")):
            problem = _take_time(result, current, place, timings)
            if problem:
                problems.append(problem)
    ended = "benchmark end" in text
    missing = _missing_cells(announced, timings, ended=ended)
    notes: list[Note] = []
    if not announced and not problems:
        problems.append(
            f"{name}: has no line 'Benchmarking ... precision type ...': expected the stdout of the original "
            f"benchmark. Name the file that it was redirected to."
        )
    elif missing or not ended:
        finding = f"{name}: incomplete" if ended else f"{name}: cut, it has no line 'benchmark end'"
        if missing:
            finding += f"; missing cells ({len(missing)}): {_listed(missing)}"
        if partial:
            notes.append(wording.note(NoteCode.LOG_INCOMPLETE, finding=finding))
        else:
            problems.append(f"{finding}. Run it again to its end, or accept it as it is with --partial.")
    if problems:
        raise InputError(problems)
    return ResultSet(label, (Process(1, 0, timings),), parse_environment(text), notes=tuple(notes))


def _take_time(result: re.Match[str], current: Cell | None, place: str, timings: dict[Cell, Timing]) -> str | None:
    """Adds the line's average to `timings`, or returns why it cannot be used."""
    model, mode, time = result.groups()
    number, unit = _split_time(time)
    if unit != "ms" or not _NUMBER.fullmatch(number):
        return (
            f"{place}: time {_short(time)!r} of {model}: expected a number and the unit ms. "
            f"Convert the log to ms, or run the benchmark again."
        )
    value = float(number)
    if current is None or (current.model, current.mode) != (model, mode):
        return (
            f"{place}: time of {model} {mode} follows {f'the line of {current}' if current else 'no cell line'}: "
            f"expected its 'Benchmarking ...' line before it. Use the complete, unsorted log."
        )
    if current in timings:
        return f"{place}: {current} for the second time: expected one run per log. Split the log, one file per run."
    if problem := _unit_problem(f"{place}: {current}", value):
        return problem
    timings[current] = Timing("ok", (value,))
    return None


def _split_time(time: str) -> tuple[str, str]:
    """``("75.7", "ms")`` of ``75.7ms`` and of ``75.7 ms``."""
    number = time.rstrip(_UNIT_LETTERS)
    return number.rstrip(), time[len(number) :]


def _missing_cells(announced: Iterable[Cell], timings: Mapping[Cell, Timing], *, ended: bool) -> list[Cell]:
    """Announced cells without a time and, in a cut log, the cells that its precisions lack of the full matrix."""
    seen = list(announced)
    expected = list(seen)
    if not ended:
        models = list(dict.fromkeys(cell.model for cell in seen))
        if set(models) <= set(RESNETS):
            models = list(RESNETS)
        precisions = list(dict.fromkeys(cell.precision for cell in seen))
        expected += [Cell(m, p, mode) for p in precisions for mode in _MODES.values() for m in models]
    return [cell for cell in dict.fromkeys(expected) if cell not in timings]


def parse_csv_folder(
    files: Mapping[str, str], name: str, label: str, system_info: str | None = None, config: str | None = None
) -> ResultSet:
    """The original's CSV files, by file name: one process, every step in ms; columns are models, rows are steps."""
    problems: list[str] = []
    timings: dict[Cell, Timing] = {}
    setups: dict[str, str] = {}
    for file, text in sorted(files.items()):
        place = f"{name}/{file}"
        found = _CSV_NAME.fullmatch(file)
        if found is None or found["precision"] not in PRECISIONS or found["mode"] not in _MODES.values():
            problems.append(
                f"{place}: expected a name like 'NVIDIA A100_1_gpus__half_model_train_benchmark.csv' with half, float "
                f"or double, and train or inference. Rename it, or remove it from the folder."
            )
            continue
        setups[f"{found['count']} x {found['device']}"] = found["device"]
        for model, values in _parse_csv(text, place, problems).items():
            timings[Cell(model, found["precision"], found["mode"])] = Timing("ok", values)
    if len(setups) > 1:
        problems.append(
            f"{name}: has results of {len(setups)} setups ({', '.join(sorted(setups))}): expected one. "
            f"Copy the files of each into a separate folder."
        )
    environment: dict[str, Scalar] = {"gpu": next(iter(setups.values()), None), **parse_environment(system_info or "")}
    if config is not None:
        try:
            environment["batch"] = _batch_size(config)
        except (ValueError, KeyError, TypeError, RecursionError):
            problems.append(
                f"{name}/config.json: expected a JSON object with BATCH_SIZE, as the original writes it. "
                f"Copy the run's own file there, or remove this one."
            )
    if problems:
        raise InputError(problems)
    notes = () if system_info else (wording.note(NoteCode.NO_SYSTEM_INFO, name=name),)
    return ResultSet(label, (Process(1, 0, timings),), environment, notes=notes)


def _batch_size(config: str) -> int:
    """:raises KeyError, TypeError, ValueError, RecursionError: if the config is another than the original's"""
    size = json.loads(config)["BATCH_SIZE"]
    if not isinstance(size, int):
        raise TypeError(size)
    return size


def _parse_csv(text: str, place: str, problems: list[str]) -> dict[str, tuple[float, ...]]:
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
                f"{place}: row {number} has {len(row)} values: expected {len(header)}, one per model. "
                f"Remove the row, or run it again."
            )
            continue
        for model, value in zip(header, row):
            try:
                step = float(value)
            except ValueError:
                step = math.nan
            if math.isfinite(step):
                columns[model].append(step)
            else:
                problems.append(
                    f"{place}: row {number}, column {model!r}: {value!r} is not a number: expected ms. "
                    f"Remove the column, or run it again."
                )
    for model, values in columns.items():
        wrong = [value for value in values if not SHORTEST_MS <= value <= LONGEST_MS]
        if wrong and (problem := _unit_problem(f"{place}: column {model!r}, {len(wrong)} values, first", wrong[0])):
            problems.append(problem)
    return {model: tuple(values) for model, values in columns.items()}


@dataclass(frozen=True)
class _Rule:
    """What a key must contain, as a text and as a check."""

    expected: str
    holds: Callable[[Any], bool]


def _integer_from(least: int) -> _Rule:
    return _Rule(f"an integer from {least}", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least)


def _one_of(choices: Iterable[str]) -> _Rule:
    names = tuple(choices)
    return _Rule(f"one of {', '.join(names)}", lambda v: v in names)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _is_times(value: Any, least: float) -> bool:
    return isinstance(value, list) and all(_is_number(v) and least <= v <= LONGEST_MS for v in value)


_TEXT = _Rule("text that is not empty", lambda v: isinstance(v, str) and bool(v))
_STEPS = _Rule("a list of ms, each above 0 and up to 1e6", lambda v: _is_times(v, math.ulp(0.0)))
_PARTS = _Rule("a list of ms, each from 0 to 1e6", lambda v: _is_times(v, 0.0))
_ENV = _Rule(
    "an object of texts, numbers, true, false and null",
    lambda v: isinstance(v, dict) and all(x is None or isinstance(x, str | int | float) for x in v.values()),
)
_COUNTERS = _Rule(
    "an object of numbers and null",
    lambda v: isinstance(v, dict) and all(x is None or _is_number(x) for x in v.values()),
)
_EVERY_LINE = {"run_id": _TEXT, "arm": _TEXT, "round": _integer_from(1), "process": _integer_from(0)}
_LINES: dict[str, dict[str, _Rule]] = {
    "process": {**_EVERY_LINE, "env": _ENV},
    "block": {
        **_EVERY_LINE,
        "model": _TEXT,
        "precision": _one_of(PRECISIONS),
        "mode": _TEXT,
        "batch": _integer_from(1),
        "status": _one_of(get_args(Status)),
    },
    "end": {**_EVERY_LINE, "status": _one_of(["done"])},
}
_OPTIONAL = {
    "iter_ms": _STEPS,
    **dict.fromkeys(_PARTS_KEYS, _PARTS),
    "control": _Rule("true or false", lambda v: isinstance(v, bool)),
    "order": _integer_from(0),
    "started": _Rule("seconds since 1970", lambda v: _is_number(v) and v > 0),
    "reason": _Rule("a text", lambda v: isinstance(v, str)),
    "counters": _COUNTERS,
}


@dataclass(frozen=True)
class _Lines:
    """Valid lines of some files; `where` names the files."""

    where: str
    lines: tuple[dict[str, Any], ...]
    notes: tuple[Note, ...]

    def arms(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(line["arm"] for line in self.lines))


def parse_json_lines(files: Mapping[str, str], label: str, arm: str | None = None) -> ResultSet:
    """Our JSON lines, by file name: the arm named `arm`, or the only one. Raises InputError."""
    found = _parse_lines(files)
    arms = found.arms()
    if arm is None and len(arms) > 1:
        listed, where = ", ".join(arms), found.where
        raise InputError([f"{where}: has the arms {listed}: expected one. Name it after an @: {where}@{arms[0]}"])
    return _arm(found, label, arm)


def parse_arms(files: Mapping[str, str]) -> dict[str, ResultSet]:
    """Every arm of our JSON lines, by name, in order of appearance, each labelled with its name. Raises InputError."""
    found = _parse_lines(files)
    if not found.arms():
        _arm(found, "", None)
    return {arm: _arm(found, arm, arm) for arm in found.arms()}


def _parse_lines(files: Mapping[str, str]) -> _Lines:
    problems: list[str] = []
    notes: list[Note] = []
    lines: list[dict[str, Any]] = []
    for name, text in sorted(files.items()):
        rows = text.split("\n")
        if not any(row.startswith("{") for row in rows) and any(map(_CELL_LINE.search, rows)):
            problems.append(
                f"{name}: is a log of the original benchmark: expected JSON lines, one object per line. "
                f"Give two logs to `compare`, or name a .jsonl file."
            )
            continue
        for number, row in enumerate(rows, 1):
            if not row.strip() or row.startswith("#"):
                continue
            place = f"{name}:{number}"
            try:
                line = json.loads(row)
            except (ValueError, RecursionError):
                if number == len(rows):
                    notes.append(wording.note(NoteCode.LAST_LINE_CUT, place=place))
                else:
                    problems.append(f"{place}: {_short(row)} is not JSON: expected one object per line. Remove it.")
                continue
            found = _line_problems(line)
            problems += [f"{place}: {problem}" for problem in found]
            if not found:
                lines.append({key: value for key, value in line.items() if value is not None})
    if problems:
        raise InputError(problems)
    return _Lines(", ".join(sorted(files)), tuple(lines), tuple(notes))


def _arm(found: _Lines, label: str, arm: str | None) -> ResultSet:
    """One arm, which must come from one run and one model of GPU; None means the only arm."""
    lines = [line for line in found.lines if arm is None or line["arm"] == arm]
    where, arms = found.where, found.arms()
    if not any(line["kind"] == "block" for line in lines):
        wanted = f"of arm {arm!r} (it has {', '.join(arms) or 'none'})" if arm else "at all"
        raise InputError([f"{where}: has no block {wanted}: expected lines of kind block. Name another arm or file."])
    problems = []
    runs = sorted({line["run_id"] for line in lines})
    of_arm = f"arm {arm} of " if len(arms) > 1 else ""
    if len(runs) > 1:
        problems.append(
            f"{where}: has {of_arm}the runs {', '.join(runs)}: expected one, because rounds are numbered by run. "
            f"Name its file."
        )
    gpus = _environment_values(lines).get("gpu", {})
    if len(gpus) > 1:
        problems.append(
            f"{where}: has {of_arm}results of {len(gpus)} GPU models ({', '.join(sorted(gpus))}): expected one. "
            f"Copy the files of each into a separate folder."
        )
    if problems:
        raise InputError(problems)
    return _assemble(lines, label, list(found.notes))


def _line_problems(line: Any) -> list[str]:
    """All reasons why a parsed line does not follow the schema."""
    if not isinstance(line, dict) or line.get("schema") != SCHEMA or line.get("kind") not in tuple(_LINES):
        return [
            f"{_short(json.dumps(line))}: expected an object with schema {SCHEMA} and kind process, block or end. "
            f"Read it with the version that wrote it, or remove it."
        ]
    problems = []
    for key, rule in _LINES[line["kind"]].items():
        if key not in line:
            problems.append(f"{key} is missing: expected {rule.expected}. Add it, or remove the line.")
        elif not rule.holds(line[key]):
            problems.append(_expected(key, line[key], rule))
    if line["kind"] == "block":
        present = {key: rule for key, rule in _OPTIONAL.items() if line.get(key) is not None}
        problems += [_expected(key, line[key], rule) for key, rule in present.items() if not rule.holds(line[key])]
        if line.get("status") == "ok" and not line.get("iter_ms"):
            problems.append("iter_ms is missing or empty: expected ms for status ok. Set the status to skipped.")
        if not problems and line["status"] == "ok":
            problems += [
                f"{key} has {len(line[key])} values: expected {len(line['iter_ms'])}, as iter_ms has. Remove {key}."
                for key in _PARTS_KEYS
                if line.get(key) is not None and len(line[key]) != len(line["iter_ms"])
            ]
            problems += _unit_problems(line["iter_ms"], (line.get("counters") or {}).get("wall_ms"))
    return problems


def _unit_problems(steps: list[float], wall_ms: float | None) -> list[str]:
    """Steps that cannot be ms: too short for any network, or inconsistent with the block's wall-clock time."""
    remedy = "Convert the file to ms, or run the benchmark again."
    mean, total = math.fsum(steps) / len(steps), math.fsum(steps)
    if mean < SHORTEST_MS:
        return [f"iter_ms is {mean:g} on average: milliseconds of a step are {SHORTEST_MS:g} or more. {remedy}"]
    if wall_ms and not _WALL_SHARE[0] <= total / wall_ms <= _WALL_SHARE[1]:
        return [f"iter_ms adds up to {total:g} in a block of wall_ms {wall_ms:g}: expected the same unit, ms. {remedy}"]
    return []


def _expected(key: str, value: Any, rule: _Rule) -> str:
    return f"{key} is {_short(json.dumps(value))}: expected {rule.expected}. Correct it, or remove the line."


def _assemble(lines: list[dict[str, Any]], label: str, notes: list[Note]) -> ResultSet:
    """Processes from valid lines of one arm. A key on which their environments differ keeps all its values."""
    blocks: dict[tuple[int, int], dict[Cell, list[dict[str, Any]]]] = {}
    for line in lines:
        if line["kind"] == "block":
            cell = Cell(line["model"], line["precision"], line["mode"], line["batch"])
            process = blocks.setdefault((line["round"], line["process"]), {})
            process.setdefault(cell, []).append(line)
    processes = tuple(
        Process(round_, index, _timings(cells))
        for (round_, index), cells in sorted(blocks.items(), key=lambda item: item[0])
    )
    environment: dict[str, Scalar] = {}
    for key, values in _environment_values(lines).items():
        first = next(iter(values.values()))
        environment[key] = first if len(values) == 1 or key == "started" else ", ".join(values)
    arm = lines[0]["arm"]
    cards = environment.get("gpu_uuid")
    if isinstance(cards, str) and ", " in cards:
        notes.append(wording.note(NoteCode.SEVERAL_GPU_CARDS, arm=arm, cards=cards))
    started = {(line["round"], line["process"]) for line in lines if line["kind"] == "process"}
    early = len(started - {(line["round"], line["process"]) for line in lines if line["kind"] == "end"})
    if early:
        notes.append(wording.note(NoteCode.PROCESSES_ENDED_EARLY, arm=arm, ended=early, started=len(started)))
    return ResultSet(label, processes, environment, frozenset(line["run_id"] for line in lines), tuple(notes), arm)


def _environment_values(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Scalar]]:
    """The different values of each environment key, by their text, in order of appearance."""
    found: dict[str, dict[str, Scalar]] = {}
    for line in lines:
        if line["kind"] == "process":
            for key, value in line["env"].items():
                found.setdefault(key, {})[str(value)] = value
    return found


def _timings(cells: Mapping[Cell, list[dict[str, Any]]]) -> dict[Cell, Timing]:
    """One process's cells, and those derived from them."""
    timings = {}
    for cell, blocks in cells.items():
        timings[cell] = _join(blocks)
        if cell.mode.endswith(_LOADER):
            derived = [step for step in map(_as_the_original, blocks) if step is not None]
            if derived:
                mode = cell.mode.removesuffix(_LOADER) + _DERIVED
                timings[cell._replace(mode=mode)] = replace(_join(derived), control=False, derived=True)
    return timings


def _as_the_original(block: dict[str, Any]) -> dict[str, Any] | None:
    """The block without the time that its steps waited for data; None if it was not recorded."""
    if block["status"] != "ok":
        return block
    if not all(key in block for key in _STEP_PARTS):
        return None
    steps = [math.fsum(parts) for parts in zip(*(block[key] for key in _STEP_PARTS))]
    return {**block, "iter_ms": steps, "data_ms": [0.0] * len(steps)} if min(steps) > 0 else None


def _join(blocks: list[dict[str, Any]]) -> Timing:
    """One process's blocks of one cell. A block that failed makes the cell fail."""
    control = any(block.get("control", False) for block in blocks)
    for failed in _FAILED:
        reasons = [block.get("reason", "") for block in blocks if block["status"] == failed]
        if reasons:
            return Timing(failed, control=control, reason=reasons[0])
    split = [block for block in blocks if "enqueue_ms" in block and "wait_ms" in block]
    return Timing(
        "ok",
        tuple(float(step) for block in blocks for step in block["iter_ms"]),
        enqueue_ms=math.fsum(step for block in split for step in block["enqueue_ms"]),
        wait_ms=math.fsum(step for block in split for step in block["wait_ms"]),
        control=control,
        blocks=tuple(
            Block(
                tuple(map(float, block["iter_ms"])),
                block.get("started"),
                {key.removesuffix("_ms"): math.fsum(block[key]) for key in _PARTS_KEYS if key in block},
                {key: value for key, value in block.get("counters", {}).items() if value is not None},
            )
            for block in blocks
        ),
    )


def read(argument: str, label: str | None = None, *, partial: bool = False) -> ResultSet:
    """Reads a log, a CSV folder, a JSON lines file or a folder of them; FILE@ARM names one arm of JSON lines.

    :param label: name of the side, None for the arm or the file's name
    :param partial: accept a log that was cut
    :raises InputError: with all problems of the input
    """
    path, arm = locate(argument)
    result = _guarded(
        lambda: _read_folder(path, label, arm) if path.is_dir() else _read_file(path, label, arm, partial)
    )
    if arm is not None and not result.run_ids:
        raise InputError([f"{argument}: only JSON lines have arms: expected a .jsonl file. Omit @{arm}."])
    return result


def read_arms(paths: Iterable[Path]) -> dict[str, ResultSet]:
    """Every arm in the JSON lines of these files and folders, by name. Raises InputError."""
    return parse_arms(_guarded(lambda: _json_lines(paths)))


def has_arms(path: Path) -> bool:
    """Whether `path` has our JSON lines, rather than output of the original benchmark."""
    if path.is_dir():
        return bool(_line_files(path))
    return _guarded(lambda: _is_json_lines(path, _text(path)))


def locate(argument: str) -> tuple[Path, str | None]:
    """The file or folder that FILE or FILE@ARM names, and the arm. Raises InputError if it does not exist."""
    path, arm = Path(argument), None
    if not path.exists() and "@" in argument:
        before, _at, after = argument.rpartition("@")
        if Path(before).exists():
            path, arm = Path(before), after
    if not path.exists():
        raise InputError([f"{argument}: no such file or folder: expected a log, a CSV folder or JSON lines."])
    return path, arm


def texts(path: Path) -> dict[str, str]:
    """The text of every file that `read` reads from `path`, by file name."""
    if path.is_file():
        files = [path]
    else:
        names = ("system_info.txt", "config.json")
        files = [*(_line_files(path) or sorted(path.glob("*_benchmark.csv"))), *map(path.joinpath, names)]
    return _guarded(lambda: {file.name.removesuffix(".gz"): _text(file) for file in files if file.exists()})


def _guarded(reading: Callable[[], _Read]) -> _Read:
    try:
        return reading()
    except OSError as error:
        raise InputError([f"{error.filename}: cannot be read: {error.strerror}. Correct its permissions."]) from error


def _line_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])


def _json_lines(paths: Iterable[Path]) -> dict[str, str]:
    files: dict[str, str] = {}
    problems = []
    for path in paths:
        found = _line_files(path) if path.is_dir() else [path]
        if not found:
            problems.append(f"{path}: contains {_contents(path)}: expected *.jsonl. Name the run's folder.")
        files |= {str(file): _text(file) for file in found}
    if problems:
        raise InputError(problems)
    return files


def _contents(folder: Path) -> str:
    return ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"


def _read_folder(path: Path, label: str | None, arm: str | None) -> ResultSet:
    lines = _line_files(path)
    tables = sorted(path.glob("*_benchmark.csv"))
    if lines and tables:
        raise InputError(
            [f"{path}: has *.jsonl and *_benchmark.csv: expected one kind. Name the .jsonl file, or split the folder."]
        )
    if lines:
        return parse_json_lines(_json_lines([path]), label or arm or path.name, arm)
    if not tables:
        raise InputError(
            [
                f"{path}: contains {_contents(path)}: expected *_benchmark.csv of the original or *.jsonl. "
                f"Name the run's folder."
            ]
        )
    info, config = path / "system_info.txt", path / "config.json"
    return parse_csv_folder(
        {file.name: _text(file) for file in tables},
        str(path),
        label or path.name,
        _text(info) if info.exists() else None,
        _text(config) if config.exists() else None,
    )


def _read_file(path: Path, label: str | None, arm: str | None, partial: bool) -> ResultSet:
    text = _text(path)
    if not text.strip():
        raise InputError([f"{path}: is empty: expected a log or JSON lines. Run the benchmark again."])
    if path.suffix == ".csv":
        raise InputError([f"{path}: is one table of a run: expected its folder. Name {path.parent}."])
    if _is_json_lines(path, text):
        return parse_json_lines({str(path): text}, label or arm or path.name.partition(".jsonl")[0], arm)
    return parse_log(text, str(path), label or path.stem, partial=partial)


def _is_json_lines(path: Path, text: str) -> bool:
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return path.name.endswith((".jsonl", ".jsonl.gz")) or next(lines, "").lstrip().startswith("{")


def _text(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = _unpacked(path, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            [f"{path}: byte {error.start} is not UTF-8: expected text. Convert it, or name the right file."]
        ) from error


def _unpacked(path: Path, content: bytes) -> bytes:
    """All members of a gzip file; of one that was cut, as much as it contains."""
    unpacked = []
    left = _MAX_UNPACKED
    try:
        while content:
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            unpacked.append(member.decompress(content, left + 1))
            left -= len(unpacked[-1])
            if left < 0:
                raise InputError(
                    [
                        f"{path}: unpacks to more than {_MAX_UNPACKED} bytes: expected the results of one run. "
                        f"Unpack and split it, or name the right file."
                    ]
                )
            content = member.unused_data
    except zlib.error as error:
        raise InputError(
            [f"{path}: is not a gzip file ({error}): expected one. Copy it again, or unpack it."]
        ) from error
    return b"".join(unpacked)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(cells: list[Cell]) -> str:
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.precision} {cell.mode}", []).append(cell.model)
    return "; ".join(f"{group}: {', '.join(models)}" for group, models in groups.items())
