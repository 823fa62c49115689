# SPDX-License-Identifier: GPL-3.0-or-later
"""Every property test with many inputs at random: a reader refuses any input in its own words, or reads it.

Needs no cluster. A failing input is shown at the end, made as small as possible.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.campaigns.base import ROOT

_TEST = re.compile(r"^(\S+\.py)::(\S+):$")
_PHASE = re.compile(r"^  - during \w+ phase \((\d+\.\d+) seconds\):$")
_CASES = re.compile(r"^    - (\d+) passing, (\d+) failing, and (\d+) invalid test cases$")


@dataclass(frozen=True)
class Count:
    """What came of the inputs of one property test."""

    file: str
    test: str
    inputs: int
    failing: int
    seconds: float


def counts(output: str) -> list[Count]:
    """The counts in the output of pytest's option --hypothesis-show-statistics, in its order."""
    found: list[Count] = []
    seconds = 0.0
    for line in output.splitlines():
        if match := _TEST.match(line):
            found.append(Count(match[1], match[2], 0, 0, 0.0))
        elif match := _PHASE.match(line):
            seconds = float(match[1])
        elif (match := _CASES.match(line)) and found:
            last = found.pop()
            passing, failing, invalid = map(int, match.groups())
            inputs = last.inputs + passing + failing + invalid
            found.append(Count(last.file, last.test, inputs, last.failing + failing, last.seconds + seconds))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its options."""
    parser.add_argument("--examples", type=int, default=5000, help="inputs for each test (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print the inputs of each test; return pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-m", "hypothesis", "--numprocesses=2", "--dist=worksteal"]
    command += ["--hypothesis-show-statistics", f"--examples={options.examples}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    found = sorted(counts(done.stdout), key=lambda count: (count.file, count.test))
    if done.returncode:
        print(done.stdout)
    table = Table(box=None)
    for heading in ("tests of", "property", "inputs", "failing", "seconds"):
        table.add_column(heading, justify="left" if heading in ("tests of", "property") else "right")
    for count in found:
        table.add_row(
            subject(count.file), words(count.test), str(count.inputs), str(count.failing), f"{count.seconds:.0f}"
        )
    Console(width=180).print(table)
    failing = sum(count.failing for count in found)
    print(f"{len(found)} tests, {sum(count.inputs for count in found)} inputs, {failing} failing")
    return done.returncode


def subject(file: str) -> str:
    """What the tests of a file test, such as common/kubelet/flags."""
    return re.sub(r".*module_utils/|^tests/|test_|\.py$", "", file)


def words(test: str) -> str:
    """A test's name as words."""
    return test.removeprefix("test_").replace("_", " ")
