# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as text for a terminal, without cells and environment."""

from __future__ import annotations

from collections.abc import Iterator

from . import Page, forest
from .table import Table


def to_text(page: Page) -> str:
    """What to do, how much it brings, how sure it is, the contrasts, the full node, the causes and the notes."""
    return "\n".join(line.rstrip() for line in _lines(page))


def _lines(page: Page) -> Iterator[str]:
    head = page.head
    yield f"{', '.join(badge.text for badge in head.badges)}: {head.heading}"
    if head.sentence:
        yield head.sentence
    yield from (f"  {reason}" for reason in head.reasons)
    if head.rates:
        yield ""
        yield f"{head.rates_caption}:"
        yield from _aligned(Table(("", "", ""), tuple((rate.name, rate.rate, rate.times) for rate in head.rates)))
    if head.gain:
        yield head.gain
    if head.sure:
        yield ""
        yield from head.sure
        yield head.confidence
    if page.lead:
        yield from ("", page.lead)
    for caption, table in (*forest.tables(page.forest), *(page.node.tables if page.node else ())):
        yield from ("", caption)
        yield from _aligned(table)
    for group in page.causes.groups:
        yield from ("", group.remedy)
        yield from (f"  {row.share} {row.name}: {row.evidence}" for row in group.rows)
    if head.actions:
        yield ""
        yield from (f"- {action}" for action in head.actions)
    remarks = [f"red flag: {flag}" for flag in page.environment.flags] + [f"note: {n}" for n in page.environment.notes]
    if remarks:
        yield from ("", *remarks)


def _aligned(table: Table) -> Iterator[str]:
    """Names to the left, numbers to the right; heads only where a column has one."""
    rows = [table.heads, *table.rows] if any(table.heads) else list(table.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    for row in rows:
        yield "  " + "  ".join(
            text.ljust(width) if column < table.names else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        )
