# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of an Experiment: one self-contained HTML file, Markdown, an object for programs, a line."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import page, render
from .experiment import Experiment
from .figures import gpu_minutes
from .page import cells
from .page.forest import tables as forest_tables
from .page.nodes import NodeReport, of_reports
from .page.table import Table

HTML_LIMIT = 2_000_000
PAGE, OBJECT = "report.html", "report.json"
FILES = (PAGE, "report.md", OBJECT, "line.txt")
INDEX = "index.html"


def line(found: Experiment) -> str:
    """The result as one line of text, ending with the effort."""
    cost = gpu_minutes(found.gpu_minutes)
    return " ".join(f"benchmark: {found.sentence}{f' {cost}.' if cost else ''}".split())


def to_object(found: Experiment) -> dict[str, Any]:
    """Plain data. Numbers that are not finite are None."""
    return {key: _plain(value) for key, value in {**render.to_object(found), "line": line(found)}.items()}


def write(found: Experiment, raw: Mapping[str, bytes], folder: Path, title: str, command: str) -> None:
    """Writes FILES to the folder, each atomically.

    :param raw: file name -> content; embedded in report.html as long as that stays below HTML_LIMIT bytes
    :param command: how the runs were made
    :raises OSError: if the folder cannot be written
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = page.of_experiment(found, title, command)
    contents = (
        _html(shown, raw),
        _markdown(shown, raw),
        json.dumps(to_object(found), indent=2, allow_nan=False) + "\n",
        line(found) + "\n",
    )
    for name, content in zip(FILES, contents):
        _replace(folder / name, content)


def write_index(nodes: Sequence[NodeReport], folder: Path, title: str) -> Path:
    """Writes the page of several nodes to the folder, atomically.

    :raises OSError: if the folder cannot be written
    """
    folder.mkdir(parents=True, exist_ok=True)
    template = _templates(escape_html=True).get_template("nodes.html.j2")
    _replace(folder / INDEX, template.render(page=of_reports(nodes, title)))
    return folder / INDEX


def _replace(path: Path, content: str) -> None:
    """Writes a file atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode("utf-8", "backslashreplace"))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Plain data for JSON; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _html(shown: page.Page, raw: Mapping[str, bytes]) -> str:
    template = _templates(escape_html=True).get_template("report.html.j2")
    csv = base64.b64encode(shown.csv.encode("utf-8", "backslashreplace")).decode()
    bare = template.render(page=shown, csv=csv, inside=[], outside=_outside(raw))
    left = HTML_LIMIT - len(bare.encode("utf-8", "backslashreplace"))
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
    return template.render(page=shown, csv=csv, inside=inside, outside=_outside(outside))


def _outside(raw: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(name, _size(len(content))) for name, content in raw.items()]


def _size(length: int) -> str:
    return (
        f"{length} bytes" if length < 1000 else f"{length / 1e3:.0f} kB" if length < 1e6 else f"{length / 1e6:.1f} MB"
    )


def _markdown(shown: page.Page, raw: Mapping[str, bytes]) -> str:
    return _templates(escape_html=False).get_template("report.md.j2").render(page=shown, files=_outside(raw))


@cache
def _templates(escape_html: bool) -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=escape_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals["cells_note"] = cells.NOTE
    templates.filters |= {"md": escape_markdown, "table": markdown_table, "plots": forest_tables}
    return templates


def escape_markdown(value: str) -> str:
    """Text that Markdown shows literally, on one line. Brackets that do not form a link stay as they are."""
    literal = re.sub(r"([\\`*<>|&])", r"\\\1", " ".join(str(value).split()))
    literal = re.sub(r"\](?=[\[(:])", r"\\]", literal)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", literal)


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown, with numbers aligned to the right."""
    rule = ["---" if column < table.names else "---:" for column in range(len(table.heads))]
    rows = [[escape_markdown(value) for value in row] for row in (table.heads, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
