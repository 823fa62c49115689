# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands do, for the command line and for the collection's modules: from names of files to findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import report
from .analyse import analyse
from .analysis import Analysis, Comparison
from .compare import compare
from .factors import split
from .readers import has_arms, locate, read, read_arms, texts
from .results import InputError, ResultSet

PROBLEMS_SHOWN = 20
"""Problems shown for each side."""


@dataclass(frozen=True)
class Sides:
    """The two inputs, each a log, a folder or JSON lines, with an arm after "@", and their names in the output.

    `others` are further arms for a report. `partial` accepts a log that was cut.
    """

    a: str
    b: str
    label_a: str | None = None
    label_b: str | None = None
    others: Sequence[str] = ()
    partial: bool = False


@dataclass(frozen=True)
class Target:
    """Where a report goes, its title, and how its runs were made."""

    folder: Path
    title: str
    made_by: str = ""

    def files(self) -> list[Path]:
        """The files of the report."""
        return [self.folder / name for name in report.FILES]


def checked_margin(value: str | float) -> float:
    """A share above 0 and below 1.

    :raises ValueError: if it is not; the text says so
    """
    try:
        margin = float(value)
    except ValueError:
        margin = 0.0
    if not 0 < margin < 1:
        raise ValueError(f"{str(value)!r} is not a margin: expected a share above 0 and below 1, such as 0.03")
    return margin


def compare_sides(sides: Sides, margin: float) -> Comparison:
    """The verdict and the gradient, without causes.

    :raises InputError: with the problems of both sides
    """
    return compare(*_read_two(sides), margin=margin)


def analyse_sides(sides: Sides, margin: float, target: Target, *, write: bool = True) -> Analysis:
    """The whole analysis; with `write` also its report.

    :raises InputError: with all problems of the margin, the folder and the sides, before anything is written
    """
    problems: list[str] = []
    try:
        checked_margin(margin)
    except ValueError as error:
        problems.append(f"{error}.")
    if target.folder.exists() and not target.folder.is_dir():
        problems.append(f"{target.folder}: is a file: expected a folder for the report. Name another one.")
    try:
        arms = _read_arms(sides)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    analysis = analyse(arms.sides, arms.a, arms.b, margin)
    if write:
        try:
            report.write(analysis, arms.raw, target.folder, target.title, target.made_by)
        except OSError as error:
            raise InputError(
                [f"{error.filename}: cannot be written: {error.strerror}. Name another folder for the report."]
            ) from error
    return analysis


def read_sources(sources: Iterable[Path]) -> dict[str, ResultSet]:
    """Every arm of JSON lines, by name.

    :raises InputError: with the problems of all files and folders
    """
    paths = list(sources)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError([f"{path}: no such file or folder: expected JSON lines of the benchmark." for path in missing])
    return read_arms(paths)


def _read_two(sides: Sides) -> tuple[ResultSet, ResultSet]:
    """Reads both sides before it raises InputError, so that all problems come at once."""
    problems: list[str] = []
    found: list[ResultSet] = []
    for source, label in ((sides.a, sides.label_a), (sides.b, sides.label_b)):
        try:
            found.append(read(source, label, partial=sides.partial))
        except InputError as error:
            more = len(error.problems) - PROBLEMS_SHOWN
            problems += error.problems[:PROBLEMS_SHOWN]
            problems += [f"{source}: and {more} more problems"] if more > 0 else []
    if problems:
        raise InputError(problems)
    a, b = found
    if a.label != b.label:
        return a, b
    return replace(a, label=f"{a.label} (A)"), replace(b, label=f"{b.label} (B)")


@dataclass(frozen=True)
class _Arms:
    """The arms of a report by name, the names of A and B, and the contents of their files by name."""

    sides: Mapping[str, ResultSet]
    a: str
    b: str
    raw: Mapping[str, bytes]


def _read_arms(asked: Sides) -> _Arms:
    """A and B with other arms: all those of A's file if B is in it too, else those that differ in threads only."""
    a, b = _read_two(asked)
    paths = {side: locate(source)[0] for side, source in (("a", asked.a), ("b", asked.b))}
    same_name = not a.arm or not b.arm or a.arm == b.arm
    name_a, name_b = (a.label, b.label) if same_name else (a.arm, b.arm)
    if same_name and a.arm:
        threads = split(a.arm)[1]
        name_a, name_b = (f"{label}-{threads}" if threads else label for label in (a.label, b.label))
    sides = {name_a: a, name_b: b}
    one_source = paths["a"].resolve() == paths["b"].resolve()
    for side, results, name in (("a", a, name_a), ("b", b, name_b)):
        if not results.arm or not has_arms(paths[side]):
            continue
        for arm, other in read_arms([paths[side]]).items():
            group, threads = split(arm)
            if arm == results.arm or not threads or not (one_source or group == split(results.arm)[0]):
                continue
            key = arm if not same_name else f"{split(name)[0]}-{threads}"
            sides.setdefault(key, replace(other, label=key))
    problems: list[str] = []
    for source in asked.others:
        try:
            other = read(source)
        except InputError as error:
            problems += error.problems
            continue
        if not other.arm:
            problems.append(f"{source}: only JSON lines have arms: expected FILE@ARM for another arm.")
        else:
            sides.setdefault(other.arm, other)
    if problems:
        raise InputError(problems)
    raw: dict[str, bytes] = {}
    for path in dict.fromkeys([*paths.values(), *(locate(source)[0] for source in asked.others)]):
        for name, text in texts(path).items():
            raw[f"{path.name}/{name}" if name in raw else name] = text.encode()
    return _Arms(sides, name_a, name_b, raw)
