# SPDX-License-Identifier: GPL-3.0-or-later
"""What campaigns share: a sandbox for the time of a run, playbooks, checks, and tables of what was found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
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


# Runs of Ansible


JSON_LINES = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl"}
"""Environment in which Ansible prints each event as a line of JSON at once."""

_STARTS = ("v2_playbook_on_task_start", "v2_playbook_on_handler_task_start", "v2_runner_on_start")
_RESULTS = ("v2_runner_on_ok", "v2_runner_on_failed", "v2_runner_on_unreachable", "v2_runner_on_skipped")
_FACTS = "kubepin_"
_LISTS_OF_PROBLEMS = ("problems", "blocked", "unchecked")
"""In results and facts (docs/facts.md)."""
_TAIL = 600


@dataclass(frozen=True)
class TaskResult:
    """How one task ended on one host."""

    play: str
    task: str
    host: str
    seconds: float
    values: Mapping[str, Any]
    """What the task returned; `action` is its full name."""
    ended: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether it failed, or the host was unreachable; also if the playbook went on."""
        return bool(self.values.get("failed") or self.values.get("unreachable"))


class AnsibleRun:
    """What a run of Ansible reports, read from its output with `JSON_LINES` in the environment."""

    def __init__(self) -> None:
        self.code: int | None = None
        """Its exit status; None while it runs, or if it was killed."""
        self.results: list[TaskResult] = []
        self.stats: dict[str, dict[str, int]] = {}
        """Host -> counter, such as `changed` -> number of tasks; empty if the run did not come to its end."""
        self.other_output: list[str] = []
        """Lines that are no events, such as an error in the command line."""
        self._play = ""

    @classmethod
    def ended(cls, code: int, output: str) -> AnsibleRun:
        """A run that has ended, with its whole output."""
        run = cls()
        for line in output.splitlines():
            run.read(line)
        run.code = code
        return run

    def read(self, line: str) -> str | None:
        """Take in one line of output; returns the name of the task that it announces, if it does."""
        try:
            event = json.loads(line)
            kind = event["_event"]
        except (ValueError, TypeError, KeyError):
            self.other_output.append(line)
            return None
        if kind == "v2_playbook_on_play_start":
            self._play = event["play"]["name"]
        elif kind in _STARTS:
            return str(event["task"]["name"])
        elif kind in _RESULTS:
            task = event["task"]
            self.results += [
                TaskResult(
                    *(self._play, task["name"], host, _seconds(task["duration"]), values),
                    ended=datetime.fromisoformat(task["duration"]["end"]),
                )
                for host, values in event["hosts"].items()
            ]
        elif kind == "v2_playbook_on_stats":
            self.stats = event["stats"]
        return None

    @property
    def last(self) -> Mapping[str, Any]:
        """What the last task returned.

        Raises CheckFailed if no task ran.
        """
        expect(bool(self.results), f"Ansible printed no result: {self.error}")
        return self.results[-1].values

    @property
    def failures(self) -> list[TaskResult]:
        """The results that failed, also those that the playbook handled."""
        return [result for result in self.results if result.failed]

    @property
    def changed_nothing(self) -> bool:
        """Whether it came to its end, and no task changed anything, failed, or lost its host."""
        return bool(self.stats) and not any(
            counts[key] for counts in self.stats.values() for key in ("changed", "failures", "unreachable")
        )

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return any(result.values.get("changed") for result in self.results)

    @property
    def error(self) -> str:
        """The last failure as text, for people."""
        texts = [_flat(result.values.get("msg")) for result in self.failures if result.values.get("msg")]
        return (texts[-1] if texts else _flat("\n".join(self.other_output)))[-_TAIL:]

    def fact(self, name: str, host: str | None = None) -> dict[str, Any]:
        """What the run published last (docs/facts.md), on any host unless one is named; empty if it did not."""
        found: dict[str, Any] = {}
        for result in self.results:
            value = (result.values.get("ansible_facts") or {}).get(name)
            if isinstance(value, dict) and host in (None, result.host):
                found = value
        return found

    def problems(self) -> dict[str, str]:
        """Code -> text of all problems in the run's failures and facts, the last text of each code."""
        found: list[Any] = []
        for result in self.results:
            facts = (result.values.get("ansible_facts") or {}).items()
            found += [fact for name, fact in facts if name.startswith(_FACTS) and isinstance(fact, dict)]
            found += [result.values] if result.failed else []
        return problems_in(found)


def problems_in(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Code -> text of all problems in results of kubepin's modules, or in its facts."""
    lists = (result.get(name) or () for result in results for name in _LISTS_OF_PROBLEMS)
    return {problem["code"]: problem["text"] for problems in lists for problem in problems}


def find_problem(found: Mapping[str, str], *codes: str) -> str:
    """The text of the first of these problems that was found, for a table.

    Raises CheckFailed if none was.
    """
    expect(bool(found.keys() & set(codes)), f"expected the problem {' or '.join(codes)}, found {found or 'none'}")
    return next(found[code] for code in codes if code in found)


def no_answer(values: Mapping[str, Any]) -> bool:
    """Whether a task failed because the API server did not answer."""
    return "status" in values and values["status"] is None


def find_text(value: object, text: str) -> str:
    """A part of a message that another program wrote, such as the kubelet or the kernel.

    Raises CheckFailed if the message does not have it.
    """
    expect(text in _flat(value), f'"{text}" is not in: {_flat(value)[-_TAIL:]}')
    return text


def _flat(value: object) -> str:
    return " ".join(str(value).split())


def _seconds(duration: Mapping[str, str]) -> float:
    started, ended = (datetime.fromisoformat(duration[name]) for name in ("start", "end"))
    return (ended - started).total_seconds()


# What was found


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
