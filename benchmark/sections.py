# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections of the report as texts, tables and charts, which the templates only arrange.

A section without data is empty: the templates then show a text instead of an empty chart. Times are ms per step; ratios
are A's time over B's: above 1, B is faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

from . import charts
from .analysis import Analysis, ArmCell, CellAnalysis, Difference, Estimate, FactorArm, Role, Verdict
from .compare import INTERIM_ANALYSES, LAUNCH_BOUND
from .measures import P99_STEPS
from .pod.cells import PRECISIONS, RESNETS, Cell
from .results import SCHEMA, NoteCode, Scalar
from .wording import (
    CAUSES,
    UNKNOWN,
    change,
    detail,
    finite,
    gpu_time,
    gradient_conclusion,
    headline,
    in_short,
    interval,
    number,
    ratio_text,
    scalar,
    share,
    trend_line,
)

MODES = ("train", "inference", "train-loader", "inference-loader", "train-step", "inference-step", "inference-graph")
OPEN_CELLS = 8
# Factors from which a shade of the heat map is used, so that twice as fast and twice as slow are equally dark.
SHADES = (1.0, 1.1, 1.25, 1.5, 2.0)
BADGES = {
    Verdict.BEATS: ("▲", "B is faster"),
    Verdict.WORSE: ("▼", "B is slower"),
    Verdict.EQUIVALENT: ("=", "no difference that matters"),
    Verdict.UNDECIDED: ("?", "no conclusion yet"),
    Verdict.INVALID: ("✕", "not a fair comparison"),
}
TONES = {Verdict.BEATS: "faster", Verdict.WORSE: "slower", Verdict.EQUIVALENT: "equal"}
PARTS = {
    "data": "waiting for data",
    "h2d": "copy to the GPU",
    "enqueue": "launching (enqueue)",
    "wait": "waiting for the GPU",
    "rest": "not split up",
    "stall": "stalls (within the others)",
}
GLOSSARY = (
    ("ratio", "mean time of a step in A over that in B: 1.50x means that B does the same work 1.50 times as fast."),
    (
        "interval",
        "the range that contains the ratio at the stated confidence; it comes from rounds of fresh processes and is "
        f"corrected for the interim analyses after {', '.join(map(str, INTERIM_ANALYSES))} rounds.",
    ),
    ("margin", "the smallest difference worth a claim; B beats A only if the whole interval lies beyond it."),
    (
        "launch-bound",
        f"more than {LAUNCH_BOUND:.0%} of a step is spent launching work from the CPU (index above {LAUNCH_BOUND:g}): "
        "the GPU waits for the CPU, so CPU problems show here first.",
    ),
    ("control", "a cell that does not depend on the CPU; if it differs, more than the CPU differs: INVALID."),
)


@dataclass(frozen=True)
class Table:
    """Rows of text. The first `names` columns are names, the others numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


@dataclass(frozen=True)
class Signal:
    """One row of "What the system counted": `key` in ArmCell.rates, its name, and how to write a value."""

    key: str
    name: str
    text: Callable[[float], str]


SIGNALS = (
    Signal("throttled_ms_per_s", "CPU time lost to throttling, ms per second", number),
    Signal("run_delay_share", "launching thread ready, but waiting for a CPU", share),
    Signal("migrations_per_s", "moves of the launching thread between CPUs, per second", number),
    Signal("involuntary_switches_per_s", "preemptions of the launching thread, per second", number),
    Signal("threads", "threads in the process", number),
    Signal("host_busy_cpus", "busy CPUs on the host", number),
    Signal("canary_ms", "reference loop (fixed CPU work), ms", number),
    Signal("cpu_mhz", "CPU clock, MHz", number),
    Signal("gpu_sm_mhz", "GPU clock, MHz", number),
    Signal("gpu_temperature", "GPU temperature, °C", number),
)


def sections(analysis: Analysis, title: str, command: str) -> dict[str, Any]:
    """Everything that both templates need, except the attached files."""
    comparison = analysis.comparison
    glyph, words = BADGES[comparison.verdict]
    sentence = headline(analysis)
    return {
        "title": title,
        "a": comparison.label_a,
        "b": comparison.label_b,
        "verdict": comparison.verdict.value,
        "glyph": glyph,
        "words": words,
        "headline": sentence[:1].upper() + sentence[1:] if comparison.verdict is Verdict.INVALID else sentence,
        "facts": _facts(analysis),
        "short": in_short(analysis),
        "why": analysis.why,
        "advice": [item.text for item in analysis.advice],
        "environment": _environment(analysis),
        "forest": _forest(analysis),
        "heat": _heat(analysis),
        "effect": _effect_by_launch_share(analysis),
        "causes": _causes(analysis),
        "parts": _parts(analysis),
        "signals": _signals(analysis),
        "tails": _tails(analysis),
        "run": _run(analysis),
        "factors": _factors(analysis),
        "table": _table(analysis),
        "command": command,
        "schema": SCHEMA,
        "glossary": GLOSSARY,
    }


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    comparison = analysis.comparison
    family, control = comparison.family, comparison.control
    facts = [("about", comparison.family_basis), ("margin", f"± {share(comparison.margin)}")]
    if family is not None:
        facts.append(("rounds", str(family.rounds)))
        confidence = f"{100 * family.confidence:.4g}%" if family.confidence is not None else "no interval"
        facts.append(("confidence", confidence))
    facts.append(("control", ratio_text(control) if control else "none"))
    on_cpu = analysis.same.get("device") == "cpu"
    facts.append(("GPU time", gpu_time(analysis) or ("none: measured on a CPU" if on_cpu else "not recorded")))
    starts = [block.started for block in analysis.blocks if block.started > 0]
    if starts:
        facts.append(("measured", datetime.fromtimestamp(min(starts), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")))
    return facts


_NOTED_KEYS = {NoteCode.GPUS_DIFFER: "gpu", NoteCode.GPU_CARDS_DIFFER: "gpu_uuid"}
"""Notes that a difference on this key of the environments already shows."""


def _environment(analysis: Analysis) -> dict[str, Any]:
    flags = [
        f"{item.key}: {scalar(item.key, item.a)} in A, {scalar(item.key, item.b)} in B: {item.red_flag}"
        for item in analysis.differences
        if item.red_flag
    ]
    flagged = {item.key for item in analysis.differences if item.red_flag}
    shown = {code for code, key in _NOTED_KEYS.items() if key in flagged}
    if analysis.differences:
        shown.add(NoteCode.ENVIRONMENTS_DIFFER)
    others = [note for note in analysis.comparison.notes if note.code not in shown]
    flags += [note.text for note in others if note.red_flag]

    def order(item: Difference) -> tuple[bool, bool, str]:
        return not item.red_flag, not item.by_design, item.key

    rows = [
        (item.key, scalar(item.key, item.a), scalar(item.key, item.b), _remark(item))
        for item in sorted(analysis.differences, key=order)
    ]
    same = [(key, scalar(key, value)) for key, value in sorted(analysis.same.items())]
    return {
        "flags": flags,
        "rows": [
            {"key": key, "a": a, "b": b, "remark": remark, "class": remark.replace(" ", "-")}
            for key, a, b, remark in rows
        ],
        "table": Table(("key", "A", "B", ""), tuple(rows), 4),
        "same": same,
        "same_table": Table(("key", "both"), tuple(same), 2),
        "notes": [note.text for note in others if not note.red_flag],
    }


def _remark(item: Difference) -> str:
    return "red flag" if item.red_flag else "on purpose" if item.by_design else ""


def _index(entry: CellAnalysis) -> float | None:
    found = [arm.launch_bound_index for arm in (entry.a, entry.b) if arm and finite(arm.launch_bound_index)]
    return max((value for value in found if value is not None), default=None)


def _by_index(entries: Iterable[CellAnalysis]) -> list[CellAnalysis]:
    """The most launch-bound first, then those of which that is not known, by gap."""

    def key(entry: CellAnalysis) -> tuple[float, float]:
        index, value = _index(entry), entry.result.estimate
        return (-1.0 if index is None else index), (abs(math.log(value.ratio)) if value else 0.0)

    return sorted(entries, key=key, reverse=True)


def _span(value: Estimate) -> charts.Span:
    return charts.Span(value.ratio, value.low, value.high)


def _spans(analysis: Analysis) -> list[charts.Span]:
    values = [entry.result.estimate for entry in analysis.cells] + [analysis.comparison.family]
    return [_span(value) for value in values if value is not None]


def _shape(role: Role) -> str:
    return {Role.CONTROL: "square", Role.DERIVED: "triangle"}.get(role, "circle")


def _tone(verdict: Verdict) -> str:
    return TONES.get(verdict, "unknown")


def _forest(analysis: Analysis) -> dict[str, Any]:
    comparison = analysis.comparison
    spans = _spans(analysis)
    if not spans:
        return {"groups": [], "missing": _missing(analysis)}
    scale = charts.ratio_scale(spans, comparison.margin)
    bound = any(entry.result.role is Role.LAUNCH_BOUND for entry in analysis.cells)
    names = {
        Role.LAUNCH_BOUND: "Launch-bound cells: the verdict is about these",
        Role.OTHER: "Other cells" if bound else "Cells: the verdict is about these",
        Role.DERIVED: "As the original benchmark times them: not in the verdict",
        Role.CONTROL: "Controls: should stay at 1",
    }
    groups = []
    for role, name in names.items():
        entries = [entry for entry in analysis.cells if entry.result.role is role and entry.result.estimate]
        rows = [_forest_row(entry, scale, comparison.margin) for entry in _by_index(entries)]
        pooled = {
            Role.LAUNCH_BOUND: comparison.family,
            Role.OTHER: None if bound else comparison.family,
            Role.CONTROL: comparison.control,
        }
        value = pooled.get(role)
        if rows and value is not None and len(rows) > 1:
            verdict = Verdict.UNDECIDED if role is Role.CONTROL else comparison.verdict
            text = ratio_text(value)
            rows.append(
                {
                    "name": "all together",
                    "detail": f"geometric mean of {len(rows)}",
                    "pooled": True,
                    "svg": charts.span_row(_span(value), scale, comparison.margin, "diamond", _tone(verdict), text),
                    "ratio": f"{value.ratio:.3f}x",
                    "interval": interval(value),
                    "index": "",
                    "verdict": verdict.value if role is not Role.CONTROL else "",
                }
            )
        if rows:
            groups.append({"name": name, "rows": rows})
    return {
        "groups": groups,
        "axis": charts.axis_row(scale),
        "missing": _missing(analysis),
        "with_interval": any(span.low is not None for span in spans),
        "indexed": any(_index(entry) is not None for entry in analysis.cells),
        "key": _forest_key({entry.result.role for entry in analysis.cells}),
    }


def _forest_key(roles: Iterable[Role]) -> list[tuple[str, str]]:
    tones = [("faster", "faster"), ("slower", "slower"), ("equal", "equal within the margin"), ("unknown", "no claim")]
    shapes = [("square", Role.CONTROL), ("triangle", Role.DERIVED)]
    return [
        *((charts.key_mark("circle", tone), text) for tone, text in tones),
        *((charts.key_mark(shape, "equal"), role.value) for shape, role in shapes if role in roles),
        (charts.key_mark("diamond", "equal"), "geometric mean"),
    ]


def _forest_row(entry: CellAnalysis, scale: charts.LogScale, margin: float) -> dict[str, Any]:
    result = entry.result
    value = result.estimate
    tone, text = _tone(result.verdict), f"{result.cell}: {ratio_text(value)}, {result.verdict}"
    index = _index(entry)
    return {
        "name": result.cell.model,
        "detail": detail(result.cell),
        "pooled": False,
        "svg": charts.span_row(_span(value) if value else None, scale, margin, _shape(result.role), tone, text),
        "ratio": f"{value.ratio:.3f}x" if value else UNKNOWN,
        "interval": interval(value),
        "index": UNKNOWN if index is None else f"{index:.2f}",
        "verdict": result.verdict.value,
    }


def _missing(analysis: Analysis) -> list[str]:
    return [f"{entry.result.cell}: {entry.result.reason}" for entry in analysis.cells if entry.result.estimate is None]


def _heat(analysis: Analysis) -> dict[str, Any]:
    """Models against precision, mode and batch; the value is how many more steps per second B makes, in percent."""
    entries = {entry.result.cell: entry for entry in analysis.cells}
    if not any(entry.result.estimate for entry in analysis.cells):
        return {"rows": []}

    def known(value: str, order: Sequence[str]) -> tuple[int, str]:
        return (order.index(value) if value in order else len(order)), value

    models = sorted({cell.model for cell in entries}, key=lambda model: known(model, RESNETS))
    columns = sorted(
        {(cell.precision, cell.mode, cell.batch) for cell in entries},
        key=lambda c: (known(c[0], PRECISIONS), known(c[1], MODES), c[2] or 0),
    )
    rows, text_rows = [], []
    for model in models:
        row = [_heat_cell(entries.get(Cell(model, *column)), analysis.comparison.margin) for column in columns]
        rows.append({"model": model, "cells": row})
        text_rows.append((model, *(f"({c['text']})" if c["undecided"] else c["text"] for c in row)))
    heads = [{"precision": p, "mode": m, "batch": "" if b is None else f"batch {b}"} for p, m, b in columns]
    return {
        "heads": heads,
        "rows": rows,
        "table": Table(
            ("model", *(f"{p} {m}" + ("" if b is None else f" {b}") for p, m, b in columns)), tuple(text_rows)
        ),
        "shades": [
            *(f"n{step}" for step in range(len(SHADES), 0, -1)),
            "z",
            *(f"p{i + 1}" for i in range(len(SHADES))),
        ],
        "steps": ", ".join(f"{low:g}x" for low in SHADES[1:]),
        "margin": share(analysis.comparison.margin),
    }


def _heat_cell(entry: CellAnalysis | None, margin: float) -> dict[str, Any]:
    if entry is None:
        return {"class": "none", "text": "", "undecided": False, "title": "not measured"}
    value, cell = entry.result.estimate, entry.result.cell
    if value is None:
        text = {"oom": "OOM", "skipped": "skipped"}.get(entry.result.status, UNKNOWN)
        return {"class": "none", "text": text, "undecided": False, "title": f"{cell}: {entry.result.reason}"}
    more = 100 * (value.ratio - 1)
    factor = max(value.ratio, 1 / value.ratio)
    step = max(index for index, low in enumerate(SHADES, 1) if factor >= low)
    shade = "z" if factor <= 1 + margin else f"{'p' if more > 0 else 'n'}{step}"
    undecided = entry.result.verdict in (Verdict.UNDECIDED, Verdict.INVALID)
    sign = "+" if more >= 0 else "-"
    digits = 0 if abs(more) >= 9.95 else 1
    return {
        "class": f"{shade} hatched" if undecided else shade,
        "text": f"{sign}{abs(more):.{digits}f}%",
        "undecided": undecided,
        "title": f"{cell}: {ratio_text(value)}, {entry.result.verdict}",
    }


def _effect_by_launch_share(analysis: Analysis) -> dict[str, Any]:
    """Ratio against the launch-bound index or, if it was not recorded, against the size (B's step)."""
    comparison = analysis.comparison
    timed = [(entry, entry.result.estimate) for entry in analysis.cells if entry.result.estimate]
    indexed = [(entry, value, index) for entry, value in timed if value and (index := _index(entry)) is not None]
    sized = [(e, v, e.result.mean_b_ms) for e, v in timed if v and finite(e.result.mean_b_ms) and e.result.mean_b_ms]
    by_index = len(indexed) > 1
    points = indexed if by_index else [(entry, value, size) for entry, value, size in sized if size]
    trends = [trend_line(trend) for trend in comparison.gradient]
    shown = {"conclusion": gradient_conclusion(comparison), "trends": trends, "by_index": by_index, "svg": None}
    if len(points) < 2:
        return shown
    dots = []
    for entry, value, position in points:
        tone, shape = _tone(entry.result.verdict), _shape(entry.result.role)
        cell = entry.result.cell
        label = f"{cell.model} {cell.precision} {cell.mode}" + ("" if cell.batch is None else f" {cell.batch}")
        dots.append(charts.Dot(position, _span(value), shape, tone, label))
    y = charts.ratio_scale([dot.y for dot in dots], comparison.margin)
    if by_index:
        x: charts.Scale = charts.LinearScale(0, 1.03)
        ticks = [(value / 10, f"{value / 10:g}") for value in range(0, 11, 2)]
        title = "Ratio against launch-bound index"
        described = "the share of a step that is spent launching work from the CPU"
    else:
        sizes = [dot.x for dot in dots]
        wide = charts.LogScale(min(sizes) / 1.15, max(sizes) * 1.15)
        x, ticks = wide, [(value, f"{value:g} ms") for value in charts.time_ticks(wide)]
        title, described = "Ratio against size", "B's mean step in ms, from small to large"
    threshold = LAUNCH_BOUND if by_index else None
    description = (
        f"{len(dots)} cells; across: {described}; up: A's time over B's. The numbers are in the table of all cells."
    )
    return {**shown, "svg": charts.scatter(dots, x, y, ticks, comparison.margin, threshold, title, description)}


def _causes(analysis: Analysis) -> dict[str, Any]:
    rows = [
        {
            "name": CAUSES[cause.code],
            "share": share(cause.share) if finite(cause.share) else "share not known",
            "svg": charts.share_row([("cause", cause.share)], f"{CAUSES[cause.code]}: {share(cause.share)}")
            if cause.share is not None and math.isfinite(cause.share)
            else "",
            "evidence": cause.text,
        }
        for cause in analysis.causes
    ]
    table = Table(
        ("cause", "share of the gap", "evidence"),
        tuple((str(r["name"]), str(r["share"]), r["evidence"]) for r in rows),
        3,
    )
    return {"rows": rows, "table": table}


def _sides(entry: CellAnalysis) -> list[tuple[str, ArmCell]]:
    return [(name, arm) for name, arm in (("A", entry.a), ("B", entry.b)) if arm is not None and arm.status == "ok"]


def _known_parts(arm: ArmCell) -> dict[str, float]:
    """The known parts of a step in ms, with the rest if it is more than a hundredth; empty if no part is known."""
    known = {name: arm.parts_ms[name] for name in (*charts.PARTS, charts.STALL) if finite(arm.parts_ms.get(name))}
    rest = (arm.mean_ms or 0.0) - sum(value for name, value in known.items() if name != charts.STALL)
    return {**known, "rest": rest} if known and rest > 0.01 * (arm.mean_ms or 0.0) else known


def _parts(analysis: Analysis) -> dict[str, Any]:
    """Where a step's time goes, by cell and arm; bars of one cell share their scale."""
    cells, names = [], []
    entries = [e for e in _by_index(analysis.cells) if any(_known_parts(arm) for _name, arm in _sides(e))]
    for entry in entries:
        names += [name for _name, arm in _sides(entry) for name in _known_parts(arm)]
    used = [name for name in (*charts.PARTS, charts.STALL) if name in names]
    text_rows = []
    for entry in entries:
        sides = [(name, arm, _known_parts(arm)) for name, arm in _sides(entry)]
        longest = max(
            sum(value for part, value in parts.items() if part != charts.STALL) for _name, _arm, parts in sides
        )
        rows = []
        for name, arm, parts in sides:
            text = ", ".join(f"{PARTS[part]} {number(value)} ms" for part, value in parts.items())
            numbers = [number(parts[part]) if part in parts else UNKNOWN for part in used]
            svg = charts.parts_row(parts, longest, f"{entry.result.cell}, {name}: {text}")
            rows.append({"arm": name, "svg": svg, "total": number(arm.mean_ms), "numbers": numbers})
            text_rows.append((str(entry.result.cell), name, number(arm.mean_ms), *numbers))
        cells.append({"name": entry.result.cell.model, "detail": detail(entry.result.cell), "rows": rows})
    return {
        "open": cells[:OPEN_CELLS],
        "more": cells[OPEN_CELLS:],
        "used": [(name, PARTS[name]) for name in used],
        "table": Table(("cell", "arm", "mean ms", *(PARTS[name] for name in used)), tuple(text_rows), 2),
    }


def _signals(analysis: Analysis) -> dict[str, Any]:
    """What the system counted, in each arm over its cells, and by cell."""
    entries = [entry for entry in analysis.cells if entry.result.role is not Role.DERIVED]
    arms = [[e.a for e in entries if e.a is not None], [e.b for e in entries if e.b is not None]]
    rows: list[tuple[str, ...]] = []
    for key, name in (
        ("threads", "torch threads"),
        ("cpus_allowed", "CPUs allowed"),
        ("quota_cpus", "CPU quota, in CPUs"),
        ("cpus_allowed_list", "which CPUs"),
        ("omp_num_threads", "OMP_NUM_THREADS"),
        ("governor", "frequency governor"),
    ):
        found = _both(analysis, key)
        if found is not None:
            rows.append((name, *(scalar(key, value) for value in found)))
    throttled = [_throttled(side) for side in arms]
    if any(throttled):
        rows.append(("CFS periods throttled", throttled[0] or UNKNOWN, throttled[1] or UNKNOWN))
    for signal in SIGNALS:
        means = [_mean_rate(side, signal.key) for side in arms]
        if any(mean is not None for mean in means):
            rows.append((signal.name, *(UNKNOWN if mean is None else signal.text(mean) for mean in means)))
    return {"table": Table(("", "A", "B"), tuple(rows)), "cells": _signals_by_cell(entries)}


def _both(analysis: Analysis, key: str) -> tuple[Scalar, Scalar] | None:
    """The values of a key in both environments; None if neither has it."""
    if key in analysis.same:
        value = analysis.same[key]
        return None if value is None else (value, value)
    return next(((item.a, item.b) for item in analysis.differences if item.key == key), None)


def _throttled(arms: Sequence[ArmCell]) -> str:
    known = [
        arm.rates for arm in arms if finite(arm.rates.get("periods")) and finite(arm.rates.get("throttled_periods"))
    ]
    periods = sum(rates["periods"] for rates in known)
    if not known:
        return ""
    throttled = sum(rates["throttled_periods"] for rates in known)
    if periods == 0:
        return "no quota"
    return f"{number(throttled)} of {number(periods)} ({share(throttled / periods)})"


def _mean_rate(arms: Sequence[ArmCell], key: str) -> float | None:
    known = [value for arm in arms if (value := arm.rates.get(key)) is not None and math.isfinite(value)]
    return fmean(known) if known else None


def _signals_by_cell(entries: Sequence[CellAnalysis]) -> Table | None:
    columns: list[tuple[str, Callable[[ArmCell | None], str]]] = [
        ("CFS periods throttled", lambda arm: _throttled([arm]) if arm else "")
    ]

    def reader(signal: Signal) -> Callable[[ArmCell | None], str]:
        def read(arm: ArmCell | None) -> str:
            value = _mean_rate([arm], signal.key) if arm else None
            return "" if value is None else signal.text(value)

        return read

    columns += [(signal.name, reader(signal)) for signal in SIGNALS]
    ordered = [entry for entry in _by_index(entries) if entry.a or entry.b]
    used = [(name, read) for name, read in columns if any(read(arm) for e in ordered for arm in (e.a, e.b))]
    if not used:
        return None
    rows = tuple(
        (str(entry.result.cell), name, *(read(arm) or UNKNOWN for _head, read in used))
        for entry in ordered
        for name, arm in (("A", entry.a), ("B", entry.b))
        if arm is not None
    )
    return Table(("cell", "arm", *(name for name, _read in used)), rows, 2)


def _tails(analysis: Analysis) -> dict[str, Any]:
    """Ratios of quantiles, where both arms have them."""
    found = []
    for entry in _by_index(analysis.cells):
        a, b = entry.a, entry.b
        if a is None or b is None:
            continue
        ratios: dict[str, float] = {}
        for name in charts.QUANTILES:
            left, right = getattr(a, f"{name}_ms"), getattr(b, f"{name}_ms")
            if finite(left) and finite(right) and left > 0 and right > 0:
                ratios[name] = left / right
        if len(ratios) > 1:
            found.append((entry, a, b, ratios))
    if not found:
        return {"open": [], "more": []}
    margin = analysis.comparison.margin
    scale = charts.ratio_scale([charts.Span(value) for *_names, ratios in found for value in ratios.values()], margin)
    rows, text_rows = [], []
    for entry, a, b, ratios in found:
        texts = [f"{ratios[name]:.2f}x" if name in ratios else UNKNOWN for name in charts.QUANTILES]
        title = f"{entry.result.cell}: " + ", ".join(f"{n} {t}" for n, t in zip(charts.QUANTILES, texts))
        slowest = change(a.max_ms, b.max_ms)
        rows.append(
            {
                "name": entry.result.cell.model,
                "detail": detail(entry.result.cell),
                "svg": charts.quantile_row(ratios, scale, margin, title),
                "ratios": texts,
                "slowest": slowest,
            }
        )
        text_rows.append((str(entry.result.cell), *texts, slowest))
    return {
        "axis": charts.axis_row(scale),
        "key": [(name, charts.key_mark(charts.quantile_mark(name), f"quantile {name}")) for name in charts.QUANTILES],
        "open": rows[:OPEN_CELLS],
        "more": rows[OPEN_CELLS:],
        "table": Table(("cell", *charts.QUANTILES, "slowest step, ms"), tuple(text_rows)),
        "few": any("p99" not in ratios for *_names, ratios in found),
        "steps": P99_STEPS,
    }


def _run(analysis: Analysis) -> dict[str, Any]:
    blocks = [block for block in analysis.blocks if finite(block.relative) and block.relative > 0]
    blocks.sort(key=lambda block: block.started)
    if not blocks:
        return {"svg": None}
    arms = list(dict.fromkeys(_arm_order(analysis, [block.arm for block in blocks])))
    ticks = [
        charts.Tick(
            arms.index(block.arm) % 6,
            block.round,
            block.relative,
            f"{block.arm}, round {block.round}, {block.cell}: {block.relative:.2f} of the cell's mean",
        )
        for block in blocks
    ]
    order: list[tuple[int, str]] = []
    for block in blocks:
        if not order or order[-1] != (block.round, block.arm):
            order.append((block.round, block.arm))
    rounds: dict[int, list[str]] = {}
    for number_, arm in order:
        rounds.setdefault(number_, []).append(arm)
    means = [(arm, fmean(block.relative for block in blocks if block.arm == arm)) for arm in arms]
    description = (
        f"{len(blocks)} blocks of {len(arms)} arms; across: run order; "
        "up: time relative to the cell's mean of all arms."
    )
    return {
        "svg": charts.run_strip(ticks, "Every block in run order", description),
        "arms": [(f"arm{index % 6}", arm, f"{mean:.2f}") for index, (arm, mean) in enumerate(means)],
        "blocks": len(blocks),
        "table": Table(("round", "order of the arms"), tuple((str(n), ", ".join(seq)) for n, seq in rounds.items()), 2),
    }


def _arm_order(analysis: Analysis, found: Sequence[str]) -> list[str]:
    """The reference's arm first, then B's, so that they get the colours of A and B; then the others."""
    known = [arm.arm for arm in analysis.factors.arms] if analysis.factors else []
    labels = [analysis.comparison.label_a, analysis.comparison.label_b]
    first = [label for label in labels if label in found]
    return [*first, *(arm for arm in known if arm in found), *sorted(set(found))]


def _factors(analysis: Analysis) -> dict[str, Any] | None:
    """The grid of groups against thread settings, with each arm's ratio against the reference."""
    factors = analysis.factors
    if factors is None or not factors.arms:
        return None
    groups = list(dict.fromkeys(arm.group for arm in factors.arms))
    threads = list(dict.fromkeys(arm.threads for arm in factors.arms))
    heads = ["threads as found" if setting == "auto" else f"threads = {setting}" for setting in threads]
    spans = [_span(arm.estimate) for arm in factors.arms if arm.estimate]
    scale = charts.ratio_scale([charts.Span(1.0), *spans], analysis.comparison.margin)
    grid = {(arm.group, arm.threads): arm for arm in factors.arms}
    rows: list[dict[str, Any]] = [
        {
            "group": group,
            "cells": [
                {"head": head, **_factor_cell(grid.get((group, setting)), scale, analysis.comparison.margin)}
                for setting, head in zip(threads, heads)
            ],
        }
        for group in groups
    ]
    alone = factors.share_by_threads
    strip = None
    if alone is not None and math.isfinite(alone):
        text = f"the number of threads alone closes {share(alone)} of the gap"
        strip = charts.share_row([("alone", alone), ("rest", 1 - max(0.0, alone))], text)
    return {
        "heads": heads,
        "rows": rows,
        "axis": charts.axis_row(scale),
        "sentence": factors.sentence,
        "bar": strip,
        "alone": share(alone),
        "rest": share(max(0.0, 1 - alone)) if alone is not None and math.isfinite(alone) else "",
        "table": Table(
            ("", *heads),
            tuple((str(row["group"]), *(f"{c['ratio']} {c['mean']}".strip() for c in row["cells"])) for row in rows),
        ),
    }


def _factor_cell(arm: FactorArm | None, scale: charts.LogScale, margin: float) -> dict[str, Any]:
    if arm is None:
        return {"ratio": "not measured", "mean": "", "svg": ""}
    span = _span(arm.estimate) if arm.estimate else charts.Span(1.0)
    text = ratio_text(arm.estimate, 2) if arm.estimate else "1.00x (reference)"
    tone = _tone(arm.estimate.verdict) if arm.estimate else "equal"
    shape = "circle" if arm.estimate else "square"
    mean = number(arm.mean_ms, " ms") if arm.mean_ms is not None else ""
    return {"ratio": text, "mean": mean, "svg": charts.span_row(span, scale, margin, shape, tone, f"{arm.arm}: {text}")}


def _table(analysis: Analysis) -> Table:
    """Every cell, the timed ones by launch-bound index, without empty columns."""
    heads = (
        "model", "precision", "mode", "batch",
        "A mean ms", "B mean ms", "A/B", "interval", "verdict",
        "p50 ms", "p99 ms", "images/s", "launch-bound", "steps", "main cause", "remark",
    )  # fmt: skip
    rows = [_table_row(entry) for entry in _by_index(analysis.cells)]
    optional = range(3, len(heads))
    empty = {i for i in optional if heads[i] != "verdict" and all(row[i] in ("", UNKNOWN) for row in rows)}
    keep = [i for i in range(len(heads)) if i not in empty]
    return Table(tuple(heads[i] for i in keep), tuple(tuple(row[i] for i in keep) for row in rows), 3)


def _table_row(entry: CellAnalysis) -> tuple[str, ...]:
    result, a, b = entry.result, entry.a, entry.b
    cell, index = result.cell, _index(entry)

    def both(read: Callable[[ArmCell], float | None]) -> str:
        return change(read(a) if a else None, read(b) if b else None)

    measured = any(arm and arm.steps > 1 for arm in (a, b))
    return (
        cell.model,
        cell.precision,
        cell.mode,
        UNKNOWN if cell.batch is None else str(cell.batch),
        number(result.mean_a_ms),
        number(result.mean_b_ms),
        f"{result.estimate.ratio:.3f}x" if result.estimate else UNKNOWN,
        interval(result.estimate),
        result.verdict.value if result.estimate else UNKNOWN,
        both(lambda arm: arm.p50_ms),
        both(lambda arm: arm.p99_ms),
        both(lambda arm: arm.images_per_s),
        UNKNOWN if index is None else f"{index:.2f}",
        both(lambda arm: float(arm.steps)) if measured else UNKNOWN,
        CAUSES[entry.causes[0].code] if entry.causes else "",
        result.reason or result.role.value,
    )
