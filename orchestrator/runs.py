# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders below runs/, one a run.

This module writes `run.json` (request, versions, inventory), `events.jsonl`, `result.json` and `report.txt`; roles write
the other files. A `Redactor` removes secrets from everything that is written here. Only the user who runs kubepin can read
a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.history import Findings, findings, since_the_run_before
from orchestrator.model import SCHEMA, Event, KubepinError, RunRequest, RunResult, UsageError
from orchestrator.ownership import Held, Lock, Owner, is_held, now, read_owner
from orchestrator.records import (
    REPORT,
    RESULT,
    RUN,
    Attempt,
    HostRecord,
    RecordedRequest,
    RecordError,
    RunRecord,
    read_reports,
    read_result,
    read_run,
)
from orchestrator.redaction import HIDDEN, Redactor

EVENTS, LOCK = "events.jsonl", "lock"
RUNNING, KILLED = "running", "killed"
_PACKAGES = ("ansible-core", "ansible", "ansible-runner", "kubernetes", "rich", "numpy", "scipy")
_INVENTORY_TIMEOUT_SECONDS = 120
_STATE_VARIABLE, _STATE_GROUPS = "kubepin_node", "kubelet_"
"""What kubepin.tuning.gpu_nodes reads of a node's state, which a run changes."""


class RunFolder:
    """The folder of a run in progress, which this process has locked."""

    def __init__(self, path: Path, redactor: Redactor, lock: Lock, owner: Owner) -> None:
        self.path = path
        self._record: RunRecord | None = None
        self._redactor = redactor
        self._lock = lock
        self._owner = owner

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.name

    @contextmanager
    def released(self) -> Iterator[None]:
        """A context at whose end the folder is closed to other users, and can be resumed."""
        try:
            yield
        finally:
            _close_to_others(self.path)
            self._lock.release()

    def hidden(self, event: Event) -> Event:
        """The event, with its secrets hidden."""
        return Event(event.kind, self._redactor.hide(event.data), event.time)

    def add(self, event: Event) -> None:
        """Appends an event that `hidden` has returned.

        :raises OSError: if it cannot be written; then no part of it is left
        """
        line = (json.dumps(event.to_object()) + "\n").encode()
        descriptor = os.open(self.path / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)

    def write_record(self, record: RunRecord) -> None:
        """Replaces run.json.

        :raises OSError: if it cannot be written; the file then keeps its contents. So do the other methods
        """
        attempts = [{key: value for key, value in asdict(a).items() if value is not None} for a in record.attempts]
        self._write(RUN, {"schema": SCHEMA, **asdict(record), "attempts": attempts})
        self._record = record

    def write_result(self, result: RunResult) -> None:
        """Writes result.json, report.txt, and the end of the attempt into run.json."""
        self._write(RESULT, result.to_object())
        parts = [*result.messages, result.sentence, *([result.next_step] if result.next_step else [])]
        self._replace(REPORT, str(self._redactor.hide("\n\n".join(parts) + "\n")))
        if self._record is not None:
            *earlier, last = self._record.attempts
            ended = replace(last, ended=now(), verdict=str(result.verdict), exit_code=result.exit_code)
            self.write_record(replace(self._record, attempts=(*earlier, ended)))

    def note_verdict(self, verdict: str) -> None:
        """Writes the verdict into the lock file, which needs no space, if nothing else can be written."""
        with suppress(OSError):
            self._lock.write(replace(self._owner, verdict=verdict))

    def _write(self, name: str, value: Any) -> None:
        self._replace(name, json.dumps(self._redactor.hide(value), indent=2) + "\n")

    def _replace(self, name: str, text: str) -> None:
        new = self.path / f".{name}.new"
        try:
            with open(new, "w", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
                file.write(text)
            new.replace(self.path / name)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _close_to_others(folder: Path) -> None:
    """Takes all rights from group and others, on what the roles wrote too. Files of other users stay as they are."""
    for root, _, names in os.walk(folder):
        for path in (Path(root), *(Path(root) / name for name in names)):
            with suppress(OSError):
                if not path.is_symlink():
                    path.chmod(0o700 if path.is_dir() else 0o600)


def runs_in(project: Path) -> Path:
    """The folder of all runs."""
    return project / "runs"


def begin(request: RunRequest, inventory: Mapping[str, Any], redactor: Redactor, owner: Owner) -> RunFolder:
    """The folder of a new run, or of the run to resume, locked.

    :raises UsageError: if the run to resume is still running, or was started with another request or inventory, or if
        nothing can be written; then nothing was changed
    """
    runs = runs_in(request.project)
    asked, sha256 = recorded(request, redactor), inventory_hash(inventory, redactor)
    record = RunRecord(
        run=request.resume or "",
        verb=request.verb,
        request=asked,
        versions=versions(request.project),
        inventory_sha256=sha256,
        attempts=(Attempt(started=now(), request=asked, inventory_sha256=sha256),),
    )
    try:
        if request.resume is None:
            return _begin_new(runs, record, redactor, owner)
        return _begin_again(runs / request.resume, record, redactor, owner, request.with_changes)
    except OSError as error:
        raise UsageError(
            f"{error.filename or runs} cannot be written: {error.strerror}. Nothing was changed. Free space there, or "
            "move the project to a file system that this user can write and lock files on."
        ) from error


def _begin_new(runs: Path, record: RunRecord, redactor: Redactor, owner: Owner) -> RunFolder:
    path = _new(runs)
    try:
        folder = RunFolder(path, redactor, Lock.take(path / LOCK, owner), owner)
        folder.write_record(replace(record, run=path.name))
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return folder


def _begin_again(path: Path, new: RunRecord, redactor: Redactor, owner: Owner, with_changes: bool) -> RunFolder:
    lock = _take(path, owner)
    try:
        old = read_run(path)
        if not with_changes and (found := changes(old, new)):
            raise UsageError(
                f"run {path.name} was started with other values: {'; '.join(found)}. To resume it with the new ones, add "
                "--with-changes. To keep the old ones, pass them again, or leave the option out."
            )
        last = replace(old.attempts[-1], request=old.request, inventory_sha256=old.inventory_sha256)
        folder = RunFolder(path, redactor, lock, owner)
        folder.write_record(replace(new, attempts=(*old.attempts[:-1], last, *new.attempts)))
    except BaseException:
        lock.release()
        raise
    return folder


def _take(path: Path, owner: Owner) -> Lock:
    """:raises UsageError: if the run is still running, or processes that it started are"""
    earlier = read_owner(path / LOCK)
    try:
        if earlier and not is_held(path / LOCK) and (left := earlier.left_behind()):
            raise UsageError(
                f"run {path.name} was killed, but processes that it started still run: {'; '.join(left)}. Wait until they "
                "have ended, or end them with `kill`; then resume the run."
            )
        return Lock.take(path / LOCK, owner)
    except Held as held:
        raise UsageError(
            f"run {path.name} is still running: {held.owner or 'another process'}. Wait until it has ended, or stop it with "
            f"Ctrl-C there{f' or `kill {held.owner.pid}` on {held.owner.host}' if held.owner else ''}; then resume it."
        ) from held


def recorded(request: RunRequest, redactor: Redactor) -> RecordedRequest:
    """The request as run.json holds it, without secrets."""
    return RecordedRequest(
        inventory=tuple(redactor.hide(request.inventory)),
        limit=request.limit,
        variables=json.loads(json.dumps(redactor.hide(request.variables))),
        variable_files=request.variable_files,
        check=request.check,
    )


def changes(old: RunRecord, new: RunRecord) -> list[str]:
    """What differs between what was asked for, a phrase each."""
    before, after = old.request, new.request
    found = [
        f"{what}: {_shown(left)} -> {_shown(right)}"
        for what, left, right in (
            ("inventory", before.inventory, after.inventory),
            ("limit", before.limit, after.limit),
            ("files of variables", before.variable_files, after.variable_files),
            ("check", before.check, after.check),
        )
        if left != right
    ]
    for name in sorted({*before.variables, *after.variables}):
        left, right = before.variables.get(name), after.variables.get(name)
        if left != right:
            found.append(f"variable {name}: {_shown(left)} -> {_shown(right)}")
    if old.inventory_sha256 != new.inventory_sha256:
        found.append("the hosts, groups or variables in the inventory")
    return found


def _shown(value: Any) -> str:
    if value in (None, (), []):
        return "none"
    return ", ".join(value) if isinstance(value, tuple) else json.dumps(value)


def resumed(request: RunRequest) -> RunRequest:
    """The request, completed from the run that it resumes.

    :raises UsageError: if there is no such run, if it is damaged, if its verb was another one, or if secrets are missing
    """
    if request.resume is None:
        return request
    name = find(request.project, request.resume)
    record = read_run(runs_in(request.project) / name)
    if record.verb != request.verb:
        raise UsageError(
            f"run {name} belongs to `kubepin {record.verb}`. Resume it with: kubepin {record.verb} --resume {name}"
        )
    earlier = record.request
    variables = {**earlier.variables, **request.variables}
    hidden = sorted(_with_hidden_values(variables))
    if hidden and not request.variable_files:
        raise UsageError(
            f"run {name} used the secrets {', '.join(hidden)}, which kubepin does not store. "
            "Pass them again with -e, or with -e @FILE, a vaulted file, and --with-changes."
        )
    return replace(
        request,
        inventory=request.inventory or earlier.inventory,
        limit=request.limit or earlier.limit,
        variables={key: value for key, value in variables.items() if key not in hidden},
        variable_files=request.variable_files or earlier.variable_files,
        check=request.check or earlier.check,
        resume=name,
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
            command, cwd=request.project, capture_output=True, check=True, timeout=_INVENTORY_TIMEOUT_SECONDS
        )
        inventory = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"the inventory cannot be read: {lines[-1] if lines else error}") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"reading the inventory took longer than {_INVENTORY_TIMEOUT_SECONDS} s. Check its scripts and plugins."
        ) from error
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}. Run `make setup`.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"ansible-inventory did not print JSON: {error}. Run it to see why.") from error
    if not isinstance(inventory, dict):
        raise UsageError("ansible-inventory did not print an object. Run it to see why.")
    return inventory


def inventory_hash(inventory: Mapping[str, Any], redactor: Redactor) -> str:
    """SHA-256 of the inventory, without its secrets and without the state of the nodes."""
    return hashlib.sha256(json.dumps(redactor.hide(_without_state(inventory)), sort_keys=True).encode()).hexdigest()


def _without_state(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_state(entry)
            for key, entry in value.items()
            if key != _STATE_VARIABLE and not key.startswith(_STATE_GROUPS)
        }
    if isinstance(value, list):
        return [
            _without_state(entry) for entry in value if not (isinstance(entry, str) and entry.startswith(_STATE_GROUPS))
        ]
    return value


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
    except OSError:
        found["kubepin"] = "unknown"
    return found


def find(project: Path, name: str) -> str:
    """The name of a run; ``last`` stands for the newest run.

    :raises UsageError: if there is no such run
    """
    known = names(project)
    if name == "last" and known:
        name = known[-1]
    if name not in known:
        newest = f"The newest are {', '.join(known[-3:])}" if known else "There are no runs yet"
        raise UsageError(f"unknown run {name!r} in {runs_in(project)}. {newest}; `kubepin runs` lists all.")
    return name


def names(project: Path) -> list[str]:
    """The names of the runs, oldest first."""
    return sorted(path.parent.name for path in runs_in(project).glob(f"*/{RUN}"))


@dataclass(frozen=True)
class Summary:
    """A run in a list.

    :param verdict: that of the last attempt, or ``running``, or ``killed`` if it ended without one
    :param seconds: of all attempts that have ended
    :param outcomes: outcome to number of hosts
    :param sentence: how the last attempt ended; of a running run, which process runs it
    """

    run: str
    verb: str
    attempts: int
    verdict: str
    seconds: float
    outcomes: Mapping[str, int]
    sentence: str
    record: RunRecord
    hosts: Mapping[str, HostRecord]
    findings: Findings

    @property
    def started(self) -> str:
        """The start of the first attempt, in ISO 8601."""
        return self.record.attempts[0].started

    def to_object(self) -> dict[str, Any]:
        """The run in `kubepin runs --json`."""
        shown = ("run", "started", "verb", "attempts", "verdict", "seconds", "outcomes", "sentence")
        versions = {"versions": dict(self.record.versions)}
        return {key: getattr(self, key) for key in shown} | versions | {"benchmark": self.findings.to_object()}


def summaries(project: Path) -> tuple[list[Summary], list[RecordError]]:
    """All runs, newest first, and why others cannot be read. Each says what changed since the run before it."""
    found, damaged = [], []
    for name in names(project):
        try:
            found.append(summary(runs_in(project) / name))
        except RecordError as error:
            damaged.append(error)
    since = since_the_run_before([(run.run, run.findings) for run in found])
    return [replace(run, findings=since[run.run]) for run in reversed(found)], damaged


def summary(folder: Path) -> Summary:
    """One run.

    :raises RecordError: if its folder is damaged
    """
    record, result = read_run(folder), read_result(folder)
    running = _is_running(folder)
    owner = read_owner(folder / LOCK)
    hosts = {host.host: host for host in result.hosts}
    last = record.attempts[-1]
    ended = last.verdict or (owner.verdict if owner else "") or KILLED
    return Summary(
        run=record.run,
        verb=record.verb,
        attempts=len(record.attempts),
        verdict=RUNNING if running else ended,
        seconds=round(sum(attempt.seconds for attempt in record.attempts), 1),
        outcomes=count(host.outcome for host in result.hosts),
        sentence=str(owner or "") if running else result.sentence,
        record=record,
        hosts=hosts,
        findings=findings(record, hosts, read_reports(folder)),
    )


def _is_running(folder: Path) -> bool:
    try:
        return is_held(folder / LOCK)
    except OSError as error:
        raise RecordError(f"{folder / LOCK} cannot be locked: {error.strerror}.") from error


def count(outcomes: Iterable[str]) -> dict[str, int]:
    """The number of each outcome, in order of appearance."""
    counted: dict[str, int] = {}
    for outcome in outcomes:
        counted[outcome] = counted.get(outcome, 0) + 1
    return counted


def compare(project: Path, a: str, b: str) -> list[tuple[str, str, str]]:
    """The differences between two runs, as rows of name, value in A and value in B.

    :raises UsageError: if there is no such run, or if it is damaged
    """
    first, second = (summary(runs_in(project) / find(project, name)) for name in (a, b))
    rows = [(key, str(getattr(first, key)), str(getattr(second, key))) for key in ("verb", "verdict", "seconds")]
    rows.append(("inventory", first.record.inventory_sha256[:12], second.record.inventory_sha256[:12]))
    for left, right in (
        (asdict(first.record.request), asdict(second.record.request)),
        (first.record.versions, second.record.versions),
    ):
        for key in dict.fromkeys((*left, *right)):
            rows.append((key, str(left.get(key, "-")), str(right.get(key, "-"))))
    for host in sorted({*first.hosts, *second.hosts}):
        rows.append((host, _host(first.hosts.get(host)), _host(second.hosts.get(host))))
    return [row for row in rows if row[1] != row[2]]


def _host(host: HostRecord | None) -> str:
    if host is None:
        return "not in the run"
    return "; ".join(part for part in (host.outcome, host.comparison, host.first_cause) if part)


def _new(runs: Path) -> Path:
    runs.mkdir(exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        try:
            (runs / f"{name}{suffix}").mkdir(mode=0o700)
        except FileExistsError:
            continue
        return runs / f"{name}{suffix}"
    raise KubepinError(f"{runs} already has 99 runs that started in this second. Try again.")


def environment_secrets() -> Mapping[str, str]:
    """The environment, for a `Redactor`."""
    return dict(os.environ)
