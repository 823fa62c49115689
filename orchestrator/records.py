# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads `run.json` and `result.json` of a run's folder into typed values. Damaged files are a `RecordError`, never another."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from orchestrator.model import SCHEMA, VERBS, UsageError
from orchestrator.values import DEEPEST, as_object, is_deep

RUN, RESULT, REPORT = "run.json", "result.json", "report.txt"
BENCHMARK_REPORT = "report.json"
REPORT_SCHEMAS = (3, 4)
"""Schemas of the benchmark's reports that can be read (docs/facts.md)."""
_LONGEST = 60
_T = TypeVar("_T")


class RecordError(UsageError):
    """A file of a run's folder is missing, cannot be read, or is not what kubepin writes."""


@dataclass(frozen=True)
class RecordedRequest:
    """A request as it is stored: secrets are hidden."""

    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False


@dataclass(frozen=True)
class Attempt:
    """One start of a run. `started` and `ended` are ISO 8601 with a time zone; without an end, the last four are None.

    :param request: what this attempt was asked to do
    :param inventory_sha256: see `runs.inventory_hash`
    """

    started: str
    request: RecordedRequest | None = None
    inventory_sha256: str | None = None
    ended: str | None = None
    verdict: str | None = None
    exit_code: int | None = None

    @property
    def seconds(self) -> float:
        """From start to end; 0 without an end."""
        if self.ended is None:
            return 0.0
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()


@dataclass(frozen=True)
class RunRecord:
    """The contents of run.json; request and inventory are those of the last attempt."""

    run: str
    verb: str
    request: RecordedRequest
    versions: Mapping[str, str]
    inventory_sha256: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class MeasurementRecord:
    """A measurement of the benchmark in result.json. What is not known is empty."""

    label: str
    policy: str
    kubelet: str


@dataclass(frozen=True)
class HostRecord:
    """A host in result.json. `comparison` is the line of its benchmark, `node` the name of its node if it was measured."""

    host: str
    outcome: str
    first_cause: str | None
    comparison: str | None
    node: str = ""
    measurements: tuple[MeasurementRecord, ...] = ()


@dataclass(frozen=True)
class ResultRecord:
    """The part of result.json that lists and comparisons show."""

    sentence: str = ""
    hosts: tuple[HostRecord, ...] = ()


def read_run(folder: Path) -> RunRecord:
    """run.json of a run.

    :raises RecordError: if it is damaged
    """
    record = _Object.of_file(folder / RUN)
    attempts = tuple(_attempt(entry) for entry in record.objects("attempts"))
    if not attempts:
        record.refuse("attempts", "expected at least one")
    verb = record.get("verb", str)
    if verb not in VERBS:
        record.refuse("verb", f"expected one of {', '.join(VERBS)}")
    versions = record.object("versions")
    return RunRecord(
        run=folder.name,
        verb=verb,
        request=_request(record.object("request")),
        versions={name: versions.get(name, str) for name in versions.names},
        inventory_sha256=record.get("inventory_sha256", str),
        attempts=attempts,
    )


def read_result(folder: Path) -> ResultRecord:
    """result.json of a run; an empty one if no attempt has ended.

    :raises RecordError: if it is damaged
    """
    if not (folder / RESULT).exists():
        return ResultRecord()
    result = _Object.of_file(folder / RESULT)
    return ResultRecord(result.get("sentence", str), tuple(_host(entry) for entry in result.objects("hosts")))


@dataclass(frozen=True)
class ContrastRecord:
    """A question under a load in a report: the time of the arm before over that of the arm after, with its interval.

    `name` and `load_name` are for people; in reports of earlier versions they are the codes.
    """

    question: str
    name: str
    load: str
    load_name: str
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class ReportRecord:
    """A report of the benchmark. `advice` is the code of the recommendation, or else of the verdict; `lead` says it."""

    node: str
    advice: str
    lead: str
    line: str
    contrasts: tuple[ContrastRecord, ...]
    environment: Mapping[str, Any]


def read_reports(folder: Path) -> tuple[ReportRecord, ...]:
    """The reports of the benchmark in a run's folder, by node (benchmark/NODE/report.json and below).

    Those that another version of kubepin wrote are left out.

    :raises RecordError: if one of them is damaged
    """
    root = folder / "benchmark"
    found = sorted(root.rglob(BENCHMARK_REPORT)) if root.is_dir() else []
    reports = [(path.relative_to(root).parts[0], _Object.of_json(path)) for path in found]
    return tuple(_report(report, node) for node, report in reports if report.values.get("schema") in REPORT_SCHEMAS)


def _report(report: _Object, node: str) -> ReportRecord:
    advice = report.optional("recommendation", str) or report.get("verdict", str)
    contrasts = report.objects("contrasts") if "contrasts" in report.names else ()
    return ReportRecord(
        node=node,
        advice=advice,
        lead=report.optional("lead", str) or advice.replace("_", " "),
        line=report.get("line", str),
        contrasts=tuple(
            ContrastRecord(
                question=one.get("question", str),
                name=one.optional("name", str) or one.get("question", str),
                load=one.get("load", str),
                load_name=one.optional("load_name", str) or one.get("load", str),
                ratio=one.number("ratio"),
                low=one.number("low"),
                high=one.number("high"),
                verdict=one.get("verdict", str),
            )
            for one in contrasts
        ),
        environment=report.object("environment").values if "environment" in report.names else {},
    )


def read_text(path: Path) -> str:
    """The text of a file.

    :raises RecordError: if it cannot be read
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecordError(f"{path} is not a regular file. {_way_out(path)}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}. {_way_out(path)}") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 (byte {error.start}). {_way_out(path)}") from error


def _way_out(path: Path) -> str:
    return f"Restore the file, or remove {path.parent}."


def _attempt(attempt: _Object) -> Attempt:
    return Attempt(
        started=attempt.time("started"),
        request=_request(attempt.object("request")) if "request" in attempt.names else None,
        inventory_sha256=attempt.optional("inventory_sha256", str),
        ended=attempt.time("ended") if "ended" in attempt.names else None,
        verdict=attempt.optional("verdict", str),
        exit_code=attempt.optional("exit_code", int),
    )


def _request(request: _Object) -> RecordedRequest:
    return RecordedRequest(
        inventory=request.texts("inventory"),
        limit=request.optional("limit", str),
        variables=request.object("variables").values,
        variable_files=request.texts("variable_files"),
        check=request.get("check", bool),
    )


def _host(host: _Object) -> HostRecord:
    facts = host.object("facts").values
    line = as_object(facts.get("kubepin_comparison")).get("line")
    benchmark = as_object(facts.get("kubepin_benchmark"))
    measured = {label: as_object(run) for label, run in as_object(benchmark.get("runs")).items()}
    return HostRecord(
        host=host.get("host", str),
        outcome=host.get("outcome", str),
        first_cause=host.optional("first_cause", str),
        comparison=line if isinstance(line, str) else None,
        node=str(benchmark.get("node") or ""),
        measurements=tuple(
            MeasurementRecord(label, str(run.get("policy") or ""), str(run.get("kubelet") or ""))
            for label, run in measured.items()
        ),
    )


class _Object:
    """A JSON object, and where it stands."""

    def __init__(self, path: Path, values: Any, place: str = "") -> None:
        self._path = path
        self._place = place
        if not isinstance(values, dict):
            self._refuse(place or "it", values, "expected an object")
        self.values: dict[str, Any] = values

    @classmethod
    def of_json(cls, path: Path) -> _Object:
        text = read_text(path)
        try:
            values = json.loads(text)
            if is_deep(values):
                raise RecursionError
        except ValueError as error:
            raise RecordError(f"{path} is not JSON: {error}. {_way_out(path)}") from error
        except RecursionError as error:
            raise RecordError(f"{path} is nested deeper than {DEEPEST} levels. {_way_out(path)}") from error
        return cls(path, values)

    @classmethod
    def of_file(cls, path: Path) -> _Object:
        found = cls.of_json(path)
        if found.get("schema", int) != SCHEMA:
            found.refuse("schema", f"expected {SCHEMA}; another version of kubepin wrote it")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def get(self, name: str, kind: type[_T]) -> _T:
        if name not in self.values:
            raise RecordError(f"{self._path} lacks {self._at(name)}. {_way_out(self._path)}")
        value = self.values[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(name, f"expected {_KINDS[kind]}")
        return value

    def optional(self, name: str, kind: type[_T]) -> _T | None:
        return None if self.values.get(name) is None else self.get(name, kind)

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.refuse(name, "expected a number")
        return value

    def object(self, name: str) -> _Object:
        return _Object(self._path, self.get(name, dict), self._at(name))

    def objects(self, name: str) -> tuple[_Object, ...]:
        entries = enumerate(self.get(name, list))
        return tuple(_Object(self._path, entry, f"{self._at(name)}[{number}]") for number, entry in entries)

    def texts(self, name: str) -> tuple[str, ...]:
        entries: list[Any] = self.get(name, list)
        if not all(isinstance(entry, str) for entry in entries):
            self.refuse(name, "expected a list of texts")
        return tuple(entries)

    def time(self, name: str) -> str:
        text = self.get(name, str)
        try:
            aware = datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            self.refuse(name, "expected a time such as 2026-11-27T09:33:02.000+00:00")
        return text

    def refuse(self, name: str, expected: str) -> NoReturn:
        self._refuse(self._at(name), self.values[name], expected)

    def _refuse(self, place: str, value: Any, expected: str) -> NoReturn:
        text = json.dumps(value)
        shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        raise RecordError(f"{self._path}: {place} is {shown}; {expected}. {_way_out(self._path)}")

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


_KINDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
