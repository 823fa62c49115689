# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of campaign `power-cuts`, and how they are kept and shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.campaigns.base import markdown_table, print_table

CONFIRMATION = "confirmation"
ORDER = ("switch", "held switch", CONFIRMATION, "rollback", "upgrade", "undoing")
ROWS = "rows.jsonl"
HEADINGS = ("what", "power cut", "disk cache", "kubelet", "files after the boot", "cordon", "next run", "message", "s")


@dataclass
class CutResult:
    """What one cut left behind, in words; `failed` says which check does not hold."""

    kind: str
    cut: str
    cache: str
    kubelet: str = ""
    files: str = ""
    cordon: str = "no cluster"
    message: str = ""
    next_run: str = ""
    failed: str = ""
    seconds: int = 0

    @property
    def outcome(self) -> str:
        """The row in a line of a log."""
        found = f"FAILED: {self.failed}" if self.failed else f"{self.kubelet}; {self.files}; {self.next_run}"
        return f"{self.kind}, {self.cut}, {self.cache}: {found} ({self.seconds} s)"


def keep(row: CutResult, folder: Path) -> None:
    """Put a row behind the others."""
    with (folder / ROWS).open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def passed(folder: Path) -> list[CutResult]:
    """The rows of an earlier run that did not fail."""
    file = folder / ROWS
    rows = [CutResult(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    return [row for row in rows if not row.failed]


def cells(row: CutResult) -> list[str]:
    """A row as it is shown."""
    message = f"FAILED: {row.failed}" if row.failed else row.message
    found = [row.kubelet, row.files, row.cordon, row.next_run]
    return [row.kind, row.cut, row.cache, *found, message, str(row.seconds)]


def ordered(rows: Iterable[CutResult]) -> list[CutResult]:
    """Kind after kind."""
    return sorted(rows, key=lambda row: ORDER.index(row.kind))


def show(rows: Sequence[CutResult], folder: Path) -> int:
    """Print the table and write it as Markdown; the number of failed rows."""
    table = [cells(row) for row in ordered(rows)]
    print_table("Power cuts: what is left, and what the next run makes of it", HEADINGS, table, red=["FAILED"])
    (folder / "table.md").write_text(markdown_table(HEADINGS, table))
    failed = sum(bool(row.failed) for row in rows)
    print(f"{len(rows)} rows, {failed} failed", flush=True)
    return failed
