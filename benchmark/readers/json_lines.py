# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON lines, schema 1: one object per line, UTF-8, each line ends with a newline.

Keys not named here are ignored, null means absent, and lines that begin with # are messages for people.

- All lines: schema (1), kind ("process", "block" or "end"), run_id (text; one for all rounds of an arm), arm (text),
  round (integer from 1; rounds of equal number are compared), process (integer from 0, within round and arm). Optional:
  tenant (integer from 0), tenants (integer from 1) and load (solo, full, busy; what else ran on the node).
- kind "process": env, an object of scalars (gpu, gpu_uuid, driver, cuda, cudnn, torch, host, cpu_count, threads, ...).
  Optional: began (seconds since 1970; else env.started, an ISO time).
- kind "block": model (text), precision (half, float, double), mode (text: train, inference, ...), batch (integer
  from 1), status (ok, oom, skipped), iter_ms (milliseconds of each step in run order; required and not empty for ok).
  Optional: reason (text), control (true for a negative control), order (integer from 0), visit (integer from 0; 0 if
  absent), slot (integer from 0), started (seconds since 1970), counters (an object of numbers over the block), and
  lists as long as iter_ms: data_ms, h2d_ms, enqueue_ms, wait_ms.
- kind "end": status "done". Optional: ended (seconds since 1970; else the end of the last block). A process without it
  ended early; its complete blocks count.
- kind "ready": a tenant waits for the others. Ignored.

The visits of a process to a cell are joined. Each *-loader cell also yields a *-step cell, h2d + enqueue + wait of the
same steps, which is what the original benchmark times. A last line that is not JSON was cut by the end of the process;
it is ignored with a note.

Each block is one measurement, so the same block twice, a block of no process, and a block with the times of another one
are refused: they would count as replicates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple, get_args

from .. import wording
from ..experiment import Load
from ..pod.cells import PRECISIONS, Cell
from ..pod.words import count
from ..results import SCHEMA, Block, InputError, Note, NoteCode, Process, ResultSet, Scalar, Status, Timing
from ..roles import shown_name
from .original_log import is_log
from .plausible import LEAST_STEPS, LONGEST_MS, SHORTEST_MS, constant, is_constant, largest_ratio, short

# Counters span the steps and the time between them, so steps cannot take longer, nor almost none of that time. The same
# holds for the parts of a step.
_SHARE = (0.01, 1.1)

_IGNORED = "ready"
_FAILED: tuple[Status, ...] = ("oom", "skipped")
_PARTS_KEYS = ("data_ms", "h2d_ms", "enqueue_ms", "wait_ms")
_STEP_PARTS = ("h2d_ms", "enqueue_ms", "wait_ms")
_LOADER, _DERIVED = "-loader", "-step"


@dataclass(frozen=True)
class _Rule:
    """What a key must contain, as a text and as a check."""

    expected: str
    holds: Callable[[Any], bool]


def _integer_from(least: int) -> _Rule:
    return _Rule(f"an integer from {least}", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least)


def _one_of(choices: Iterable[str]) -> _Rule:
    names = tuple(choices)
    return _Rule(f"one of {', '.join(names)}", lambda v: v in names)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _is_times(value: Any, least: float) -> bool:
    return isinstance(value, list) and all(_is_number(v) and least <= v <= LONGEST_MS for v in value)


_TEXT = _Rule("text that is not empty", lambda v: isinstance(v, str) and bool(v))
_STEPS = _Rule("a list of ms, each above 0 and up to 1e6", lambda v: _is_times(v, math.ulp(0.0)))
_MOMENT = _Rule("seconds since 1970", lambda v: _is_number(v) and v > 0)
_PARTS = _Rule("a list of ms, each from 0 to 1e6", lambda v: _is_times(v, 0.0))
_ENV = _Rule(
    "an object of texts, numbers, true, false and null",
    lambda v: isinstance(v, dict) and all(x is None or isinstance(x, str | int | float) for x in v.values()),
)
_COUNTERS = _Rule(
    "an object of numbers and null",
    lambda v: isinstance(v, dict) and all(x is None or _is_number(x) for x in v.values()),
)
_EVERY_LINE = {"run_id": _TEXT, "arm": _TEXT, "round": _integer_from(1), "process": _integer_from(0)}
_PLACE = {"tenant": _integer_from(0), "tenants": _integer_from(1), "load": _one_of(Load)}
_REQUIRED: dict[str, dict[str, _Rule]] = {
    "process": {**_EVERY_LINE, "env": _ENV},
    "block": {
        **_EVERY_LINE,
        "model": _TEXT,
        "precision": _one_of(PRECISIONS),
        "mode": _TEXT,
        "batch": _integer_from(1),
        "status": _one_of(get_args(Status)),
    },
    "end": {**_EVERY_LINE, "status": _one_of(["done"])},
}
_OPTIONAL: dict[str, dict[str, _Rule]] = {
    "process": {**_PLACE, "began": _MOMENT},
    "block": {
        **_PLACE,
        "iter_ms": _STEPS,
        **dict.fromkeys(_PARTS_KEYS, _PARTS),
        "control": _Rule("true or false", lambda v: isinstance(v, bool)),
        "order": _integer_from(0),
        "visit": _integer_from(0),
        "slot": _integer_from(0),
        "started": _MOMENT,
        "reason": _Rule("a text", lambda v: isinstance(v, str)),
        "counters": _COUNTERS,
    },
    "end": {**_PLACE, "ended": _MOMENT},
}


class _Origin(NamedTuple):
    """The process that wrote a line."""

    run_id: str
    arm: str
    load: str
    round: int
    process: int
    tenant: int

    def order(self) -> tuple[int, int, str, int]:
        """For sorting: as the processes ran."""
        return self.round, self.process, self.load, self.tenant

    def __str__(self) -> str:
        tenant = f", tenant {self.tenant}" if self.tenant else ""
        load = "" if self.load == Load.SOLO else f", load {self.load}"
        return f"run {self.run_id}, arm {self.arm}, round {self.round}, process {self.process}{tenant}{load}"


@dataclass(frozen=True)
class _Line:
    """A valid line. `values` holds its keys that are not null."""

    file: str
    number: int
    values: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"

    @property
    def kind(self) -> str:
        return str(self.values["kind"])

    @property
    def origin(self) -> _Origin:
        v = self.values
        load, tenant = v.get("load", Load.SOLO.value), v.get("tenant", 0)
        return _Origin(v["run_id"], v["arm"], load, v["round"], v["process"], tenant)

    @property
    def cell(self) -> Cell:
        """Of a block."""
        v = self.values
        return Cell(v["model"], v["precision"], v["mode"], v["batch"])

    @property
    def visit(self) -> int:
        """Of a block."""
        return int(self.values.get("visit", 0))

    @property
    def steps(self) -> tuple[float, ...]:
        """The ms of a block's steps; none if it failed."""
        return tuple(self.values["iter_ms"]) if self.values.get("status") == "ok" else ()


@dataclass(frozen=True)
class _Lines:
    """Valid lines of some files; `where` names the files."""

    where: str
    lines: tuple[_Line, ...]
    notes: tuple[Note, ...]

    def arms(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(line.origin.arm for line in self.lines))


def parse_json_lines(files: Mapping[str, str], label: str, arm: str | None = None) -> ResultSet:
    """Our JSON lines, by file name: the arm named `arm`, or the only one. Raises InputError."""
    found = _parse(files)
    arms = found.arms()
    if arm is None and len(arms) > 1:
        listed, where = ", ".join(arms), found.where
        raise InputError([f"{where}: has the arms {listed}: expected one. Name it after an @: {where}@{arms[0]}"])
    return _arm(found, label, arm)


def parse_arms(files: Mapping[str, str]) -> dict[str, ResultSet]:
    """Every arm of our JSON lines, by name, in order of appearance, each labelled with its name. Raises InputError."""
    found = _parse(files)
    if not found.arms():
        _arm(found, "", None)
    return {arm: _arm(found, arm, arm) for arm in found.arms()}


def parse_runs(files: Mapping[str, str]) -> dict[str, dict[str, ResultSet]]:
    """Every arm of each run of our JSON lines: run -> arm -> results, in order of appearance. Raises InputError."""
    found = _parse(files)
    runs: dict[str, dict[str, ResultSet]] = {}
    for run in dict.fromkeys(line.origin.run_id for line in found.lines):
        own = replace(found, lines=tuple(line for line in found.lines if line.origin.run_id == run))
        runs[run] = {arm: _arm(own, arm, arm) for arm in own.arms()}
    if not runs:
        _arm(found, "", None)
    return runs


def _parse(files: Mapping[str, str]) -> _Lines:
    problems: list[str] = []
    notes: list[Note] = []
    lines: list[_Line] = []
    for name, text in sorted(files.items()):
        rows = text.split("\n")
        if not any(row.startswith("{") for row in rows) and is_log(text):
            problems.append(
                f"{name}: is a log of the original benchmark: expected JSON lines, one object per line. "
                f"Give two logs to `compare`, or name a .jsonl file."
            )
            continue
        for number, row in enumerate(rows, 1):
            if not row.strip() or row.startswith("#"):
                continue
            place = f"{name}:{number}"
            try:
                line = json.loads(row)
            except (ValueError, RecursionError):
                if number == len(rows):
                    notes.append(wording.note(NoteCode.LAST_LINE_CUT, place=place))
                else:
                    problems.append(f"{place}: {short(row)} is not JSON: expected one object per line. Remove it.")
                continue
            if isinstance(line, dict) and line.get("kind") == _IGNORED:
                continue
            found = _line_problems(line)
            problems += [f"{place}: {problem}" for problem in found]
            if not found:
                lines.append(_Line(name, number, {key: value for key, value in line.items() if value is not None}))
    problems += _between_lines(lines, complete=not problems)
    if problems:
        raise InputError(problems)
    return _Lines(", ".join(sorted(files)), tuple(lines), tuple(notes))


def _line_problems(line: Any) -> list[str]:
    """All reasons why a parsed line does not follow the schema."""
    if not isinstance(line, dict) or line.get("schema") != SCHEMA or line.get("kind") not in tuple(_REQUIRED):
        return [
            f"{short(json.dumps(line))}: expected an object with schema {SCHEMA} and kind process, block or end. "
            f"Read it with the version that wrote it, or remove it."
        ]
    problems = []
    for key, rule in _REQUIRED[line["kind"]].items():
        if key not in line:
            problems.append(f"{key} is missing: expected {rule.expected}. Add it, or remove the line.")
        elif not rule.holds(line[key]):
            problems.append(_expected(key, line[key], rule))
    present = {key: rule for key, rule in _OPTIONAL[line["kind"]].items() if line.get(key) is not None}
    problems += [_expected(key, line[key], rule) for key, rule in present.items() if not rule.holds(line[key])]
    if not problems and (tenants := line.get("tenants") or 1) <= (tenant := line.get("tenant") or 0):
        problems.append(_expected("tenant", tenant, _Rule(f"less than tenants, which is {tenants}", bool)))
    if line["kind"] == "block":
        problems += _block_problems(line, sound=not problems)
    return problems


def _block_problems(block: dict[str, Any], *, sound: bool) -> list[str]:
    """What is wrong with the times of a block; if its keys are not `sound`, only whether it has any."""
    if block.get("status") != "ok":
        return []
    if not block.get("iter_ms"):
        return ["iter_ms is missing or empty: expected ms for status ok. Set the status to skipped."]
    if not sound:
        return []
    lengths = [
        f"{key} has {count(len(block[key]), 'value')}: expected {len(block['iter_ms'])}, as iter_ms has. Remove {key}."
        for key in _PARTS_KEYS
        if block.get(key) is not None and len(block[key]) != len(block["iter_ms"])
    ]
    return lengths or _unit_problems(block)


def _unit_problems(block: dict[str, Any]) -> list[str]:
    """Steps that no clock measured in ms: too short, all equal, or in another unit than the rest of the block."""
    remedy = "Convert the file to ms, or run the benchmark again."
    steps = block["iter_ms"]
    total = math.fsum(steps)
    if (mean := total / len(steps)) < SHORTEST_MS:
        return [f"iter_ms is {mean:g} on average: milliseconds of a step are {SHORTEST_MS:g} or more. {remedy}"]
    if is_constant(steps) and not block.get("control"):  # whose replays the GPU's own clock times
        return [f"iter_ms: {constant(steps)}"]
    wall_ms = (block.get("counters") or {}).get("wall_ms")
    if wall_ms and not _SHARE[0] <= total / wall_ms <= _SHARE[1]:
        return [f"iter_ms adds up to {total:g} in a block of wall_ms {wall_ms:g}: expected the same unit, ms. {remedy}"]
    parts = [key for key in _PARTS_KEYS if block.get(key)]
    whole = {"enqueue_ms", "wait_ms"} <= set(parts)  # enqueue and wait alone are almost all of some steps
    of_parts = math.fsum(step for key in parts for step in block[key])
    if not block.get("control") and whole and not _SHARE[0] <= of_parts / total <= _SHARE[1]:
        return [
            f"{', '.join(parts)} add up to {of_parts:g}, iter_ms to {total:g}: expected parts of the same steps in the "
            f"same unit, ms. {remedy}"
        ]
    return []


def _expected(key: str, value: Any, rule: _Rule) -> str:
    return f"{key} is {short(json.dumps(value))}: expected {rule.expected}. Correct it, or remove the line."


def _between_lines(lines: Sequence[_Line], *, complete: bool) -> list[str]:
    """What is wrong with lines that are valid by themselves; without the refused ones, they may not be `complete`."""
    blocks = [line for line in lines if line.kind == "block"]
    problems = _repeated(blocks)
    if not problems:
        on_cpu = {line.origin for line in lines if line.kind == "process" and line.values["env"].get("device") == "cpu"}
        problems = [*_copied(blocks), *_unequal(blocks, on_cpu)]
    return [*(_orphans(lines) if complete else []), *problems]


def _orphans(lines: Sequence[_Line]) -> list[str]:
    """Blocks and ends of processes that have no line of their own."""
    known = {line.origin for line in lines if line.kind == "process"}
    lost: dict[_Origin, list[_Line]] = {}
    for line in lines:
        if line.origin not in known:
            lost.setdefault(line.origin, []).append(line)
    return [
        f"{own[0].place}: {count(len(own), 'line')} of {origin} without its line of kind process: expected that line, "
        f"which a process writes first. Give all files of the run, or remove the lines."
        for origin, own in lost.items()
    ]


def _repeated(blocks: Iterable[_Line]) -> list[str]:
    """Blocks that are there twice, by pair of files."""
    seen: dict[tuple[_Origin, Cell, int], _Line] = {}
    pairs: dict[tuple[str, str], list[tuple[_Line, _Line]]] = {}
    for block in blocks:
        first = seen.setdefault((block.origin, block.cell, block.visit), block)
        if first is not block:
            pairs.setdefault((first.file, block.file), []).append((first, block))
    return [
        f"{block.place}: repeats {first.place}: {block.cell}, visit {block.visit} of {block.origin}"
        f"{_and_more(found, 'line')}: expected each once. "
        + (f"Remove {b}, or the lines in it." if a != b else "Remove the lines that were added.")
        for (a, b), found in pairs.items()
        for first, block in found[:1]
    ]


def _copied(blocks: Iterable[_Line]) -> list[str]:
    """Blocks with the times of another block of their arm, by pair of processes."""
    seen: dict[tuple[str, tuple[float, ...]], _Line] = {}
    pairs: dict[tuple[_Origin, _Origin], list[tuple[_Line, _Line]]] = {}
    for block in blocks:
        if len(block.steps) >= LEAST_STEPS:
            first = seen.setdefault((block.origin.arm, block.steps), block)
            if first is not block:
                pairs.setdefault((first.origin, block.origin), []).append((first, block))
    return [
        f"{block.place}: the {count(len(block.steps), 'step')} of {block.cell} in {b} take exactly the times of "
        f"{first.place}, {a}{_and_more(found, 'block')}: expected times of its own. "
        f"Measure that round again, or remove it."
        for (a, b), found in pairs.items()
        for first, block in found[:1]
    ]


def _unequal(blocks: Iterable[_Line], on_cpu: Set[_Origin]) -> list[str]:
    """Cells whose mean step differs between blocks of an arm, load and device as only units differ."""
    cells: dict[tuple[str, str, Cell, bool], list[tuple[float, str]]] = {}
    for block in blocks:
        if block.steps:
            mean = math.fsum(block.steps) / len(block.steps)
            key = (block.origin.arm, block.origin.load, block.cell, block.origin in on_cpu)
            cells.setdefault(key, []).append((mean, block.place))
    problems = []
    for (arm, _load, cell, cpu), means in cells.items():
        (least, quick), (most, slow) = min(means), max(means)
        times = largest_ratio(on_cpu=cpu)
        if most > times * least:
            problems.append(
                f"{slow}: {cell} of arm {arm} takes {most:g} ms a step, but {least:g} ms in {quick}: expected the same "
                f"unit, and at most {times:g} times as long. Convert the lines to ms, or measure again."
            )
    return problems


def _and_more(found: list[Any], noun: str) -> str:
    return f", and {count(len(found) - 1, f'more {noun}')}" if len(found) > 1 else ""


def _arm(found: _Lines, label: str, arm: str | None) -> ResultSet:
    """One arm, which must come from one run and one model of GPU; None means the only arm."""
    lines = [line for line in found.lines if arm is None or line.origin.arm == arm]
    where, arms = found.where, found.arms()
    if not any(line.kind == "block" for line in lines):
        measured = dict.fromkeys(line.origin.arm for line in found.lines if line.kind == "block")
        wanted = f"of arm {arm!r} (it has {', '.join(measured) or 'none'})" if arm else "at all"
        raise InputError([f"{where}: has no block {wanted}: expected lines of kind block. Name another arm or file."])
    problems = []
    runs = sorted({line.origin.run_id for line in lines})
    of_arm = f"arm {arm} of " if len(arms) > 1 else ""
    if len(runs) > 1:
        problems.append(
            f"{where}: has {of_arm}the runs {', '.join(runs)}: expected one, because rounds are numbered by run. "
            f"Name its file."
        )
    gpus = _environment_values(lines).get("gpu", {})
    if len(gpus) > 1:
        problems.append(
            f"{where}: has {of_arm}results of {len(gpus)} GPU models ({', '.join(sorted(gpus))}): expected one. "
            f"Copy the files of each into a separate folder."
        )
    if problems:
        raise InputError(problems)
    return _assemble(lines, label, list(found.notes))


def _assemble(lines: list[_Line], label: str, notes: list[Note]) -> ResultSet:
    """Processes from valid lines of one arm. A key on which their environments differ keeps all its values, sorted: which
    tenant of a full node got which card is chance."""
    written: dict[_Origin, list[_Line]] = {}
    for line in lines:
        written.setdefault(line.origin, []).append(line)
    processes = tuple(
        _process(origin, written[origin])
        for origin in sorted(written, key=_Origin.order)
        if any(line.kind == "block" for line in written[origin])
    )
    environment: dict[str, Scalar] = {}
    for key, values in _environment_values(lines).items():
        first = next(iter(values.values()))
        environment[key] = first if len(values) == 1 or key == "started" else ", ".join(sorted(values))
    arm = lines[0].origin.arm
    named = shown_name(arm) if label == arm else label
    cards = _cards_by_round(lines)
    if cards:
        notes.append(wording.note(NoteCode.SEVERAL_GPU_CARDS, arm=named, cards=", ".join(cards)))
    started = {line.origin for line in lines if line.kind == "process"}
    early = len(started - {line.origin for line in lines if line.kind == "end"})
    if early:
        notes.append(wording.note(NoteCode.PROCESSES_ENDED_EARLY, arm=named, ended=early, started=len(started)))
    return ResultSet(label, processes, environment, frozenset(line.origin.run_id for line in lines), tuple(notes), arm)


def _process(origin: _Origin, lines: list[_Line]) -> Process:
    """One process from its lines. Without a time of its end, it lasted until the end of its last block."""
    cells: dict[Cell, list[_Line]] = {}
    for line in lines:
        if line.kind == "block":
            cells.setdefault(line.cell, []).append(line)
    visits = {
        cell: [dict(line.values) for line in sorted(own, key=lambda one: one.visit)] for cell, own in cells.items()
    }
    head = next((line.values for line in lines if line.kind == "process"), {})
    environment: Mapping[str, Scalar] = head.get("env", {})
    ends = [line.values["ended"] for line in lines if "ended" in line.values] or [
        end for own in visits.values() for block in own if (end := _block_end(block)) is not None
    ]
    return Process(
        origin.round,
        origin.process,
        _timings(visits),
        origin.tenant,
        max(line.values.get("tenants", 1) for line in lines),
        origin.load,
        environment,
        head.get("began") or _seconds(environment.get("started")),
        max(ends, default=None),
    )


def _block_end(block: Mapping[str, Any]) -> float | None:
    """Seconds since 1970, if the start was recorded."""
    if "started" not in block:
        return None
    took = block.get("counters", {}).get("wall_ms") or math.fsum(block.get("iter_ms", ()))
    return float(block["started"] + took / 1000)


def _seconds(value: Scalar) -> float | None:
    """Seconds since 1970 of a time such as 2026-01-01T00:00:00Z; None if it is none."""
    try:
        return datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _environment_values(lines: Iterable[_Line]) -> dict[str, dict[str, Scalar]]:
    """The different values of each environment key, by their text, in order of appearance."""
    found: dict[str, dict[str, Scalar]] = {}
    for line in lines:
        if line.kind == "process":
            for key, value in line.values["env"].items():
                found.setdefault(key, {})[str(value)] = value
    return found


def _cards_by_round(lines: Iterable[_Line]) -> list[str]:
    """All GPU cards, if the processes of one load did not have the same each time; the tenants of a full node share all."""
    cards: dict[str, dict[_Origin, set[str]]] = {}
    for line in lines:
        card = line.values["env"].get("gpu_uuid") if line.kind == "process" else None
        if card is not None:
            times = cards.setdefault(line.origin.load, {})
            times.setdefault(line.origin._replace(tenant=0), set()).add(str(card))
    unlike = [sets for sets in ([*times.values()] for times in cards.values()) if any(own != sets[0] for own in sets)]
    return sorted(set().union(*unlike[0])) if unlike else []


def _timings(cells: Mapping[Cell, list[dict[str, Any]]]) -> dict[Cell, Timing]:
    """One process's cells, and those derived from them."""
    timings = {}
    for cell, blocks in cells.items():
        timings[cell] = _join(blocks)
        if cell.mode.endswith(_LOADER):
            derived = [step for step in map(_as_the_original, blocks) if step is not None]
            if derived:
                mode = cell.mode.removesuffix(_LOADER) + _DERIVED
                timings[cell._replace(mode=mode)] = replace(_join(derived), control=False, derived=True)
    return timings


def _as_the_original(block: dict[str, Any]) -> dict[str, Any] | None:
    """The block without the time that its steps waited for data; None if it was not recorded."""
    if block["status"] != "ok":
        return block
    if not all(key in block for key in _STEP_PARTS):
        return None
    steps = [math.fsum(parts) for parts in zip(*(block[key] for key in _STEP_PARTS))]
    return {**block, "iter_ms": steps, "data_ms": [0.0] * len(steps)} if min(steps) > 0 else None


def _join(blocks: list[dict[str, Any]]) -> Timing:
    """One process's blocks of one cell. A block that failed makes the cell fail."""
    control = any(block.get("control", False) for block in blocks)
    for failed in _FAILED:
        reasons = [block.get("reason", "") for block in blocks if block["status"] == failed]
        if reasons:
            return Timing(failed, control=control, reason=reasons[0])
    split = [block for block in blocks if "enqueue_ms" in block and "wait_ms" in block]
    return Timing(
        "ok",
        tuple(float(step) for block in blocks for step in block["iter_ms"]),
        enqueue_ms=math.fsum(step for block in split for step in block["enqueue_ms"]),
        wait_ms=math.fsum(step for block in split for step in block["wait_ms"]),
        control=control,
        blocks=tuple(
            Block(
                tuple(map(float, block["iter_ms"])),
                block.get("started"),
                {key.removesuffix("_ms"): math.fsum(block[key]) for key in _PARTS_KEYS if key in block},
                {key: value for key, value in block.get("counters", {}).items() if value is not None},
            )
            for block in blocks
        ),
    )
