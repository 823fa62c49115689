# SPDX-License-Identifier: GPL-3.0-or-later
"""What campaigns share: a sandbox for the time of a run, playbooks, checks, and tables of what was found."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox.settings import SandboxError

ROOT = Path(__file__).resolve().parents[2]


class CheckFailed(Exception):
    """A check does not hold; the text says what was found and what was expected."""


def expect(holds: bool, text: str) -> None:
    """Raise CheckFailed unless it holds."""
    if not holds:
        raise CheckFailed(text)


# The sandbox


def add_sandbox_arguments(parser: argparse.ArgumentParser, name: str, version: str, workers: int) -> None:
    """The options that `sandbox_for` needs."""
    parser.set_defaults(new_sandbox=name)
    parser.add_argument(
        "--sandbox",
        metavar="NAME",
        help=f"one that is ready, and stays; without it, a new one named {name}, which is removed at the end",
    )
    parser.add_argument("--k8s", default=version, metavar="VERSION", help="of the new one (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=workers, help="of the new one (default: %(default)s)")


@contextmanager
def sandbox_for(options: argparse.Namespace) -> Iterator[str]:
    """The name of the sandbox that the options ask for, which is the inventory's during the block."""
    if not options.sandbox:
        with new_sandbox(options.new_sandbox, options.k8s, options.workers):
            yield options.new_sandbox
        return
    os.environ["KUBEPIN_SANDBOX"] = options.sandbox
    yield options.sandbox


@contextmanager
def new_sandbox(name: str, version: str, workers: int, builds: Sequence[str] = (), machines: int = 0) -> Iterator[None]:
    """A sandbox for the time of the block, in the place of one that an interrupted run left.

    If the block fails, logs of all nodes are collected first. *builds* are further releases that its nodes need.
    """
    os.environ["KUBEPIN_SANDBOX"] = name
    for each in builds:
        run_sandbox("build", "--k8s", each)
    run_sandbox("down", "--name", name)
    try:
        counts = ("--workers", str(workers), "--machines", str(machines))
        run_sandbox("up", "--name", name, "--k8s", version, *counts)
        try:
            yield
        except Exception:
            run_sandbox("collect", "--name", name)
            raise
    finally:
        run_sandbox("down", "--name", name)


def run_sandbox(*arguments: str) -> None:
    """Run the sandbox's own program.

    Raises SandboxError if it fails.
    """
    if subprocess.run([sys.executable, "-m", "sandbox", *arguments], cwd=ROOT, check=False).returncode:
        raise SandboxError(f"`python3 -m sandbox {' '.join(arguments)}` failed: see above")


def playbook(*arguments: str) -> None:
    """Run a playbook.

    Raises CheckFailed if it fails.
    """
    command = ["ansible-playbook", *arguments]
    print(f"$ {' '.join(command)}", flush=True)
    returncode = subprocess.run(command, cwd=ROOT, check=False).returncode
    expect(returncode == 0, f"`{' '.join(command)}` failed: see above")


# What was found


def failed_results(output: str) -> list[dict[str, Any]]:
    """The results of the failed tasks in the output of ansible-playbook, if its result format is JSON."""
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(output, found.end())[0] for found in _FAILED.finditer(output)]


def problem_codes(results: Iterable[Mapping[str, Any]]) -> set[str]:
    """The codes of all problems in results of kubepin's modules."""
    return {problem["code"] for result in results for problem in result.get("problems") or ()}


_FAILED = re.compile(r"^fatal: \[[^\]]*\]: FAILED! => (?=\{)", re.MULTILINE)


def add_output_argument(parser: argparse.ArgumentParser, name: str) -> None:
    """The option that says where results go."""
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "test-results" / name,
        metavar="FOLDER",
        help=f"where the results go (default: test-results/{name})",
    )


def write_json(path: Path, value: object) -> None:
    """Keep a result for programs; the folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[object]], numeric: bool = False) -> str:
    """A table for a page; with *numeric*, all columns but the first are aligned to the right."""
    rule = ["---", *(["---:" if numeric else "---"] * (len(headings) - 1))]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headings, *rows)]
    lines = [f"| {' | '.join(row)} |\n" for row in cells]
    return "".join([lines[0], f"|{'|'.join(rule)}|\n", *lines[1:]])


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], red: Sequence[str] = ()) -> None:
    """A table on the terminal; cells that begin with one of *red* are red."""
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(*(f"[red]{cell}[/]" if cell.startswith(tuple(red)) else cell for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
