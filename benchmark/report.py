# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of an Analysis: one self-contained HTML file, Markdown, an object for programs, and one line."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import render
from .analysis import Analysis, Cause, Verdict
from .sections import Table, sections
from .wording import effort, headline, verdict_line

HTML_LIMIT = 2_000_000
FILES = ("report.html", "report.md", "report.json", "line.txt")


def line(analysis: Analysis) -> str:
    """The verdict as one line of text, ending with the effort."""
    comparison = analysis.comparison
    sentence = verdict_line(comparison)
    if comparison.verdict is not Verdict.INVALID and comparison.family and comparison.family.low is not None:
        sentence = headline(analysis)
    cost = effort(analysis)
    return " ".join(f"benchmark: {sentence}{f' {cost}.' if cost else ''}".split())


def to_object(analysis: Analysis) -> dict[str, Any]:
    """The comparison's object with the causes, the advice and the arms. Numbers that are not finite are None."""
    result = render.to_object(analysis.comparison)
    detail = {entry.result.cell: entry for entry in analysis.cells}
    for cell, target in zip(analysis.comparison.cells, result["cells"]):
        entry = detail.get(cell.cell)
        target["a"] = _plain(entry.a) if entry else None
        target["b"] = _plain(entry.b) if entry else None
        target["causes"] = _causes(entry.causes) if entry else []
    result["line"] = line(analysis)
    result["causes"] = _causes(analysis.causes)
    for key in ("why", "advice", "ruled_out", "factors", "differences", "same", "gpu_minutes"):
        result[key] = _plain(getattr(analysis, key))
    return {key: _plain(value) for key, value in result.items()}


def _causes(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    return [{"code": cause.code.value, "share": _plain(cause.share), "evidence": cause.text} for cause in causes]


def write(analysis: Analysis, raw: Mapping[str, bytes], folder: Path, title: str, command: str) -> None:
    """Writes FILES to the folder, each atomically.

    :param raw: file name -> content; embedded in report.html as long as that stays below HTML_LIMIT bytes
    :param command: how the runs were made
    :raises OSError: if the folder cannot be written
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = sections(analysis, title, command)
    page["csv"] = base64.b64encode(to_csv(analysis).encode("utf-8", "backslashreplace")).decode()
    contents = (
        _html(page, raw),
        _markdown(page, raw),
        json.dumps(to_object(analysis), indent=2, allow_nan=False) + "\n",
        line(analysis) + "\n",
    )
    for name, text in zip(FILES, contents):
        draft = folder / f".{name}.{os.getpid()}"
        try:
            draft.write_bytes(text.encode("utf-8", "backslashreplace"))
            draft.replace(folder / name)
        finally:
            draft.unlink(missing_ok=True)


def to_csv(analysis: Analysis) -> str:
    """Every cell as a row of CSV. Times are ms; an unknown value is empty."""
    rows = to_object(analysis)["cells"]
    plain = ["model", "precision", "mode", "batch", "role", "verdict", "ratio", "low", "high", "mean_a_ms", "mean_b_ms"]
    arm = ["status", "steps", "p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_s", "launch_bound_index"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *(f"{side}_{key}" for side in "ab" for key in arm)])
    for row in rows:
        sides = [(row[side] or {}).get(key) for side in "ab" for key in arm]
        writer.writerow([_cell_of_csv(value) for value in [*(row[key] for key in plain), *sides]])
    return text.getvalue()


def _cell_of_csv(value: object) -> object:
    """Puts an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _plain(value: Any) -> Any:
    """Plain data for JSON; numbers that are not finite become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({key: getattr(value, key) for key in value.__dataclass_fields__})
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _html(page: Mapping[str, Any], raw: Mapping[str, bytes]) -> str:
    template = _templates(escape_html=True).get_template("report.html.j2")
    left = HTML_LIMIT - len(
        template.render(**page, inside=[], outside=_outside(raw)).encode("utf-8", "backslashreplace")
    )
    inside, outside = [], {}
    for name, content in raw.items():
        packed = content if content[:2] == b"\x1f\x8b" else gzip.compress(content, mtime=0)
        data = base64.b64encode(packed).decode()
        size = len(data) + 6 * len(name.encode("utf-8", "backslashreplace")) + 200
        if size <= left:
            left -= size
            download = name if name.endswith(".gz") else f"{name}.gz"
            inside.append({"name": name, "download": download, "size": _size(len(content)), "data": data})
        else:
            outside[name] = content
    return template.render(**page, inside=inside, outside=_outside(outside))


def _outside(raw: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(name, _size(len(content))) for name, content in raw.items()]


def _size(count: int) -> str:
    return f"{count} bytes" if count < 1000 else f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _markdown(page: Mapping[str, Any], raw: Mapping[str, bytes]) -> str:
    templates = _templates(escape_html=False)
    templates.filters["md"] = escape_markdown
    templates.filters["table"] = markdown_table
    return templates.get_template("report.md.j2").render(**page, files=_outside(raw))


def _templates(escape_html: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=escape_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def escape_markdown(text: str) -> str:
    """Text that Markdown shows literally, on one line. Brackets that do not form a link stay as they are."""
    text = re.sub(r"([\\`*<>|&])", r"\\\1", " ".join(str(text).split()))
    text = re.sub(r"\](?=[\[(:])", r"\\]", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown, with numbers aligned to the right."""
    rule = ["---" if column < table.names else "---:" for column in range(len(table.heads))]
    rows = [[escape_markdown(text) for text in row] for row in (table.heads, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
