# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the files of a benchmark run, whatever their format."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..results import InputError, ResultSet
from .json_lines import parse_arms, parse_json_lines, parse_runs
from .original_log import parse_log
from .original_tables import parse_csv_folder

_Read = TypeVar("_Read")

_MAX_UNPACKED = 256 * 1024**2
"""Bytes that a .gz file may unpack to: the JSON lines of a thousand processes take less."""


def read(argument: str, label: str | None = None, *, partial: bool = False, batch: int | None = None) -> ResultSet:
    """Reads a log, a CSV folder, a JSON lines file or a folder of them; FILE@ARM names one arm of JSON lines.

    :param label: name of the side, None for the arm or the file's name
    :param partial: accept a log that was cut
    :param batch: the batch size of a log or folder that does not record it
    :raises InputError: with all problems of the input
    """
    path, arm = locate(argument)
    result = _guarded(
        lambda: _read_folder(path, label, arm) if path.is_dir() else _read_file(path, label, arm, partial)
    )
    if arm is not None and not result.run_ids:
        raise InputError([f"{argument}: only JSON lines have arms: expected a .jsonl file. Omit @{arm}."])
    return result if batch is None else _with_batch(result, batch)


def _with_batch(result: ResultSet, batch: int) -> ResultSet:
    processes = (
        replace(
            process,
            timings={
                cell._replace(batch=batch) if cell.batch is None else cell: timing
                for cell, timing in process.timings.items()
            },
        )
        for process in result.processes
    )
    return replace(result, processes=tuple(processes))


def read_arms(paths: Iterable[Path]) -> dict[str, ResultSet]:
    """Every arm in the JSON lines of these files and folders, by name. Raises InputError."""
    return parse_arms(_guarded(lambda: _json_lines(paths)))


def read_runs(paths: Iterable[Path]) -> dict[str, dict[str, ResultSet]]:
    """Every arm of each run in the JSON lines of these files and folders: run -> arm -> results. Raises InputError."""
    return parse_runs(_guarded(lambda: _json_lines(paths)))


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
