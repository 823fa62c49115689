# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate benchmark runs: `report` on an experiment, `compare` two sides, print a `summary`, or `simulate` the method.

Exit code 0: done, whatever the verdict; 1: `report --fail-unless` is not met; 2: bad input, with all problems.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import report, simulate, summary
from .analysis import Verdict
from .evaluate import (
    Sides,
    Target,
    checked_margin,
    checked_precision,
    read_sources,
    report_experiment,
    report_sides,
)
from .experiment import Experiment
from .pod.words import count
from .render import to_text
from .results import InputError
from .statistics import MARGIN, PRECISION
from .validity import SETTINGS

DONE, NOT_MET, BAD_INPUT = 0, 1, 2


def _margin(text: str) -> float:
    try:
        return checked_margin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _batch(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a batch size: expected an integer from 1, such as 64")
    return int(text)


def _precision(text: str) -> float:
    try:
        return checked_precision(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluated = argparse.ArgumentParser(add_help=False)
    evaluated.add_argument(
        "--margin", type=_margin, default=MARGIN, help="smallest difference worth a claim (default: %(default)s)"
    )
    evaluated.add_argument(
        "--allow-different",
        metavar="KEY",
        action="append",
        choices=SETTINGS,
        default=[],
        help=f"a setting that may differ between the arms: {', '.join(SETTINGS)}",
    )
    two = argparse.ArgumentParser(add_help=False)
    two.add_argument("--label-a", help="name of A in the output")
    two.add_argument("--label-b", help="name of B in the output")
    two.add_argument("--partial", action="store_true", help="accept a log that was cut")
    two.add_argument("--batch", type=_batch, help="batch size of a log or folder that does not record it")
    inputs = "the original's log, its folder of CSV files, or JSON lines (a file, a folder, or either with @ARM)"

    command = commands.add_parser("compare", parents=[evaluated, two], help="compare B (after) with A (before)")
    command.add_argument("a", metavar="A", help=inputs)
    command.add_argument("b", metavar="B", help="the same for the other side")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser(
        "report",
        parents=[evaluated, two],
        help="evaluate an experiment, or compare two sides, as HTML, Markdown, JSON and one line",
    )
    command.add_argument("a", metavar="RUN", help=f"JSON lines of one experiment; or, before B, side A: {inputs}")
    command.add_argument("b", metavar="B", nargs="?", help="side B; leave it out for an experiment")
    command.add_argument(
        "--also",
        metavar="RUN",
        action="append",
        default=[],
        type=Path,
        help="another part of the experiment: measured after a switch, or before it once more",
    )
    command.add_argument(
        "--with",
        metavar="FILE@ARM",
        dest="others",
        action="append",
        default=[],
        help="another arm that helps to explain the gap between two sides",
    )
    command.add_argument(
        "--precision",
        type=_precision,
        default=PRECISION,
        help="half-width that an experiment is to reach (default: %(default)s)",
    )
    command.add_argument("--title", default="What helps on this node?", help="default: %(default)s")
    command.add_argument("--command", dest="made_by", default="", help="how the runs were made, for the report")
    command.add_argument(
        "--output", type=Path, default=Path("report"), help="folder for the report (default: %(default)s)"
    )
    printed = command.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print report.json")
    printed.add_argument("--line", action="store_true", help="print the line only, not the names of the files")
    command.add_argument(
        "--fail-unless", choices=sorted(POLICIES), default="none", help="of two sides (default: %(default)s)"
    )

    command = commands.add_parser("summary", help="what each arm of JSON lines measured")
    command.add_argument("sources", metavar="FILE_OR_FOLDER", nargs="+", type=Path)
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("simulate", help="false claims, coverage and cost of the method, on drawn timings")
    command.add_argument("--runs", type=int, default=400, help="runs of each line (default: %(default)s)")
    return parser


def not_worse(found: Experiment) -> bool:
    """Whether the lower end of the interval proves that B is at most the margin slower than A."""
    answer = found.answer
    return (
        found.verdict is not Verdict.INVALID
        and answer is not None
        and answer.low is not None
        and math.log(answer.low) > -math.log1p(found.margin)
    )


POLICIES: Mapping[str, Callable[[Experiment], bool]] = {
    "beats": lambda found: found.verdict is Verdict.BEATS,
    "not-worse": not_worse,
    "none": lambda found: True,
}


def _sides(options: argparse.Namespace) -> Sides:
    others = getattr(options, "others", ())
    return Sides(options.a, options.b, options.label_a, options.label_b, others, options.partial, options.batch)


def _compare(options: argparse.Namespace) -> int:
    found = report_sides(_sides(options), options.margin, None, options.allow_different)
    print(json.dumps(report.to_object(found), indent=2, allow_nan=False) if options.json else to_text(found))
    return DONE


def _report(options: argparse.Namespace) -> int:
    target = Target(options.output, options.title, options.made_by)
    if options.b is None:
        return _report_experiment(options, target)
    if options.also:
        raise InputError([f"--also {options.also[0]} is a part of an experiment, and B was given: leave one out."])
    found = report_sides(_sides(options), options.margin, target, options.allow_different)
    _print(options, found, target)
    if POLICIES[options.fail_unless](found):
        return DONE
    print(f"benchmark: {found.verdict}: --fail-unless {options.fail_unless} is not met.", file=sys.stderr)
    return NOT_MET


def _report_experiment(options: argparse.Namespace, target: Target) -> int:
    of_sides = {
        "--label-a": options.label_a,
        "--label-b": options.label_b,
        "--with": options.others,
        "--partial": options.partial,
        "--fail-unless": options.fail_unless != "none",
    }
    if problems := [f"{name} is about two sides: give B too, or leave it out." for name, on in of_sides.items() if on]:
        raise InputError(problems)
    experiment = report_experiment(
        [Path(options.a), *options.also],
        target,
        margin=options.margin,
        precision=options.precision,
        allow_different=options.allow_different,
    )
    _print(options, experiment, target)
    return DONE


def _print(options: argparse.Namespace, found: Experiment, target: Target) -> None:
    if options.json:
        print(json.dumps(report.to_object(found), indent=2, allow_nan=False))
        return
    print(report.line(found))
    if not options.line:
        for path in target.files():
            print(path)


def _summary(options: argparse.Namespace) -> int:
    arms = read_sources(options.sources)
    result = json.dumps(summary.summarise(arms), indent=2, allow_nan=False) if options.json else summary.to_text(arms)
    print(result)
    return DONE


def _simulate(options: argparse.Namespace) -> int:
    print(simulate.to_text(simulate.simulate(options.runs)))
    return DONE


_COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "compare": (_compare, "nothing was compared"),
    "report": (_report, "no report was written"),
    "summary": (_summary, "nothing was summarised"),
    "simulate": (_simulate, "nothing was simulated"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = _parser().parse_args(arguments)
    run, nothing = _COMMANDS[options.command]
    try:
        return run(options)
    except InputError as error:
        print(f"benchmark: {nothing}. {count(len(error.problems), 'problem')}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may stop early
    sys.exit(main())
