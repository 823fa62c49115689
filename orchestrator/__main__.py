# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `kubepin`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import shtab
import yaml

from orchestrator.model import EXIT_CODES, PROJECT, USAGE_EXIT_CODE, VERBS, KubepinError, Request, UsageError, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from orchestrator.conductor import Control
    from orchestrator.console import JsonView, LiveView, PlainView

_CODES = ", ".join(f"{code} {verdict}".replace("_", " ") for verdict, code in EXIT_CODES.items())
_EPILOG = f"""\
exit codes: {_CODES}; {USAGE_EXIT_CODE} cannot be begun
`kubepin VERB --help` tells the rest; orchestrator/README.md has the Python API."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kubepin",
        description="Give the GPU pods of a Kubernetes cluster CPUs of their own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(top, help="print the completion of a shell")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        command = verbs.add_parser(name, help=verb.help, description=f"{verb.help[0].upper()}{verb.help[1:]}.")
        _add_play(command, name)
        _add_output(command)
    command = verbs.add_parser("report", help="what came of a run", description="What came of a run.")
    command.add_argument("run", metavar="RUN", nargs="?", default="last", help="a run's name (default: the newest)")
    _add_output(command, live=False)
    command = verbs.add_parser(
        "runs", help="list the runs, or compare two of them", description="List or compare runs."
    )
    command.add_argument("runs", metavar="RUN", nargs="*", help="none: all are listed; two: what differs between them")
    _add_output(command, live=False)
    return top


def _add_play(command: argparse.ArgumentParser, verb: str) -> None:
    inventory = command.add_argument(
        "-i", "--inventory", action="append", default=[], metavar="PATH", help="default: the sandbox, as in ansible.cfg"
    )
    inventory.complete = shtab.FILE  # type: ignore[attr-defined]
    command.add_argument("-l", "--limit", metavar="HOSTS", help="only these hosts")
    command.add_argument(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="VARS",
        help="key=value, a YAML or JSON object, or @FILE",
    )
    command.add_argument("-K", "--ask-become-pass", action="store_true", help="ask for the password of become")
    command.add_argument("--check", action="store_true", help="say what would be done, and change nothing")
    command.add_argument("--resume", metavar="RUN", help="go on with a run, `last` for the newest, in its folder")
    if verb == "tune":
        command.add_argument("--benchmark", action="store_true", help="measure before and after, and compare")
    if verb == "benchmark":
        command.add_argument(
            "--contrast", action="store_true", help="whole CPUs against a fractional number, until it is decided"
        )


def _add_output(command: argparse.ArgumentParser, live: bool = True) -> None:
    shown = command.add_mutually_exclusive_group()
    if live:
        shown.add_argument("--plain", action="store_true", help="lines, no live view (default if not a terminal)")
    shown.add_argument("--json", action="store_true", help="JSON, as orchestrator/README.md describes it")
    command.add_argument("--no-color", action="store_true", help="no colours; so does the variable NO_COLOR")


def extra_variables(texts: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Variables and files with variables from the arguments of -e, as ansible-playbook takes them.

    :raises UsageError: naming all that cannot be read
    """
    variables: dict[str, Any] = {}
    files, problems = [], []
    for text in texts:
        if text.startswith("@"):
            path = Path(text[1:]).expanduser().absolute()
            files.append(str(path))
            if not path.is_file():
                problems.append(f"-e {text}: no such file.")
        elif text.lstrip().startswith(("{", "[")):
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                problems.append(f"-e '{text}': no YAML: {' '.join(str(error).split())}.")
                continue
            if isinstance(value, dict):
                variables |= value
            else:
                problems.append(f"-e '{text}': expected an object, such as '{{\"kubepin_batches\": [1]}}'.")
        else:
            problems += _add_words(text, variables)
    if problems:
        raise UsageError(" ".join(problems))
    return variables, tuple(files)


def _add_words(text: str, variables: dict[str, Any]) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        return [f"-e '{text}': {error}."]
    problems = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            variables[name] = value
        else:
            problems.append(f"-e '{text}': `{word}` is no key=value; expected such as -e cpu_manager_policy=static.")
    return problems


def request(options: argparse.Namespace, project: Path) -> Request:
    """What was asked for on the command line.

    :raises UsageError: if that cannot be begun
    """
    from orchestrator import runs

    variables, files = extra_variables(options.extra_vars)
    if getattr(options, "benchmark", False):
        variables["tune_benchmark"] = True
    if getattr(options, "contrast", False):
        variables["gpu_benchmark_contrast"] = True
    resume = options.resume and str(runs.find(project, options.resume)["run"])
    return Request(
        verb=options.verb,
        # Ansible runs in the project's folder, the user stands elsewhere
        inventory=tuple(text if "," in text else str(Path(text).expanduser().absolute()) for text in options.inventory),
        limit=options.limit,
        variables=variables,
        variable_files=files,
        check=options.check,
        become_password=getpass("BECOME password: ") if options.ask_become_pass else None,
        resume=resume,
        project=project,
    )


def _play(options: argparse.Namespace, console: Console, project: Path) -> int:
    from orchestrator.conductor import Control, conduct

    asked = request(options, project)
    view, control = _view(options, console), Control()
    with _signals(control, console), view.shown():
        return conduct(asked, view, control).exit_code


def _view(options: argparse.Namespace, console: Console) -> JsonView | PlainView | LiveView:
    from orchestrator.console import JsonView, LiveView, PlainView

    if options.json:
        return JsonView(console)
    return LiveView(console) if console.is_terminal and not options.plain else PlainView(console)


class LosableTerminal:
    """A terminal's file that takes what is written to it when the terminal is gone; the run's folder has everything."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError:
            return self._lost()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._lost()

    def _lost(self) -> int:
        """Nothing is left to fail later: what is buffered goes nowhere too."""
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), self._file.fileno())
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _signals(control: Control, console: Console) -> Iterator[None]:
    """The first signal asks to finish what is in hand, the second to end at once; a lost terminal asks for the first only."""

    def ask(number: int, frame: Any) -> None:
        if control.stopping:
            control.cancel()
        else:
            control.stop()

    def hang_up(number: int, frame: Any) -> None:
        control.stop()

    handlers = {signal.SIGINT: ask, signal.SIGTERM: ask}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = hang_up
    console.file = cast("IO[str]", LosableTerminal(console.file))
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _report(options: argparse.Namespace, console: Console, project: Path) -> int:
    from orchestrator import runs

    name = runs.find(project, options.run)["run"]
    folder = runs.runs_in(project) / name
    if not (folder / "result.json").is_file():
        raise KubepinError(
            f"run {name} has not ended: it is running, or it was killed. Go on with: kubepin "
            f"{runs.find(project, name)['verb']} --resume {name}"
        )
    if options.json:
        console.file.write((folder / "result.json").read_text(encoding="utf-8"))
    else:
        console.file.write((folder / "report.txt").read_text(encoding="utf-8"))
        written = sorted(path for path in folder.rglob("report.html"))
        console.file.write("".join(f"{path}\n" for path in [*written, folder / "result.json"]))
    return EXIT_CODES[Verdict.DONE]


def _runs(options: argparse.Namespace, console: Console, project: Path) -> int:
    from rich.table import Table

    from orchestrator import runs

    if len(options.runs) not in (0, 2):
        raise UsageError(
            "`kubepin runs` lists all runs, and with two names says what differs between them: give none or two."
        )
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    if options.runs:
        rows = runs.compare(project, *options.runs)
        if options.json:
            console.file.write(
                json.dumps([dict(zip(("what", "a", "b"), row, strict=False)) for row in rows], indent=2) + "\n"
            )
            return EXIT_CODES[Verdict.DONE]
        for heading in ("", *options.runs):
            table.add_column(heading)
        for row in rows:
            table.add_row(*row)
    else:
        found = runs.summaries(project)
        if options.json:
            kept = ("run", "verb", "attempts", "verdict", "seconds", "outcomes", "sentence")
            console.file.write(json.dumps([{key: run[key] for key in kept} for run in found], indent=2) + "\n")
            return EXIT_CODES[Verdict.DONE]
        for heading in ("run", "verb", "verdict", "seconds", "hosts"):
            table.add_column(heading, no_wrap=heading == "run")
        for run in found:
            hosts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in run["outcomes"].items())
            table.add_row(run["run"], run["verb"], run["verdict"], f"{run['seconds']:g}", hosts)
    console.print(table if table.row_count else "no difference" if options.runs else "no runs yet")
    return EXIT_CODES[Verdict.DONE]


def main(arguments: Sequence[str] | None = None, project: Path = PROJECT) -> int:
    """Runs one command; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(no_color=True if options.no_color else None, highlight=False)
    try:
        return {"report": _report, "runs": _runs}.get(options.verb, _play)(options, console, project)
    except KubepinError as error:
        print(f"kubepin: {error}", file=sys.stderr)
        return USAGE_EXIT_CODE


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may stop early
    sys.exit(main())
