# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands do, for the command line and for the collection's modules: from names of files to findings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from . import report
from .assess import assess, assess_sides
from .experiment import Experiment
from .page.nodes import NodeReport
from .pod.words import count
from .readers import has_arms, locate, read, read_arms, read_runs, texts
from .results import REPORT_SCHEMA, InputError, ResultSet
from .roles import split
from .sides import check_sides
from .statistics import MARGIN, PRECISION
from .validity import SETTINGS

PROBLEMS_SHOWN = 20
"""Problems shown for each side."""
_MISSING = "no such file or folder: expected JSON lines of the benchmark."


@dataclass(frozen=True)
class Sides:
    """The two inputs, each a log, a folder or JSON lines, with an arm after "@", and their names in the output.

    `others` are further arms for a report. `partial` accepts a log that was cut. `batch` is the batch size of a log or
    folder that does not record it.
    """

    a: str
    b: str
    label_a: str | None = None
    label_b: str | None = None
    others: Sequence[str] = ()
    partial: bool = False
    batch: int | None = None


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
        raise ValueError(f"{str(value)!r} is not a margin: expected a share above 0 and below 1, such as 0.05")
    return margin


def checked_precision(value: str | float) -> float:
    """A half-width as a share above 0 and below 1.

    :raises ValueError: if it is not; the text says so
    """
    try:
        return checked_margin(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a precision: expected a share above 0 and below 1, such as 0.1") from error


def checked_settings(keys: Iterable[str]) -> tuple[str, ...]:
    """Keys of the environment that may differ.

    :raises ValueError: for an unknown key; the text says so
    """
    found = tuple(keys)
    unknown = [key for key in found if key not in SETTINGS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot be allowed to differ: expected some of {', '.join(SETTINGS)}")
    return found


def read_experiment(
    sources: Sequence[Path],
    *,
    margin: float = MARGIN,
    precision: float = PRECISION,
    allow_different: Sequence[str] = (),
    label: str = "",
) -> Experiment:
    """The experiment of one node in JSON lines: one run with all arms, or the halves before and after a switch.

    :param sources: files, and folders of files
    :param margin: the smallest difference worth a claim, as a share
    :param precision: the half-width that the headline contrasts shall reach, as a share
    :param allow_different: settings that may differ between arms (`validity.SETTINGS`)
    :param label: the node's name, by default its host's
    :raises InputError: with all problems of the values, of the files, and of what they hold
    """
    problems = _value_problems(margin, precision, allow_different)
    problems += [f"{path}: {_MISSING}" for path in sources if not path.exists()]
    existing = [path for path in sources if path.exists()]
    runs: dict[str, dict[str, ResultSet]] = {}
    try:
        runs = read_runs(existing) if existing else {}
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    ordered = dict(sorted(runs.items(), key=lambda run: _begin(run[1].values())))
    return assess(ordered, margin=margin, precision=precision, allow_different=allow_different, label=label)


def report_experiment(
    sources: Sequence[Path],
    target: Target | None,
    *,
    margin: float = MARGIN,
    precision: float = PRECISION,
    allow_different: Sequence[str] = (),
    label: str = "",
    write: bool = True,
) -> Experiment:
    """As `read_experiment`, and with a target writes the report, unless `write` is off.

    :raises InputError: before anything is written, also if the folder is a file; if it cannot be written
    """
    problems = _folder_problems(target.folder if target is not None else None)
    try:
        found = read_experiment(
            sources, margin=margin, precision=precision, allow_different=allow_different, label=label
        )
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    if target is not None and write:
        with _writing():
            report.write(found, _contents(sources), target.folder, target.title, target.made_by)
    return found


def _contents(paths: Iterable[Path]) -> dict[str, bytes]:
    """The text of every file that was read, by name; a name that occurs twice gets its folder's."""
    raw: dict[str, bytes] = {}
    for path in dict.fromkeys(paths):
        for name, text in texts(path).items():
            raw[f"{path.name}/{name}" if name in raw else name] = text.encode()
    return raw


def _begin(arms: Iterable[ResultSet]) -> float:
    """When the first process of a run started, in seconds since 1970; infinity if that was not recorded."""
    starts = [process.started for arm in arms for process in arm.processes if process.started is not None]
    return min(starts, default=math.inf)


def report_sides(
    sides: Sides, margin: float, target: Target | None, allow_different: Sequence[str] = (), *, write: bool = True
) -> Experiment:
    """What B changes against A; with a target also its report, unless `write` is off.

    Arms of one node whose names say what they stand for are compared step by step, with those next to them.

    :raises InputError: with all problems of the values, the folder and the sides, before anything is written
    """
    problems = _value_problems(margin, PRECISION, allow_different)
    problems += _folder_problems(target.folder if target is not None else None)
    try:
        a, b = _read_two(sides)
        others = _read_others(sides, a, b)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    found = assess_sides(a, b, others, margin=margin, allow_different=allow_different)
    if target is not None and write:
        raw = _contents(locate(source)[0] for source in (sides.a, sides.b, *sides.others))
        with _writing():
            report.write(found, raw, target.folder, target.title, target.made_by)
    return found


def _value_problems(margin: float, precision: float, allow_different: Sequence[str]) -> list[str]:
    problems = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: checked_margin(margin),
        lambda: checked_precision(precision),
        lambda: checked_settings(allow_different),
    )
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(f"{error}.")
    return problems


def _folder_problems(folder: Path | None) -> list[str]:
    if folder is None or not folder.exists() or folder.is_dir():
        return []
    return [f"{folder}: is a file: expected a folder for the report. Name another one."]


@contextmanager
def _writing() -> Iterator[None]:
    """:raises InputError: if a file cannot be written"""
    try:
        yield
    except OSError as error:
        raise InputError(
            [f"{error.filename}: cannot be written: {error.strerror}. Name another folder for the report."]
        ) from error


def index_reports(folders: Sequence[Path], folder: Path, title: str, *, write: bool = True) -> Path:
    """One page about the reports of several nodes, in their order, unless `write` is off.

    :param folders: where the reports were written
    :param folder: where the page goes
    :raises InputError: with the problems of all reports, before anything is written; if it cannot be written
    """
    problems = _folder_problems(folder)
    nodes: list[NodeReport] = []
    for own in folders:
        href = quote(os.path.relpath(own / report.PAGE, folder))
        try:
            nodes.append(NodeReport.of_object(json.loads((own / report.OBJECT).read_text(encoding="utf-8")), href))
        except OSError as error:
            problems.append(
                f"{own / report.OBJECT}: cannot be read: {error.strerror}. Write the report of this node first."
            )
        except (KeyError, TypeError, ValueError, IndexError):
            problems.append(
                f"{own / report.OBJECT}: expected a report of schema {REPORT_SCHEMA}. Write the report of this node again."
            )
    if problems:
        raise InputError(problems)
    if write:
        with _writing():
            report.write_index(nodes, folder, title)
    return folder / report.INDEX


def read_sources(sources: Iterable[Path]) -> dict[str, ResultSet]:
    """Every arm of JSON lines, by name.

    :raises InputError: with the problems of all files and folders
    """
    paths = list(sources)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError([f"{path}: {_MISSING}" for path in missing])
    return read_arms(paths)


def _read_two(sides: Sides) -> tuple[ResultSet, ResultSet]:
    """Reads both sides before it raises InputError, so that all problems come at once."""
    problems: list[str] = []
    found: list[ResultSet] = []
    for source, label in ((sides.a, sides.label_a), (sides.b, sides.label_b)):
        try:
            found.append(read(source, label, partial=sides.partial, batch=sides.batch))
        except InputError as error:
            more = len(error.problems) - PROBLEMS_SHOWN
            problems += error.problems[:PROBLEMS_SHOWN]
            problems += [f"{source}: and {count(more, 'more problem')}"] if more > 0 else []
    if problems:
        raise InputError(problems)
    a, b = found
    if a.label == b.label:
        a, b = replace(a, label=f"{a.label} (A)"), replace(b, label=f"{b.label} (B)")
    check_sides(a, b)
    return a, b


def _read_others(asked: Sides, a: ResultSet, b: ResultSet) -> list[ResultSet]:
    """The arms beside A and B: all of their file if both are in one, else those of their groups; and those asked for.

    :raises InputError: with the problems of the files that were asked for
    """
    found: list[ResultSet] = []
    paths = [locate(source)[0] for source in (asked.a, asked.b)]
    one_source = paths[0].resolve() == paths[1].resolve()
    for results, path in [(a, paths[0])] if one_source else zip((a, b), paths):
        if not results.arm or not has_arms(path):
            continue
        used = (a.arm, b.arm) if one_source else (results.arm,)
        for arm, other in read_arms([path]).items():
            group, threads = split(arm)
            if arm not in used and threads and (one_source or group == split(results.arm)[0]):
                found.append(other)
    problems: list[str] = []
    known = {(other.arm, other.run_ids) for other in (a, b, *found)}
    for source in asked.others:
        try:
            other = read(source)
        except InputError as error:
            problems += error.problems
            continue
        if not other.arm:
            problems.append(f"{source}: only JSON lines have arms: expected FILE@ARM for another arm.")
        elif (other.arm, other.run_ids) not in known:
            found.append(other)
    if problems:
        raise InputError(problems)
    return found
