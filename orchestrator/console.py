# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of a run: a live view, plain lines, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import duration, listed
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.model import Event
from orchestrator.progress import CANCEL_HINT, HostProgress, Progress, line, short

_COLOURS = {
    "tuned": "green",
    "already tuned": "green",
    "nothing to do": "green",
    "rolled back": "green",
    "as planned": "green",
    "untuned": "yellow",
    "drifted": "red",
    "not checked": "bold red",
    "BEATS": "green",
    "to change": "yellow",
    "measuring": "cyan",
    "failed": "bold red",
    "undone": "red",
    "refused": "red",
}
_MOST_HOSTS = 30  # a table that is higher than the terminal flickers
_MOST_NAMES = 8
_PRINTED = ("message", "task_failed", "stopping", "run_ended")


class View(Protocol):
    """Shows events."""

    def __call__(self, event: Event) -> None:
        """Shows one event."""

    def shown(self) -> object:
        """The context in which the view is on."""


class JsonView:
    """One JSON object a line, schema 1 (orchestrator/README.md)."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        self._console.file.write(json.dumps(event.to_object()) + "\n")
        self._console.file.flush()

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield


class PlainView:
    """One line for each event that is worth it. Hosts that begin together share a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._beginning: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "host_begins":
            if event.data["host"] != "localhost":
                self._beginning.append(event.data["host"])
            return
        self._print_beginning()
        if text := line(event):
            self._console.print(Text(text), soft_wrap=True)

    def _print_beginning(self) -> None:
        if self._beginning:
            verb = "begins" if len(self._beginning) == 1 else "begin"
            self._console.print(Text(f"  {listed(self._beginning, _MOST_NAMES)}: {verb}"), soft_wrap=True)
            self._beginning.clear()

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield


class LiveView:
    """A table that is updated in place, below the lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress()
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)

    def __call__(self, event: Event) -> None:
        self._progress.apply(event)
        if event.kind in _PRINTED and (text := line(event)):
            self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._live:
            yield

    def render(self) -> RenderableType:
        """The current table, with its header."""
        progress, now = self._progress, time.time()
        if not progress.started:
            return Text("kubepin: reading the inventory")
        batch = f", batch {progress.batch}" if progress.batch > 1 else ""
        nodes = [name for name in progress.in_progress if name != "localhost"]
        in_progress = f": {listed(nodes, _MOST_NAMES)}" if nodes else ""
        parts: list[RenderableType] = [
            Text(f"kubepin {progress.verb}  {progress.run}  {duration(now - progress.started)}", style="bold"),
            Text(f"{progress.play}{batch}{in_progress}"),
            Text(f"{progress.task}  {duration(now - progress.task_since)}" if progress.task else "", style="cyan"),
            _table(list(progress.hosts.items()), set(nodes), now),
        ]
        parts += [
            Text(f"{node}: the drain is waiting for {short('; '.join(pods))}", style="yellow")
            for node, pods in progress.drains.items()
        ]
        parts += [Text(f"{host}: {text}", style="cyan") for host, text in progress.measurements.items()]
        hint = f"Stopping: {progress.stopping}. {CANCEL_HINT}" if progress.stopping else "Press Ctrl-C to stop cleanly."
        parts.append(Text(hint, style="dim"))
        return Group(*parts)


def _table(hosts: Sequence[tuple[str, HostProgress]], in_progress: set[str], now: float) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    first = sorted(hosts, key=lambda entry: entry[0] not in in_progress)[:_MOST_HOSTS]
    for name, host in sorted(first):
        state = Text(host.state, style=_COLOURS.get(host.state, ""))
        since = duration(now - host.since) if name in in_progress else ""
        table.add_row(
            "▸" if name in in_progress else " ", name, state, since, Text(host.note, overflow="ellipsis", no_wrap=True)
        )
    if len(hosts) > _MOST_HOSTS:
        table.add_row("", f"and {len(hosts) - _MOST_HOSTS} more", "", "", "")
    return table
