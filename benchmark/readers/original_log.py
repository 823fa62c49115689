# SPDX-License-Identifier: GPL-3.0-or-later
"""The stdout of the original benchmark, and of our `original`: one process, one average per cell."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping

from .. import wording
from ..pod.cells import RESNETS, Cell
from ..pod.original_lines import BATCH, FAILURES
from ..results import InputError, Note, NoteCode, Process, ResultSet, Scalar, Status, Timing
from .plausible import short, unit_problem

MODES = {"Training": "train", "Inference": "inference"}
"""Our names of the original's modes."""
END = "benchmark end"

_START = "benchmark start"
_CELL_LINE = re.compile(r"Benchmarking (Training|Inference) (\w+) precision type (\S+)\s*$")
# until 2020 the original printed "resnet18  model average train time :  75.7 ms"
_TIME_LINE = re.compile(r"(?<!\S)(\S+)\s+model average (\S+) time\s*:\s*(\S.*)")
_STATUSES: Mapping[str, Status] = {FAILURES["oom"]: "oom", FAILURES["skipped"]: "skipped"}
_FAILURE_LINE = re.compile(rf"(?<!\S)(\S+) (\w+) (train|inference): ({'|'.join(_STATUSES)}), left out: ?(.*)")
_BATCH_LINE = re.compile(rf"{BATCH} : ([1-9]\d{{0,8}})\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_UNIT_LETTERS = string.ascii_letters + "µ"
_ENVIRONMENT = {
    _START: "started",
    END: "ended",
    "Number of GPUs on current device": "gpus_visible",
    "CUDA Version": "cuda",
    "Cudnn Version": "cudnn",
    "Device Name": "gpu",
    "cpu_count": "cpu_count",
    "memory_available": "memory_available",
}


def is_log(text: str) -> bool:
    """Whether any line announces a cell."""
    return any(map(_CELL_LINE.search, text.splitlines()))


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


def parse_failures(text: str) -> dict[Cell, Timing]:
    """The cells that `original` could not time, from its log or its system_info.txt; the batch is not in the lines."""
    found = {}
    for line in text.splitlines():
        if failure := _FAILURE_LINE.search(line.rstrip()):
            model, precision, mode, what, reason = failure.groups()
            found[Cell(model, precision, mode)] = Timing(_STATUSES[what], reason=reason)
    return found


def parse_log(text: str, name: str, label: str, *, partial: bool = False) -> ResultSet:
    """The log of one run. The original does not print its batch size, our `original` does.

    A log without "benchmark end" is refused with a list of its missing cells, unless `partial` accepts it as it is.
    A cell that our `original` could not time counts as told, not as missing.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines, 1) if line.startswith(_START)]
    if len(starts) > 1:
        raise InputError(
            [
                f"{name}:{starts[1]}: has a second line '{_START}', the first in line {starts[0]}: expected one run per "
                f"log (test.sh makes a run for each number of GPUs). Split the log there, one file per run."
            ]
        )
    problems: list[str] = []
    timings: dict[Cell, Timing] = {}
    announced: dict[Cell, int] = {}
    current: Cell | None = None
    for number, line in enumerate(lines, 1):
        place = f"{name}:{number}"
        cut = number == len(lines) and not text.endswith("\n")
        if header := _CELL_LINE.search(line):
            current = Cell(header.group(3), header.group(2), MODES[header.group(1)])
            announced.setdefault(current, number)
        elif (result := _TIME_LINE.search(line.rstrip())) and not (cut and _split_time(result[3])[1] in ("", "m")):
            problem = _take_time(result, current, place, timings)
            if problem:
                problems.append(problem)
    timings = {**parse_failures(text), **timings}
    ended = END in text
    missing = _missing_cells(announced, timings, ended=ended)
    notes: list[Note] = []
    if not announced and not problems:
        problems.append(
            f"{name}: has no line 'Benchmarking ... precision type ...': expected the stdout of the original "
            f"benchmark. Name the file that it was redirected to."
        )
    elif missing or not ended:
        finding = f"{name}: incomplete" if ended else f"{name}: cut, it has no line '{END}'"
        if missing:
            finding += f"; missing cells ({len(missing)}): {_listed(missing)}"
        if partial:
            notes.append(wording.note(NoteCode.LOG_INCOMPLETE, finding=finding))
        else:
            problems.append(f"{finding}. Run it again to its end, or accept it as it is with --partial.")
    if problems:
        raise InputError(problems)
    batch = next((int(found[1]) for found in map(_BATCH_LINE.fullmatch, lines) if found), None)
    sized = {cell._replace(batch=batch): timing for cell, timing in timings.items()}
    return ResultSet(label, (Process(1, 0, sized),), parse_environment(text), notes=tuple(notes))


def _take_time(result: re.Match[str], current: Cell | None, place: str, timings: dict[Cell, Timing]) -> str | None:
    """Adds the line's average to `timings`, or returns why it cannot be used."""
    model, mode, time = result.groups()
    number, unit = _split_time(time)
    if unit != "ms" or not _NUMBER.fullmatch(number):
        return (
            f"{place}: time {short(time)!r} of {model}: expected a number and the unit ms. "
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
    if problem := unit_problem(f"{place}: {current}", value):
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
        expected += [Cell(m, p, mode) for p in precisions for mode in MODES.values() for m in models]
    return [cell for cell in dict.fromkeys(expected) if cell not in timings]


def _listed(cells: list[Cell]) -> str:
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.precision} {cell.mode}", []).append(cell.model)
    return "; ".join(f"{group}: {', '.join(models)}" for group, models in groups.items())
