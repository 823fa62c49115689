# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a node's journal says about a switch or an upgrade, and how it stands in a file.

The parser also reads what earlier versions wrote. It refuses upgrade records that lack the state of before.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.decoding import decode
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    KubeletState,
    SettingChange,
)

SCHEMA = 3
"""In 2, records had no `kind`. Those of upgrades had no schema, either. 1 had neither `sequence` nor `boot_id`, and
`held_until` by the node's clock."""

PREPARED = "prepared"
"""Only copies were made."""
BEGUN = "begun"
"""Something was changed. A switch is to be undone, an upgrade to be continued."""
COMMITTED, UNDONE = "committed", "undone"


@dataclass(frozen=True)
class SwitchRecord:
    """One switch: what it changes, and how it ended (`status`)."""

    id: str
    status: str
    kubelet_version: t.Optional[str]
    files: t.Tuple[FileChange, ...]
    state_files: t.Tuple[FileChange, ...]
    settings: t.Tuple[SettingChange, ...]
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
    folders_made: t.Optional[t.Tuple[str, ...]] = None
    """The folders that its files need and that were missing, the deepest first; None in journals of 1.0, which do not say."""
    folders_to_remove: t.Tuple[str, ...] = ()
    """The folders that are removed once it is committed, if they are empty: an earlier switch made them."""
    folders_removed: t.Tuple[str, ...] = ()
    """Those of them that were removed; in journals of 1.1.0, all of them."""

    def held_for(self, boot_id: str, monotonic: float) -> float:
        """For how many seconds more the switch is held; 0 if it is not, or if the machine was started anew since."""
        if self.boot_id != boot_id or self.held_until is None or self.held_seconds is None:
            return 0.0
        return max(0.0, min(self.held_until - monotonic, self.held_seconds))


@dataclass(frozen=True)
class KeptFile:
    """A file that an upgrade changes, and its copy of before."""

    path: str
    kept: t.Optional[str]
    """The path of the copy; None if there was no such file."""


@dataclass(frozen=True)
class PackageChange:
    """A package that an upgrade replaces or installs."""

    name: str
    before: t.Optional[str]
    """The version of before; None if the package was not installed."""
    held: bool
    """Whether the package manager held it."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of etcd."""

    path: str
    bytes: int


@dataclass(frozen=True)
class UpgradeRecord:
    """The upgrade of a node to one version: what it changes, and how far it is (`status`)."""

    id: str
    """The version to upgrade to."""
    status: str
    kubelet_version: t.Optional[str]
    """Of before."""
    begun: str
    """When, for people."""
    files: t.Tuple[KeptFile, ...]
    before: KubeletState
    state_files: t.Tuple[FileChange, ...] = ()
    """The removals of state files that the new kubelet would have refused."""
    packages: t.Optional[t.Tuple[PackageChange, ...]] = None
    """None if programs are replaced as files, or packages were not fetched yet."""
    etcd_snapshot: t.Optional[Snapshot] = None
    texts: t.Tuple[FileChange, ...] = ()
    """What kubepin itself wrote to the kubelet's files, each from its first text to its last."""


@dataclass(frozen=True)
class FileText:
    """A file and its text, or None if the file does not exist."""

    path: str
    text: t.Optional[str]


@dataclass(frozen=True)
class PackagesRecord:
    """That packages are being replaced, and what the kubelet's settings must be afterwards."""

    settings: t.Tuple[FileText, ...]


Record = t.Union[SwitchRecord, UpgradeRecord, PackagesRecord]
R = t.TypeVar("R", bound=Record)

_KINDS: t.Dict[type, str] = {SwitchRecord: "switch", UpgradeRecord: "upgrade", PackagesRecord: "packages"}
_STATUS: t.Dict[type, t.Tuple[str, ...]] = {
    SwitchRecord: (BEGUN, COMMITTED, UNDONE),
    UpgradeRecord: (PREPARED, BEGUN, COMMITTED),
}
_NO_ENDPOINT: t.Dict[str, t.Any] = {"healthz_url": None, "state_paths": {}, "stay_up_seconds": 0}
"""Of journals that do not contain it; their switches were confirmed by the version that wrote them."""

Json = t.Dict[str, t.Any]


def encode(record: Record) -> str:
    """The text of a record's file."""
    data = {**asdict(record), "schema": SCHEMA, "kind": _KINDS[type(record)]}
    return json.dumps(data, indent=1, sort_keys=True, default=sorted) + "\n"  # sets of CPUs


def parse(kind: t.Type[R], text: str) -> R:
    """The record of this *kind* in a file's text.

    :raises ValueError: if it is anything else
    """
    try:
        data = json.loads(text)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    if data.get("schema") == SCHEMA:
        if data.pop("kind", None) != _KINDS[kind]:
            raise ValueError(f"it is not the record of a kind that belongs here, {_KINDS[kind]}")
    else:
        try:
            data = _EARLIER[kind](data)
        except (KeyError, AttributeError, TypeError) as exc:
            raise ValueError(f"it is not a record of an earlier version either: {exc!r}") from exc
    data.pop("schema", None)
    record = decode(kind, data)
    status = getattr(record, "status", None)
    if status not in _STATUS.get(kind, (None,)):
        raise ValueError(f"status is {status}")
    return record


def _earlier_switch(data: Json) -> Json:
    if data["schema"] not in (1, 2):
        raise ValueError(f"schema is {json.dumps(data['schema'])[:40]}")
    data = {"endpoint": _NO_ENDPOINT, **data}
    if data["schema"] == 1:
        data["held_until"] = None  # by the node's clock, and no run of that version still waits
        data.pop("steps", None)
    return data


def _earlier_upgrade(data: Json) -> Json:
    if "schema" in data:
        raise ValueError(f"schema is {json.dumps(data['schema'])[:40]}")
    held = data.get("held", ())
    return {
        "id": data["to"],
        "status": COMMITTED if data["verified"] else BEGUN if data["kubeadm_began"] else PREPARED,
        "kubelet_version": data["from"],
        "begun": data["begun"],
        "files": [{"path": path, "kept": kept} for path, kept in data["files"].items()],
        "before": {name: data[name] for name in ("settings", "state", "endpoint")},
        "packages": [{"name": name, "before": one, "held": name in held} for name, one in data["packages"].items()]
        if "packages" in data
        else None,
        "etcd_snapshot": data.get("etcd_snapshot"),
    }


def _earlier_packages(data: Json) -> Json:
    return {"settings": [{"path": path, "text": text} for path, text in data.items()]}


_EARLIER: t.Dict[type, t.Callable[[Json], Json]] = {
    SwitchRecord: _earlier_switch,
    UpgradeRecord: _earlier_upgrade,
    PackagesRecord: _earlier_packages,
}
