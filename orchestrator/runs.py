# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders below runs/, one a run.

This module writes `run.json` (request, versions, inventory), `events.jsonl`, `result.json` and `report.txt`; roles write
the other files. A `Redactor` removes secrets from everything that is written here.
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

from orchestrator.model import SCHEMA, Event, KubepinError, RunRequest, RunResult, UsageError
from orchestrator.redaction import HIDDEN, Redactor

_PACKAGES = ("ansible-core", "ansible", "ansible-runner", "kubernetes", "rich", "numpy", "scipy")
_INVENTORY_TIMEOUT_SECONDS = 120


class RunFolder:
    """The folder of a run in progress."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._events: TextIO | None = None

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.name

    @property
    def control(self) -> Path:
        """The folder for messages to and from the playbooks: the stop file and the progress of drains."""
        return self.path / "control"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A context in which events can be added and the control folder exists."""
        shutil.rmtree(self.control, ignore_errors=True)
        self.control.mkdir()
        try:
            with (self.path / "events.jsonl").open("a", encoding="utf-8") as self._events:
                yield
        finally:
            self._events = None
            shutil.rmtree(self.control, ignore_errors=True)

    def hidden(self, event: Event) -> Event:
        """The event, with its secrets hidden."""
        return Event(event.kind, self._redactor.hide(event.data), event.time)

    def add(self, event: Event) -> None:
        """Appends an event that `hidden` has returned."""
        if self._events is not None:
            self._events.write(json.dumps(event.to_object()) + "\n")
            self._events.flush()

    def write(self, name: str, value: Any) -> None:
        """Replaces a JSON file atomically."""
        self._replace(name, json.dumps(self._redactor.hide(value), indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replaces a text file atomically."""
        self._replace(name, str(self._redactor.hide(text)))

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)


def runs_in(project: Path) -> Path:
    """The folder of all runs."""
    return project / "runs"


def begin(request: RunRequest, inventory: Mapping[str, Any], redactor: Redactor) -> RunFolder:
    """The folder of a new run, or of the run to resume."""
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
    """Writes the result of the run."""
    folder.write("result.json", result.to_object())
    parts = [*result.messages, result.sentence, *([result.next_step] if result.next_step else [])]
    folder.write_text("report.txt", "\n\n".join(parts) + "\n")
    record = read_json(folder.path / "run.json")
    record["attempts"][-1] |= {"ended": _now(), "verdict": result.verdict, "exit_code": result.exit_code}
    folder.write("run.json", record)


def resumed(request: RunRequest) -> RunRequest:
    """The request, completed from the run that it resumes.

    :raises UsageError: if there is no such run, if its verb was another one, or if secrets are missing
    """
    if request.resume is None:
        return request
    record = find(request.project, request.resume)
    if record["verb"] != request.verb:
        raise UsageError(
            f"run {request.resume} belongs to `kubepin {record['verb']}`. Resume it with: "
            f"kubepin {record['verb']} --resume {request.resume}"
        )
    earlier = record["request"]
    variables = {**earlier["variables"], **request.variables}
    if hidden := sorted(_with_hidden_values(variables)):
        raise UsageError(
            f"run {request.resume} used the secrets {', '.join(hidden)}, which kubepin does not store. "
            "Pass them again with -e, or with -e @FILE and a vaulted file."
        )
    return RunRequest(
        verb=request.verb,
        inventory=request.inventory or tuple(earlier["inventory"]),
        limit=request.limit or earlier["limit"],
        variables=variables,
        variable_files=request.variable_files or tuple(earlier["variable_files"]),
        check=request.check or earlier["check"],
        become_password=request.become_password,
        resume=request.resume,
        project=request.project,
    )


def _with_hidden_values(variables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in variables.items():
        if HIDDEN in json.dumps(value):
            yield name


def read_inventory(request: RunRequest) -> dict[str, Any]:
    """The inventory as Ansible reads it.

    :raises UsageError: if it cannot be read
    """
    for source in request.inventory:
        if "," not in source and not (request.project / source).exists():
            raise UsageError(
                f"the inventory {source} does not exist. Copy inventory/example to inventory/<site>, edit it, and pass it "
                "with -i."
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
            f"reading the inventory took longer than {_INVENTORY_TIMEOUT_SECONDS} s. Check its scripts and plugins."
        ) from error


def inventory_hash(inventory: Mapping[str, Any], redactor: Redactor) -> str:
    """SHA-256 of the inventory, without its secrets."""
    return hashlib.sha256(json.dumps(redactor.hide(inventory), sort_keys=True).encode()).hexdigest()


def versions(project: Path) -> dict[str, str]:
    """Package or program to version."""
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
    """The contents of run.json of a run; ``last`` stands for the newest run.

    :raises UsageError: if there is no such run
    """
    known = names(project)
    if name == "last" and known:
        name = known[-1]
    if name not in known:
        newest = f"The newest are {', '.join(known[-3:])}" if known else "There are no runs yet"
        raise UsageError(f"unknown run {name!r} in {runs_in(project)}. {newest}; `kubepin runs` lists all.")
    return read_json(runs_in(project) / name / "run.json")


def names(project: Path) -> list[str]:
    """The names of the runs, oldest first."""
    return sorted(path.parent.name for path in runs_in(project).glob("*/run.json"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run's folder.

    :raises KubepinError: if it cannot be read
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise KubepinError(f"{path} cannot be read: {error}. Restore the file, or remove the run's folder.") from error


def summaries(project: Path) -> list[dict[str, Any]]:
    """All runs, oldest first: name, verb, verdict, seconds of all attempts, hosts by outcome, sentence."""
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
    """The number of each outcome, in order of appearance."""
    counted: dict[str, int] = {}
    for outcome in outcomes:
        counted[outcome] = counted.get(outcome, 0) + 1
    return counted


def compare(project: Path, a: str, b: str) -> list[tuple[str, str, str]]:
    """The differences between two runs, as rows of name, value in A and value in B."""
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
    raise KubepinError(f"{runs} already has 99 runs that started in this second. Try again.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _seconds(attempt: Mapping[str, str]) -> float:
    return (datetime.fromisoformat(attempt["ended"]) - datetime.fromisoformat(attempt["started"])).total_seconds()


def environment_secrets() -> Mapping[str, str]:
    """The environment, for a `Redactor`."""
    return dict(os.environ)
