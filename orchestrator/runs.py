# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of each run below runs/: what was asked, what happened, what came of it.

`run.json` (request, versions, inventory), `events.jsonl`, `result.json` and `report.txt` are ours; what lies beside them
was written by the roles. All that is written goes through a `Redactor`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from orchestrator.model import SCHEMA, Event, KubepinError, Request, RunResult, UsageError
from orchestrator.redaction import HIDDEN, Redactor

_PACKAGES = ("ansible-core", "ansible", "ansible-runner", "kubernetes", "rich", "numpy", "scipy")
_INVENTORY_TIMEOUT_SECONDS = 120


class RunFolder:
    """One run's folder while it runs."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._events: TextIO | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def control(self) -> Path:
        """The folder through which the playbooks are asked to stop, and say what they wait for."""
        return self.path / "control"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Events can be added, and the playbooks can be talked to."""
        shutil.rmtree(self.control, ignore_errors=True)
        self.control.mkdir()
        try:
            with (self.path / "events.jsonl").open("a", encoding="utf-8") as self._events:
                yield
        finally:
            self._events = None
            shutil.rmtree(self.control, ignore_errors=True)

    def hidden(self, event: Event) -> Event:
        """The event without secrets."""
        return Event(event.kind, self._redactor.hide(event.data), event.time)

    def add(self, event: Event) -> None:
        """Appends an event, which `hidden` has returned."""
        if self._events is not None:
            self._events.write(json.dumps(event.to_object()) + "\n")
            self._events.flush()

    def write(self, name: str, value: Any) -> None:
        """Replaces a JSON file in one step."""
        self._replace(name, json.dumps(self._redactor.hide(value), indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replaces a text file in one step."""
        self._replace(name, str(self._redactor.hide(text)))

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)


def runs_in(project: Path) -> Path:
    """The folder of all runs."""
    return project / "runs"


def begin(request: Request, inventory: Mapping[str, Any], redactor: Redactor) -> RunFolder:
    """A new run's folder, or that of the run to go on with."""
    runs = runs_in(request.project)
    if request.resume is not None:
        folder = RunFolder(runs / request.resume, redactor)
        record = read_json(folder.path / "run.json")
    else:
        folder = RunFolder(_new(runs), redactor)
        record = {"schema": SCHEMA, "run": folder.name, "verb": request.verb, "attempts": []}
    record |= {
        "request": {
            "inventory": list(request.inventory),
            "limit": request.limit,
            "variables": dict(request.variables),
            "variable_files": list(request.variable_files),
            "check": request.check,
        },
        "versions": versions(request.project),
        "inventory_sha256": inventory_hash(inventory, redactor),
    }
    record["attempts"].append({"started": _now()})
    folder.write("run.json", record)
    return folder


def finish(folder: RunFolder, result: RunResult) -> None:
    """Writes what came of the run."""
    folder.write("result.json", result.to_object())
    words = [*result.messages, result.sentence, *([result.next_step] if result.next_step else [])]
    folder.write_text("report.txt", "\n\n".join(words) + "\n")
    record = read_json(folder.path / "run.json")
    record["attempts"][-1] |= {"ended": _now(), "verdict": result.verdict, "exit_code": result.exit_code}
    folder.write("run.json", record)


def resumed(request: Request) -> Request:
    """The request with what the run to go on with was asked, where it says nothing else.

    :raises UsageError: if there is no such run, it was of another verb, or its secrets have to be given again
    """
    if request.resume is None:
        return request
    record = find(request.project, request.resume)
    if record["verb"] != request.verb:
        raise UsageError(
            f"run {request.resume} is a `{record['verb']}`, not a `{request.verb}`. Go on with: "
            f"kubepin {record['verb']} --resume {request.resume}"
        )
    asked = record["request"]
    variables = {**asked["variables"], **request.variables}
    if hidden := sorted(_hidden(variables)):
        raise UsageError(
            f"run {request.resume} was given {', '.join(hidden)}, and secrets are not kept. Give "
            f"{'it' if len(hidden) == 1 else 'them'} again with -e, or in a vaulted file with -e @FILE."
        )
    return Request(
        verb=request.verb,
        inventory=request.inventory or tuple(asked["inventory"]),
        limit=request.limit or asked["limit"],
        variables=variables,
        variable_files=request.variable_files or tuple(asked["variable_files"]),
        check=request.check or asked["check"],
        become_password=request.become_password,
        resume=request.resume,
        project=request.project,
    )


def _hidden(variables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in variables.items():
        if HIDDEN in json.dumps(value):
            yield name


def read_inventory(request: Request) -> dict[str, Any]:
    """The inventory as Ansible reads it.

    :raises UsageError: if it cannot be read
    """
    for source in request.inventory:
        if "," not in source and not (request.project / source).exists():
            raise UsageError(
                f"the inventory {source} does not exist: expected a file or folder. Copy inventory/example to inventory/<site>, "
                "fill it in, and name it with -i."
            )
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "--list"]
    command += [argument for source in request.inventory for argument in ("-i", source)]
    try:
        done = subprocess.run(
            command, cwd=request.project, capture_output=True, text=True, check=True, timeout=_INVENTORY_TIMEOUT_SECONDS
        )
        return dict(json.loads(done.stdout))
    except subprocess.CalledProcessError as error:
        raise UsageError(f"the inventory cannot be read: {error.stderr.strip().splitlines()[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"the inventory was not read within {_INVENTORY_TIMEOUT_SECONDS} s: look at what its scripts or plugins wait for."
        ) from error


def inventory_hash(inventory: Mapping[str, Any], redactor: Redactor) -> str:
    """SHA-256 of the inventory without its secrets, so that the hash does not tell them either."""
    return hashlib.sha256(json.dumps(redactor.hide(inventory), sort_keys=True).encode()).hexdigest()


def versions(project: Path) -> dict[str, str]:
    """Of what ran: package or program to version."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=project, capture_output=True, text=True, check=False
        )
        found["kubepin"] = git.stdout.strip() or "unknown"
    except FileNotFoundError:
        found["kubepin"] = "unknown"
    return found


def find(project: Path, name: str) -> dict[str, Any]:
    """run.json of a run, or of the newest for ``last``.

    :raises UsageError: if there is none of that name
    """
    known = names(project)
    if name == "last" and known:
        name = known[-1]
    if name not in known:
        newest = f"the newest are {', '.join(known[-3:])}" if known else "there is none yet"
        raise UsageError(f"{name!r} is no run in {runs_in(project)}: {newest}. `kubepin runs` lists them.")
    return read_json(runs_in(project) / name / "run.json")


def names(project: Path) -> list[str]:
    """The names of the runs, oldest first."""
    return sorted(path.parent.name for path in runs_in(project).glob("*/run.json"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run's folder.

    :raises KubepinError: if it cannot be read
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise KubepinError(
            f"{path} cannot be read: {error}. It is written by kubepin; without it the run is not known."
        ) from error


def summaries(project: Path) -> list[dict[str, Any]]:
    """One entry a run, oldest first: name, verb, verdict, seconds of all attempts, hosts by outcome, sentence."""
    return [_summary(runs_in(project) / name) for name in names(project)]


def _summary(folder: Path) -> dict[str, Any]:
    record = read_json(folder / "run.json")
    result = read_json(folder / "result.json") if (folder / "result.json").is_file() else {}
    attempts = record["attempts"]
    ended = [attempt for attempt in attempts if "ended" in attempt]
    return {
        "run": record["run"],
        "verb": record["verb"],
        "attempts": len(attempts),
        "verdict": attempts[-1].get("verdict", "running or killed"),
        "seconds": round(sum(_seconds(attempt) for attempt in ended), 1),
        "outcomes": count(host["outcome"] for host in result.get("hosts", [])),
        "sentence": result.get("sentence", ""),
        "record": record,
        "hosts": {host["host"]: host for host in result.get("hosts", [])},
    }


def count(outcomes: Iterator[str] | list[str]) -> dict[str, int]:
    """How often each occurs, in order of appearance."""
    counted: dict[str, int] = {}
    for outcome in outcomes:
        counted[outcome] = counted.get(outcome, 0) + 1
    return counted


def compare(project: Path, a: str, b: str) -> list[tuple[str, str, str]]:
    """What differs between two runs: what, in A, in B. Equal lines are left out."""
    first, second = (_summary(runs_in(project) / str(find(project, name)["run"])) for name in (a, b))
    rows = [(key, str(first[key]), str(second[key])) for key in ("verb", "verdict", "seconds")]
    rows.append(("inventory", first["record"]["inventory_sha256"][:12], second["record"]["inventory_sha256"][:12]))
    for kind in ("request", "versions"):
        left, right = first["record"][kind], second["record"][kind]
        for key in dict.fromkeys((*left, *right)):
            rows.append((key, str(left.get(key, "-")), str(right.get(key, "-"))))
    for host in sorted({*first["hosts"], *second["hosts"]}):
        rows.append((host, *(_host(summary["hosts"].get(host)) for summary in (first, second))))
    return [row for row in rows if row[1] != row[2]]


def _host(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "not in the run"
    verdict = (result["facts"].get("kubepin_comparison") or {}).get("line")
    return "; ".join(part for part in (result["outcome"], verdict, result["first_cause"]) if part)


def _new(runs: Path) -> Path:
    runs.mkdir(exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        try:
            (runs / f"{name}{suffix}").mkdir()
        except FileExistsError:
            continue
        return runs / f"{name}{suffix}"
    raise KubepinError(f"{runs} has 99 runs of this second already: wait a second.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _seconds(attempt: Mapping[str, str]) -> float:
    return (datetime.fromisoformat(attempt["ended"]) - datetime.fromisoformat(attempt["started"])).total_seconds()


def environment_secrets() -> Mapping[str, str]:
    """The environment, for a `Redactor` to learn from."""
    return dict(os.environ)
