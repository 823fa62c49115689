# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of a node's switches and upgrades, one JSON file each, with everything needed to undo them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import is_draft
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    R,
    SwitchRecord,
    encode,
    parse,
)

SWITCHES = f"{HOME}/switches"


class Files(t.Protocol):
    """The part of a node that the journal needs."""

    def read(self, path: str) -> t.Optional[str]: ...

    def replace(self, path: str, text: str, mode: int = ...) -> None: ...

    def remove(self, path: str) -> None: ...

    def names(self, directory: str) -> t.List[str]: ...


class Entry(t.Generic[R]):
    """A record that is on disk: what changes in it is on disk before the next step."""

    def __init__(self, files: Files, path: str, record: R) -> None:
        self._files = files
        self.path = path
        self.record = record

    def save(self) -> None:
        """:raises OSError: if it cannot be written; the file then stays as it is"""
        self._files.replace(self.path, encode(self.record), mode=0o600)

    def update(self, **changes: t.Any) -> None:
        """Change fields of the record, unless they have these values.

        :raises OSError: if it cannot be written; the record then stays as it is
        """
        record = dataclasses.replace(self.record, **changes)
        if record != self.record:
            self._files.replace(self.path, encode(record), mode=0o600)
            self.record = record

    def forget(self) -> None:
        """Remove the record of something that changed nothing."""
        self._files.remove(self.path)


def load(files: Files, path: str, kind: t.Type[R], unreadable: t.Callable[[str], Problem]) -> t.Optional[Entry[R]]:
    """The record in a file, or None if the file does not exist.

    :param unreadable: the problem with a file that holds anything else, from the reason
    :raises TuningError: with that problem
    """
    try:
        text = files.read(path)
        return None if text is None else Entry(files, path, parse(kind, text))
    except (OSError, ValueError) as exc:
        raise TuningError(unreadable(str(exc))) from exc


class Journal:
    """The records of switches below *directory*."""

    def __init__(self, files: Files, directory: str = SWITCHES) -> None:
        self._files = files
        self.directory = directory

    def path(self, record: SwitchRecord) -> str:
        return self._path(record.id)

    def _path(self, switch_id: str) -> str:
        return os.path.join(self.directory, f"{switch_id}.json")

    def entry(self, record: SwitchRecord) -> Entry[SwitchRecord]:
        return Entry(self._files, self.path(record), record)

    def remove_drafts(self) -> None:
        """Remove the drafts of records that a power cut or a kill left. Callers hold the node's lock."""
        for name in self._files.names(self.directory):
            if is_draft(name):
                with contextlib.suppress(OSError):
                    self._files.remove(os.path.join(self.directory, name))

    def next_sequence(self) -> int:
        """The sequence number of a new switch."""
        return max((record.sequence for record in self._records()), default=0) + 1

    def new_id(self, now: float) -> str:
        """An unused id that tells people when the switch began; nothing depends on it.

        :param now: seconds since 1970
        """
        milliseconds = int(now * 1000)
        while True:
            date = time.strftime("%Y%m%dT%H%M%S", time.gmtime(milliseconds // 1000))
            switch_id = f"{date}.{milliseconds % 1000:03d}Z"
            if f"{switch_id}.json" not in self._files.names(self.directory):
                return switch_id
            milliseconds += 1

    def unfinished(self) -> t.Optional[SwitchRecord]:
        """The switch that was neither committed nor undone, if there is one."""
        return next((record for record in self._newest_first() if record.status == BEGUN), None)

    def of(self, switch_id: str) -> SwitchRecord:
        """The switch with this id.

        :raises TuningError: if there is none
        """
        record = next((record for record in self._records() if record.id == switch_id), None)
        if record is None:
            raise TuningError(problems.switch_unknown(self.directory, switch_id))
        return record

    def oldest_first(self) -> t.List[SwitchRecord]:
        """All switches, in their order."""
        return self._newest_first()[::-1]

    def committed(self) -> t.Optional[SwitchRecord]:
        """The last committed switch; None if it was a rollback, which only another switch undoes."""
        newest = self._last_committed()
        return newest if newest and newest.undoes is None else None

    def folders_to_remove(self) -> t.Tuple[str, ...]:
        """The folders that the last rollback was to remove and did not: the power was cut before that, or they were in use."""
        newest = self._last_committed()
        return tuple(path for path in newest.folders_to_remove if path not in newest.folders_removed) if newest else ()

    def _last_committed(self) -> t.Optional[SwitchRecord]:
        return next((record for record in self._newest_first() if record.status == COMMITTED), None)

    def _newest_first(self) -> t.List[SwitchRecord]:
        return sorted(self._records(), key=lambda record: (record.sequence, record.id), reverse=True)

    def _records(self) -> t.Iterator[SwitchRecord]:
        for name in self._files.names(self.directory):
            if name.endswith(".json"):
                entry = self._load(os.path.join(self.directory, name))
                if entry:
                    yield entry.record

    def _load(self, path: str) -> t.Optional[Entry[SwitchRecord]]:
        return load(self._files, path, SwitchRecord, lambda reason: problems.journal_unreadable(path, reason))
