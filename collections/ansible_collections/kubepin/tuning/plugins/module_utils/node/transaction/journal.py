# SPDX-License-Identifier: GPL-3.0-or-later
"""The switches of a node, one JSON file each, with everything needed to undo them."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    SettingChange,
)

SCHEMA = 1
_NO_ENDPOINT = Endpoint(None, {}, 0)
"""Of journals that do not contain it; their switches were confirmed by the version that wrote them."""
BEGUN, COMMITTED, UNDONE = "begun", "committed", "undone"


class Files(t.Protocol):
    """The part of a node that the journal needs."""

    def read(self, path: str) -> t.Optional[str]: ...

    def replace(self, path: str, text: str, mode: int = ...) -> None: ...

    def remove(self, path: str) -> None: ...

    def names(self, directory: str) -> t.List[str]: ...


@dataclasses.dataclass
class Record:
    """One switch: what it changes, and how it ended (`status`)."""

    id: str
    status: str
    kubelet_version: t.Optional[str]
    files: t.List[FileChange]
    state_files: t.List[FileChange]
    settings: t.List[SettingChange]
    before: DesiredState
    after: DesiredState
    endpoint: Endpoint
    undoes: t.Optional[str] = None
    """The id of the switch that this one rolls back."""
    held_until: t.Optional[float] = None
    """Deadline for its run to confirm it, by the node's clock in seconds since 1970; None if it is not held."""
    main_pid: t.Optional[int] = None
    """The kubelet's process that came up with the new settings."""
    up_since: t.Optional[float] = None
    """When that process was started, by the node's monotonic clock, in seconds."""


class Journal:
    """The records below *directory*; each write is atomic and on disk before the next step of the switch."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self.directory = directory

    def path(self, record: Record) -> str:
        return os.path.join(self.directory, f"{record.id}.json")

    def save(self, record: Record) -> None:
        self._files.replace(
            self.path(record), json.dumps(_to_json(record), indent=1, sort_keys=True) + "\n", mode=0o600
        )

    def forget(self, record: Record) -> None:
        """Remove the record of a switch that changed nothing."""
        self._files.remove(self.path(record))

    def end(self, record: Record, status: str) -> None:
        record.status = status
        self.save(record)

    def unfinished(self) -> t.Optional[Record]:
        """The switch that was neither committed nor undone, if there is one."""
        return next((record for record in self._newest_first() if record.status == BEGUN), None)

    def of(self, switch_id: str) -> Record:
        """The switch with this id.

        :raises TuningError: if there is none
        """
        record = next((record for record in self._newest_first() if record.id == switch_id), None)
        if record is None:
            raise TuningError(
                f"{self.directory} has no switch {switch_id}: name the `switch_id` that the switch returned."
            )
        return record

    def committed(self) -> t.Optional[Record]:
        """The last committed switch; None if it was a rollback, which only another switch undoes."""
        newest = next((record for record in self._newest_first() if record.status == COMMITTED), None)
        return newest if newest and newest.undoes is None else None

    def _newest_first(self) -> t.Iterator[Record]:
        for name in sorted(self._files.names(self.directory), reverse=True):
            if name.endswith(".json"):
                yield self._load(os.path.join(self.directory, name))

    def _load(self, path: str) -> Record:
        text = self._files.read(path)
        try:
            return _from_json(json.loads(text or ""))
        except (ValueError, KeyError, TypeError) as exc:
            raise TuningError(
                f"{path} cannot be read as a journal of schema {SCHEMA} ({exc}). It tells how to undo a switch: keep a copy, and move "
                "the file away only once the kubelet's configuration is known to be right."
            ) from exc


def _to_json(record: Record) -> t.Dict[str, t.Any]:
    states = {"before": record.before.to_dict(), "after": record.after.to_dict()}
    return {**dataclasses.asdict(record), **states, "schema": SCHEMA}


def _from_json(data: t.Dict[str, t.Any]) -> Record:
    if data.pop("schema") != SCHEMA:
        raise ValueError("another schema")
    data.pop("steps", None)  # kept by earlier versions
    for side in ("before", "after"):
        data[side] = DesiredState.from_dict(data[side])
    data["endpoint"] = Endpoint(**data["endpoint"]) if "endpoint" in data else _NO_ENDPOINT
    for name in ("files", "state_files"):
        data[name] = [FileChange(**change) for change in data[name]]
    data["settings"] = [SettingChange(**change) for change in data["settings"]]
    return Record(**data)
