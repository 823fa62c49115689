# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `kubepin`."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import textwrap
from collections.abc import Sequence
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import shtab
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import PROFILES

from orchestrator.machines import MACHINES, machine_dump
from orchestrator.model import (
    EXIT_CODES,
    PROJECT,
    USAGE_EXIT_CODE,
    VERBS,
    KubepinError,
    RunRequest,
    RunVerdict,
    UsageError,
)
from orchestrator.scratch import sweep
from orchestrator.values import is_deep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from orchestrator.conductor import Control
    from orchestrator.console import JsonView, LiveView, PlainView

_WITH_PROFILE = ("tune", "preview", "emit", "audit")
_OF_A_MACHINE = {"preview": "node_preview", "emit": "node_settings"}
"""Verbs that take a machine type instead of nodes, and their roles."""
_TOGETHER = "\N{NO-BREAK SPACE}"
_CODES = {**{code: verdict.replace("_", " ") for verdict, code in EXIT_CODES.items()}, USAGE_EXIT_CODE: "cannot start"}
_EXITS = textwrap.fill(
    ", ".join(f"{code} {_CODES[code]}".replace(" ", _TOGETHER) for code in sorted(_CODES)),
    90,
    initial_indent="exit codes: ",
    subsequent_indent=" " * len("exit codes: "),
).replace(_TOGETHER, " ")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kubepin",
        description="Pin GPU pods to exclusive CPUs. Start with `kubepin assess`: it only reads, and needs a kubeconfig.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(top, help="print the completion script of a shell")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    command = verbs.add_parser(
        "assess",
        help="show a cluster's GPU nodes and pods, and what to do first",
        description="Show a cluster's GPU nodes and pods, as the API reports them, and what to do first. Needs only a kubeconfig: no "
        "inventory, and no access to the nodes. Changes nothing.",
    )
    kubeconfig = command.add_argument(
        "--kubeconfig", metavar="FILE", help="kubeconfig (default: $KUBECONFIG or ~/.kube/config)"
    )
    kubeconfig.complete = shtab.FILE  # type: ignore[attr-defined]
    command.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: its current one)")
    _add_output(command, live=False)
    for name, verb in VERBS.items():
        command = verbs.add_parser(name, help=verb.help, description=f"{verb.help[0].upper()}{verb.help[1:]}.")
        _add_play(command, name)
        _add_output(command)
    command = verbs.add_parser("report", help="show the result of a run", description="Show the result of a run.")
    command.add_argument("run", metavar="RUN", nargs="?", default="last", help="name of the run (default: the newest)")
    _add_output(command, live=False)
    command = verbs.add_parser(
        "runs",
        help="list all runs and what each found, or compare two",
        description="List all runs, newest first: what each found, and what changed since the run before. Or compare two.",
    )
    command.add_argument("runs", metavar="RUN", nargs="*", help="two runs to compare (default: list all)")
    _add_output(command, live=False)
    return top


def _add_play(command: argparse.ArgumentParser, verb: str) -> None:
    inventory = command.add_argument(
        "-i",
        "--inventory",
        action="append",
        default=[],
        metavar="PATH",
        help="inventory (default: the one in ansible.cfg)",
    )
    inventory.complete = shtab.FILE  # type: ignore[attr-defined]
    command.add_argument("-l", "--limit", metavar="HOSTS", help="limit the run to these hosts")
    command.add_argument(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="VARS",
        help="key=value, a YAML or JSON object, or @FILE",
    )
    command.add_argument("-K", "--ask-become-pass", action="store_true", help="ask for the become password")
    command.add_argument("--check", action="store_true", help="show what would be done; change nothing")
    command.add_argument("--resume", metavar="RUN", help="continue a run in its folder; `last` is the newest")
    command.add_argument(
        "--with-changes", action="store_true", help="resume although the inventory or variables differ"
    )
    if verb in _WITH_PROFILE:
        command.add_argument(
            "--profile",
            choices=PROFILES,
            help="choose the settings that the inventory does not set (docs/operations.md)",
        )
    if verb in _OF_A_MACHINE:
        command.add_argument(
            "--machine",
            choices=MACHINES,
            metavar="TYPE",
            help=f"a machine of this type instead of nodes: {', '.join(MACHINES)} (roles/node_preview/files/machines/README.md)",
        )
    if verb == "emit":
        command.add_argument(
            "--format",
            metavar="LIST",
            help="what to write, joined by commas, such as kubeadm-patch or rke2 (see roles/node_settings/README.md)",
        )
    if verb == "tune":
        command.add_argument("--benchmark", action="store_true", help="measure before and after, and compare")
    if verb == "benchmark":
        command.add_argument(
            "--contrast", action="store_true", help="measure whole against fractional CPUs, or refuse the node"
        )
        command.add_argument(
            "--load",
            metavar="LIST",
            help="what else runs on the node, joined by commas: solo, full (a pod on each GPU), busy (neighbours too)",
        )


def _add_output(command: argparse.ArgumentParser, live: bool = True) -> None:
    shown = command.add_mutually_exclusive_group()
    if live:
        shown.add_argument(
            "--plain", action="store_true", help="print lines, no live view (default without a terminal)"
        )
    shown.add_argument("--json", action="store_true", help="print JSON (see orchestrator/README.md)")
    command.add_argument("--no-color", action="store_true", help="turn colours off, as the variable NO_COLOR does")


def extra_variables(texts: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parses the arguments of -e like ansible-playbook; returns the variables and the files with variables.

    :raises UsageError: listing all arguments that cannot be parsed
    """
    from ansible.errors import AnsibleParserError
    from ansible.parsing.splitter import parse_kv

    variables: dict[str, Any] = {}
    files, problems = [], []
    for text in texts:
        if text.startswith("@"):
            path = Path(text[1:]).expanduser().absolute()
            files.append(str(path))
            if not path.is_file():
                problems.append(f"-e {text}: the file does not exist.")
            elif not _is_unicode(text):
                problems.append(f"-e {text}: the file's name is not UTF-8. Rename it.")
            continue
        try:
            found: Any = yaml.safe_load(text) if text.lstrip().startswith(("{", "[")) else parse_kv(text)
        except yaml.YAMLError as error:
            problems.append(f"-e '{text}': invalid YAML: {' '.join(str(error).split())}.")
        except (AnsibleParserError, ValueError, RecursionError) as error:
            problems.append(f"-e '{text}': {error}.")
        else:
            if not isinstance(found, dict):
                problems.append(f"-e '{text}': expected an object, such as '{{\"kubepin_batches\": [1]}}'.")
            elif words := found.pop("_raw_params", ""):
                problems.append(f"-e '{text}': expected key=value instead of `{words}`.")
            elif not _is_json(found):
                problems.append(
                    f"-e '{text}': expected text, numbers, lists and objects, as JSON has them. Quote dates and other values."
                )
            else:
                variables |= found
    if problems:
        raise UsageError(" ".join(problems))
    return variables, tuple(files)


def _is_unicode(text: str) -> bool:
    """False if it has bytes that are not UTF-8 (PEP 383)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_json(value: Any) -> bool:
    if is_deep(value):
        return False
    try:
        return _is_unicode(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return False


def _source(text: str) -> str:
    """An inventory source. Ansible runs in the project's folder, not in the user's.

    :raises UsageError: if Ansible cannot take its name
    """
    path = Path(text).expanduser().absolute()
    if not _is_unicode(text):
        raise UsageError(f"-i {text}: the name is not UTF-8. Rename it.")
    if "," not in text:
        return str(path)
    if path.exists():
        raise UsageError(f"-i {text}: Ansible takes a name with a comma for a list of hosts. Rename it.")
    return text


def request(options: argparse.Namespace, project: Path) -> RunRequest:
    """The request on the command line.

    :raises UsageError: if the run cannot start
    """
    from orchestrator import runs

    variables, files = extra_variables(options.extra_vars)
    if getattr(options, "benchmark", False):
        variables["tune_benchmark"] = True
    if getattr(options, "contrast", False):
        variables["gpu_benchmark_contrast"] = True
    if load := getattr(options, "load", None):
        variables["gpu_benchmark_load"] = load.split(",")
    if profile := getattr(options, "profile", None):
        variables["cpu_manager_profile"] = profile
    if machine := getattr(options, "machine", None):
        role = _OF_A_MACHINE[options.verb]
        variables |= {f"{role}_dump": str(machine_dump(machine)), f"{role}_node_name": machine}
    if formats := getattr(options, "format", None):
        variables["node_settings_formats"] = formats.split(",")
    return RunRequest(
        verb=options.verb,
        inventory=tuple(map(_source, options.inventory)),
        limit=options.limit,
        variables=variables,
        variable_files=files,
        check=options.check,
        become_password=getpass("BECOME password: ") if options.ask_become_pass else None,
        resume=options.resume and runs.find(project, options.resume),
        with_changes=options.with_changes,
        project=project,
    )


def _play(options: argparse.Namespace, console: Console, project: Path) -> int:
    from orchestrator.conductor import Control, conduct

    wanted = request(options, project)
    view, control = _view(options, console), Control()
    with _signals(control, console), view.shown():
        return conduct(wanted, view, control).exit_code


def _view(options: argparse.Namespace, console: Console) -> JsonView | PlainView | LiveView:
    from orchestrator.console import JsonView, LiveView, PlainView

    if options.json:
        return JsonView(console)
    return LiveView(console) if console.is_terminal and not options.plain else PlainView(console)


class HangupSafeStream:
    """A terminal's stream that discards output once the terminal is gone. The run's folder keeps everything."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError:
            return self._discard()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._discard()

    def _discard(self) -> int:
        """Points the file to /dev/null, so that buffered output is discarded too."""
        with open(os.devnull, "w", encoding="utf-8") as null:
            os.dup2(null.fileno(), self._file.fileno())
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _signals(control: Control, console: Console) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops the run, the second cancels it. A lost terminal stops it."""

    def stop_or_cancel(number: int, frame: Any) -> None:
        if control.stopping:
            control.cancel()
        else:
            control.stop()

    def hang_up(number: int, frame: Any) -> None:
        control.stop()

    handlers = {signal.SIGINT: stop_or_cancel, signal.SIGTERM: stop_or_cancel}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = hang_up
    console.file = cast("IO[str]", HangupSafeStream(console.file))
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _report(options: argparse.Namespace, console: Console, project: Path) -> int:
    from orchestrator import runs
    from orchestrator.records import REPORT, RESULT, read_text

    name = runs.find(project, options.run)
    folder = runs.runs_in(project) / name
    if not (folder / RESULT).is_file():
        run = runs.summary(folder)
        way_out = (
            "Wait until it has ended."
            if run.verdict == runs.RUNNING
            else f"Resume it with: kubepin {run.verb} --resume {name}"
        )
        raise KubepinError(f"run {name} has no result: {run.sentence or run.verdict}. {way_out}")
    if options.json:
        console.file.write(read_text(folder / RESULT))
    else:
        console.file.write(read_text(folder / REPORT))
        written = sorted(path for path in folder.rglob("report.html"))
        console.file.write("".join(f"{path}\n" for path in [*written, folder / RESULT]))
    return EXIT_CODES[RunVerdict.DONE]


def _runs(options: argparse.Namespace, console: Console, project: Path) -> int:
    from rich.table import Table
    from rich.text import Text

    from orchestrator import runs

    if len(options.runs) not in (0, 2):
        raise UsageError("expected no runs or two: `kubepin runs` lists all runs, and `kubepin runs A B` compares two.")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    if options.runs:
        rows = runs.compare(project, *options.runs)
        if options.json:
            console.file.write(
                json.dumps([dict(zip(("what", "a", "b"), row, strict=False)) for row in rows], indent=2) + "\n"
            )
            return EXIT_CODES[RunVerdict.DONE]
        for heading in ("", *options.runs):
            table.add_column(heading)
        for row in rows:
            table.add_row(*map(Text, row))
    else:
        found, damaged = runs.summaries(project)
        for error in damaged:
            print(f"kubepin: passed over: {error}", file=sys.stderr)
        if options.json:
            console.file.write(json.dumps([run.to_object() for run in found], indent=2) + "\n")
            return EXIT_CODES[RunVerdict.DONE]
        for heading in ("run", "verb", "verdict", "seconds", "hosts"):
            table.add_column(heading, no_wrap=heading == "run")
        for run in found:
            hosts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in run.outcomes.items())
            table.add_row(
                *(Text(text) for text in (run.run, run.verb, run.verdict, f"{run.seconds:g}")),
                Text("\n".join([run.sentence if run.verdict == runs.RUNNING else hosts, *run.findings.to_lines()])),
            )
    console.print(table if table.row_count else "no differences" if options.runs else "no runs yet")
    return EXIT_CODES[RunVerdict.DONE]


def _assess(options: argparse.Namespace, console: Console, project: Path) -> int:
    from orchestrator.assess import assessment, screen

    # an API server that does not answer is asked again for a minute
    with console.status("reading the API server ..."):
        found = assessment(options.kubeconfig, options.context)
    if options.json:
        console.file.write(json.dumps(found, indent=2) + "\n")
    else:
        console.print(screen(found))
    return EXIT_CODES[RunVerdict.DONE]


def main(arguments: Sequence[str] | None = None, project: Path = PROJECT) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end a run
    sweep()
    console = Console(no_color=True if options.no_color else None, highlight=False)
    try:
        return {"assess": _assess, "report": _report, "runs": _runs}.get(options.verb, _play)(options, console, project)
    except KubepinError as error:
        print(f"kubepin: {error}", file=sys.stderr)
        return USAGE_EXIT_CODE


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for readers such as head
    sys.exit(main())
