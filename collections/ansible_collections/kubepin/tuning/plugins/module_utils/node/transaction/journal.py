# SPDX-License-Identifier: GPL-3.0-or-later
"""The switches of a node, one JSON file each, with everything needed to undo them."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    SettingChange,
)

SCHEMA = 2
"""1 had neither sequence nor boot_id, and held_until by the node's clock."""
_NO_ENDPOINT = Endpoint(None, {}, 0)
"""Of journals that do not contain it; their switches were confirmed by the version that wrote them."""
SWITCHES = f"{HOME}/switches"
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
    sequence: int = 0
    """The order of the node's switches: the newest has the highest; 0 in schema 1, where the ids are the order."""
    undoes: t.Optional[str] = None
    """The id of the switch that this one rolls back."""
    boot_id: t.Optional[str] = None
    """The boot by whose monotonic clock `up_since` and `held_until` are; None in schema 1."""
    main_pid: t.Optional[int] = None
    """The kubelet's process that came up with the new settings."""
    up_since: t.Optional[float] = None
    """When that process was started, by the monotonic clock, in seconds."""
    held_seconds: t.Optional[float] = None
    """How long the switch waits to be confirmed; None if it is not held."""
    held_until: t.Optional[float] = None
    """When that time is over, by the monotonic clock, in seconds."""

    def held_for(self, boot_id: str, monotonic: float) -> float:
        """For how many seconds more the switch is held; 0 if it is not, or if the machine was started anew since."""
        if self.boot_id != boot_id or self.held_until is None or self.held_seconds is None:
            return 0.0
        return max(0.0, min(self.held_until - monotonic, self.held_seconds))


class Journal:
    """The records below *directory*; each write is atomic and on disk before the next step of the switch."""

    def __init__(self, files: Files, directory: str = SWITCHES) -> None:
        self._files = files
        self.directory = directory

    def path(self, record: Record) -> str:
        return self._path(record.id)

    def _path(self, switch_id: str) -> str:
        return os.path.join(self.directory, f"{switch_id}.json")

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

    def save(self, record: Record) -> None:
        self._files.replace(
            self.path(record), json.dumps(_to_json(record), indent=1, sort_keys=True) + "\n", mode=0o600
        )

    def forget(self, record: Record) -> None:
        """Remove the record of a switch that changed nothing."""
        self._files.remove(self.path(record))

    def end(self, record: Record, status: str) -> None:
        """:raises OSError: if it cannot be written; the record then stays as it is"""
        self.save(dataclasses.replace(record, status=status))
        record.status = status

    def unfinished(self) -> t.Optional[Record]:
        """The switch that was neither committed nor undone, if there is one."""
        return next((record for record in self._newest_first() if record.status == BEGUN), None)

    def of(self, switch_id: str) -> Record:
        """The switch with this id.

        :raises TuningError: if there is none
        """
        record = next((record for record in self._records() if record.id == switch_id), None)
        if record is None:
            raise TuningError(
                f"{self.directory} has no switch {switch_id}: name the `switch_id` that the switch returned."
            )
        return record

    def committed(self) -> t.Optional[Record]:
        """The last committed switch; None if it was a rollback, which only another switch undoes."""
        newest = next((record for record in self._newest_first() if record.status == COMMITTED), None)
        return newest if newest and newest.undoes is None else None

    def _newest_first(self) -> t.List[Record]:
        return sorted(self._records(), key=lambda record: (record.sequence, record.id), reverse=True)

    def _records(self) -> t.Iterator[Record]:
        for name in self._files.names(self.directory):
            if name.endswith(".json"):
                yield self._load(os.path.join(self.directory, name))

    def _load(self, path: str) -> Record:
        try:
            return _from_json(read_object(self._files, path))
        except (ValueError, KeyError, TypeError) as exc:
            raise TuningError(
                f"{path} cannot be read as a journal of schema 1 or {SCHEMA} ({exc}). It tells how to undo a switch: keep a copy, and "
                "move the file away only once the kubelet's configuration is known to be right."
            ) from exc


def read_object(files: Files, path: str) -> t.Dict[str, t.Any]:
    """The JSON object in a file.

    :raises ValueError: if it is anything else, cannot be read, or does not exist
    """
    try:
        data = json.loads(files.read(path) or "")
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    except OSError as exc:
        raise ValueError(str(exc)) from exc
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    return data


def _to_json(record: Record) -> t.Dict[str, t.Any]:
    states = {"before": record.before.to_dict(), "after": record.after.to_dict()}
    return {**dataclasses.asdict(record), **states, "schema": SCHEMA}


_TEXT, _NUMBER = (str,), (int, float)
_NONE = type(None)
_KINDS: t.Dict[str, t.Tuple[type, ...]] = {
    "id": _TEXT,
    "status": _TEXT,
    "kubelet_version": (*_TEXT, _NONE),
    "files": (list,),
    "state_files": (list,),
    "settings": (list,),
    "before": (dict,),
    "after": (dict,),
    "endpoint": (dict,),
    "sequence": (int,),
    "undoes": (*_TEXT, _NONE),
    "boot_id": (*_TEXT, _NONE),
    "main_pid": (int, _NONE),
    "up_since": (*_NUMBER, _NONE),
    "held_seconds": (*_NUMBER, _NONE),
    "held_until": (*_NUMBER, _NONE),
}
"""Field of a record -> the types that it has in JSON."""


def _from_json(data: t.Dict[str, t.Any]) -> Record:
    schema = data.pop("schema")
    if schema == 1:
        data = {**data, "held_until": None}  # by the node's clock, and no run of that version still waits
        data.pop("steps", None)
    elif schema != SCHEMA:
        raise ValueError("another schema")
    for name, value in data.items():
        _check(name, value, _KINDS.get(name, ()))
    if data["status"] not in (BEGUN, COMMITTED, UNDONE):
        raise ValueError(f"status is {data['status']}")
    for name in ("files", "state_files"):
        data[name] = [_change(change) for change in data[name]]
    data["settings"] = [SettingChange(**change) for change in data["settings"]]
    for side in ("before", "after"):
        data[side] = _state(data[side])
    data["endpoint"] = _endpoint(data["endpoint"]) if "endpoint" in data else _NO_ENDPOINT
    return Record(**data)


def _change(data: t.Dict[str, t.Any]) -> FileChange:
    change = FileChange(**data)
    for name, kinds in (("path", _TEXT), ("before", (*_TEXT, _NONE)), ("after", (*_TEXT, _NONE)), ("reason", _TEXT)):
        _check(name, getattr(change, name), kinds)
    return change


def _state(data: t.Dict[str, t.Any]) -> DesiredState:
    state = DesiredState.from_dict(data)
    _check("policy", state.policy, _TEXT)
    for cpu in (*state.reserved, *state.online):
        _check("a CPU", cpu, (int,))
    return state


def _endpoint(data: t.Dict[str, t.Any]) -> Endpoint:
    endpoint = Endpoint(**data)
    _check("healthz_url", endpoint.healthz_url, (*_TEXT, _NONE))
    _check("stay_up_seconds", endpoint.stay_up_seconds, _NUMBER)
    _check("state_paths", endpoint.state_paths, (dict,))
    for path in endpoint.state_paths.values():
        _check("a path", path, _TEXT)
    return endpoint


def _check(name: str, value: object, kinds: t.Tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        raise ValueError(f"{name} is {json.dumps(value)[:40]}")
