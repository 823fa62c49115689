# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person or a program sees of a run: a live view, plain lines, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.model import Event
from orchestrator.progress import HostProgress, Progress, duration, estimate_text, line, listed, short

_COLOURS = {
    "tuned": "green",
    "already tuned": "green",
    "nothing to do": "green",
    "rolled back": "green",
    "BEATS": "green",
    "to change": "yellow",
    "measuring": "cyan",
    "failed": "bold red",
    "undone": "red",
    "refused": "red",
}
_MOST_HOSTS = 30  # a table that is higher than the terminal does not stand still
_SPOKEN = ("message", "task_failed", "look", "stopping", "run_ended")


class View(Protocol):
    """Shows events."""

    def __call__(self, event: Event) -> None:
        """Shows one event."""

    def shown(self) -> object:
        """A context in which events are shown."""


class JsonView:
    """One JSON object a line, schema 1, as orchestrator/README.md describes it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        self._console.file.write(json.dumps(event.to_object()) + "\n")
        self._console.file.flush()

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield


class PlainView:
    """A line for what is worth one; hosts that begin together share theirs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._beginning: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "host_begins":
            if event.data["host"] != "localhost":
                self._beginning.append(event.data["host"])
            return
        self._tell_beginning()
        if text := line(event):
            self._console.print(Text(text), soft_wrap=True)

    def _tell_beginning(self) -> None:
        if self._beginning:
            verb = "begins" if len(self._beginning) == 1 else "begin"
            self._console.print(Text(f"  {listed(self._beginning)}: {verb}"), soft_wrap=True)
            self._beginning.clear()

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield


class LiveView:
    """A table that stands still, and above it the lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress()
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)

    def __call__(self, event: Event) -> None:
        self._progress.apply(event)
        if event.kind in _SPOKEN and (text := line(event)):
            self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._live:
            yield

    def render(self) -> RenderableType:
        """The view of this moment."""
        seen, now = self._progress, time.time()
        if not seen.started:
            return Text("kubepin: reading the inventory")
        batch = f", batch {seen.batch}" if seen.batch > 1 else ""
        nodes = [name for name in seen.in_hand if name != "localhost"]
        in_hand = f": {listed(nodes)}" if nodes else ""
        parts: list[RenderableType] = [
            Text(f"kubepin {seen.verb}  {seen.run}  {duration(now - seen.started)}", style="bold"),
            Text(f"{seen.play}{batch}{in_hand}"),
            Text(f"{seen.task}  {duration(now - seen.task_since)}" if seen.task else "", style="cyan"),
            _table(list(seen.hosts.items()), set(nodes), now),
        ]
        parts += [
            Text(f"{node}: the drain waits: {short('; '.join(pods))}", style="yellow")
            for node, pods in seen.drains.items()
        ]
        parts += [Text(f"{host}: {estimate_text(data)}", style="cyan") for host, data in seen.estimates.items()]
        hint = f"Stopping: {seen.stopping}." if seen.stopping else "Ctrl-C stops after what is in hand."
        parts.append(Text(f"{hint} {'Ctrl-C cancels at once.' if seen.stopping else ''}".strip(), style="dim"))
        return Group(*parts)


def _table(hosts: Sequence[tuple[str, HostProgress]], in_hand: set[str], now: float) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    first = sorted(hosts, key=lambda entry: entry[0] not in in_hand)[:_MOST_HOSTS]
    for name, host in sorted(first):
        state = Text(host.state, style=_COLOURS.get(host.state, ""))
        since = duration(now - host.since) if name in in_hand else ""
        table.add_row(
            "▸" if name in in_hand else " ", name, state, since, Text(host.note, overflow="ellipsis", no_wrap=True)
        )
    if len(hosts) > _MOST_HOSTS:
        table.add_row("", f"and {len(hosts) - _MOST_HOSTS} more", "", "", "")
    return table
