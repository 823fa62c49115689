# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of texts, which both templates arrange."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text. The first `names` columns are names, the others numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def without_empty_columns(table: Table, empty: str) -> Table:
    """The table without the columns beyond its names in which each row has `empty` or nothing."""
    columns = range(len(table.heads))
    keep = [n for n in columns if n < table.names or any(row[n] not in ("", empty) for row in table.rows)]
    rows = tuple(tuple(row[n] for n in keep) for row in table.rows)
    return Table(tuple(table.heads[n] for n in keep), rows, table.names)
