# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m benchmark compare A B`: exit code 0 if the two were compared, whatever the verdict; 2 on bad input."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmark.compare import MARGIN, compare
from benchmark.readers import read
from benchmark.render import to_object, to_text
from benchmark.results import InputError, ResultSet

COMPARED, BAD_INPUT = 0, 2
SHOWN = 20


def _margin(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no margin: expected a share above 0 and below 1, such as 0.03")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compare", help="compare B (after) with A (before)")
    inputs = "the original's log, its folder of CSV files, or JSON lines (a file, a folder, or FILE@ARM)"
    command.add_argument("a", metavar="A", help=inputs)
    command.add_argument("b", metavar="B", help="the same, of the other side")
    command.add_argument("--label-a", help="name of A in the output")
    command.add_argument("--label-b", help="name of B in the output")
    command.add_argument("--margin", type=_margin, default=MARGIN, help="what is worth a claim (default: %(default)s)")
    command.add_argument("--partial", action="store_true", help="take what a cut log holds")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _told_apart(a: ResultSet, b: ResultSet) -> tuple[ResultSet, ResultSet]:
    if a.label != b.label:
        return a, b
    return replace(a, label=f"{a.label} (A)"), replace(b, label=f"{b.label} (B)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads both sides before it complains, so that all problems come at once."""
    options = _parser().parse_args(arguments)
    sides: list[ResultSet] = []
    problems: list[str] = []
    for source, label in ((options.a, options.label_a), (options.b, options.label_b)):
        try:
            sides.append(read(source, label, partial=options.partial))
        except InputError as error:
            more = len(error.problems) - SHOWN
            problems += error.problems[:SHOWN]
            problems += [f"{source}: and {more} more problems"] if more > 0 else []
    if not problems:
        try:
            result = compare(*_told_apart(*sides), margin=options.margin)
        except InputError as error:
            problems = error.problems
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(f"benchmark: nothing was compared. {count}:", file=sys.stderr)
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(to_object(result), indent=2, allow_nan=False) if options.json else to_text(result))
    return COMPARED


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may stop early
    sys.exit(main())
