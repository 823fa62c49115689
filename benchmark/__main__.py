# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate benchmark runs: `compare` two of them, `report` on them, or print a `summary` of each.

Exit code 0: done, whatever the verdict; 1: `report --fail-unless` is not met; 2: bad input, with all problems.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark import report, summary
from benchmark.analyse import analyse
from benchmark.analysis import Comparison, Verdict
from benchmark.compare import MARGIN, compare
from benchmark.factors import split
from benchmark.readers import has_arms, locate, read, read_arms, texts
from benchmark.render import to_object, to_text
from benchmark.results import InputError, ResultSet

DONE, NOT_MET, BAD_INPUT = 0, 1, 2
PROBLEMS_SHOWN = 20
"""Problems shown for each side."""


def _margin(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a margin: expected a share above 0 and below 1, such as 0.03"
        )
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    two = argparse.ArgumentParser(add_help=False)
    inputs = "the original's log, its folder of CSV files, or JSON lines (a file, a folder, or either with @ARM)"
    two.add_argument("a", metavar="A", help=inputs)
    two.add_argument("b", metavar="B", help="the same for the other side")
    two.add_argument("--label-a", help="name of A in the output")
    two.add_argument("--label-b", help="name of B in the output")
    two.add_argument(
        "--margin", type=_margin, default=MARGIN, help="smallest difference worth a claim (default: %(default)s)"
    )
    two.add_argument("--partial", action="store_true", help="accept a log that was cut")

    command = commands.add_parser("compare", parents=[two], help="compare B (after) with A (before)")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser(
        "report", parents=[two], help="compare and explain, as HTML, Markdown, JSON and one line"
    )
    command.add_argument(
        "--with",
        metavar="FILE@ARM",
        dest="others",
        action="append",
        default=[],
        help="another arm that helps to explain the gap",
    )
    command.add_argument("--title", default="Benchmark: before and after", help="default: %(default)s")
    command.add_argument("--command", dest="made_by", default="", help="how the runs were made, for the report")
    command.add_argument(
        "--output", type=Path, default=Path("report"), help="folder for the report (default: %(default)s)"
    )
    printed = command.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print report.json")
    printed.add_argument("--line", action="store_true", help="print the line only, not the names of the files")
    command.add_argument("--fail-unless", choices=sorted(POLICIES), default="none", help="default: %(default)s")

    command = commands.add_parser("summary", help="what each arm of JSON lines measured")
    command.add_argument("sources", metavar="FILE_OR_FOLDER", nargs="+", type=Path)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def not_worse(comparison: Comparison) -> bool:
    """Whether the lower end of the interval proves that B is at most the margin slower than A."""
    family = comparison.family
    return (
        comparison.verdict is not Verdict.INVALID
        and family is not None
        and family.low is not None
        and math.log(family.low) > -math.log1p(comparison.margin)
    )


POLICIES: Mapping[str, Callable[[Comparison], bool]] = {
    "beats": lambda comparison: comparison.verdict is Verdict.BEATS,
    "not-worse": not_worse,
    "none": lambda comparison: True,
}


def _distinct_labels(a: ResultSet, b: ResultSet) -> tuple[ResultSet, ResultSet]:
    if a.label != b.label:
        return a, b
    return replace(a, label=f"{a.label} (A)"), replace(b, label=f"{b.label} (B)")


def _read_two(options: argparse.Namespace) -> tuple[ResultSet, ResultSet]:
    """Reads both sides before it raises InputError, so that all problems come at once."""
    sides: list[ResultSet] = []
    problems: list[str] = []
    for source, label in ((options.a, options.label_a), (options.b, options.label_b)):
        try:
            sides.append(read(source, label, partial=options.partial))
        except InputError as error:
            more = len(error.problems) - PROBLEMS_SHOWN
            problems += error.problems[:PROBLEMS_SHOWN]
            problems += [f"{source}: and {more} more problems"] if more > 0 else []
    if problems:
        raise InputError(problems)
    return _distinct_labels(*sides)


@dataclass(frozen=True)
class _Arms:
    """The arms of a report by name, the names of A and B, and the contents of their files by name."""

    sides: Mapping[str, ResultSet]
    a: str
    b: str
    raw: Mapping[str, bytes]


def _read_arms(options: argparse.Namespace) -> _Arms:
    """A and B with other arms: all those of A's file if B is in it too, else those that differ in threads only."""
    a, b = _read_two(options)
    paths = {side: locate(source)[0] for side, source in (("a", options.a), ("b", options.b))}
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
    problems = []
    for source in options.others:
        try:
            other = read(source)
        except InputError as error:
            problems += error.problems
            continue
        if not other.arm:
            problems.append(f"{source}: only JSON lines have arms: expected FILE@ARM after --with.")
        else:
            sides.setdefault(other.arm, other)
    if problems:
        raise InputError(problems)
    raw: dict[str, bytes] = {}
    for path in dict.fromkeys([*paths.values(), *(locate(source)[0] for source in options.others)]):
        for name, text in texts(path).items():
            raw[f"{path.name}/{name}" if name in raw else name] = text.encode()
    return _Arms(sides, name_a, name_b, raw)


def _compare(options: argparse.Namespace) -> int:
    result = compare(*_read_two(options), margin=options.margin)
    print(json.dumps(to_object(result), indent=2, allow_nan=False) if options.json else to_text(result))
    return DONE


def _report(options: argparse.Namespace) -> int:
    if options.output.exists() and not options.output.is_dir():
        raise InputError([f"{options.output}: is a file: expected a folder. Name another with --output."])
    arms = _read_arms(options)
    analysis = analyse(arms.sides, arms.a, arms.b, options.margin)
    try:
        written = report.write(analysis, arms.raw, options.output, options.title, options.made_by)
    except OSError as error:
        raise InputError(
            [f"{error.filename}: cannot be written: {error.strerror}. Name a folder with --output."]
        ) from error
    if options.json:
        print((options.output / "report.json").read_text(encoding="utf-8").rstrip())
    else:
        print(report.line(analysis))
    if not options.json and not options.line:
        for path in written:
            print(path)
    if POLICIES[options.fail_unless](analysis.comparison):
        return DONE
    print(f"benchmark: {analysis.comparison.verdict}: --fail-unless {options.fail_unless} is not met.", file=sys.stderr)
    return NOT_MET


def _summary(options: argparse.Namespace) -> int:
    missing = [path for path in options.sources if not path.exists()]
    if missing:
        raise InputError([f"{path}: no such file or folder: expected JSON lines of the benchmark." for path in missing])
    arms = read_arms(options.sources)
    result = json.dumps(summary.summarise(arms), indent=2, allow_nan=False) if options.json else summary.to_text(arms)
    print(result)
    return DONE


_COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "compare": (_compare, "nothing was compared"),
    "report": (_report, "no report was written"),
    "summary": (_summary, "nothing was summarised"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = _parser().parse_args(arguments)
    run, nothing = _COMMANDS[options.command]
    try:
        return run(options)
    except InputError as error:
        count = "1 problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
        print(f"benchmark: {nothing}. {count}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may stop early
    sys.exit(main())
