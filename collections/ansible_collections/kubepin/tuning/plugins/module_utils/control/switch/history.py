# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: from the journal of a node to what leads back to before its first switch, and what cannot be taken back."""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR, GUARD_DROP_IN
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    FileChange,
    SettingChange,
    contains,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import DROP_INS
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import (
    Version,
    VersionError,
    parse_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch import problems


@dataclass(frozen=True)
class Committed:
    """A committed switch or rollback."""

    id: str
    kubelet_version: str | None
    files: tuple[FileChange, ...]
    settings: tuple[SettingChange, ...] = ()
    folders: tuple[str, ...] | None = None
    """Those that it made; None if its journal is of 1.0, and does not say."""
    folders_removed: tuple[str, ...] = ()
    """Those of earlier switches that it removed."""


@dataclass(frozen=True)
class Upgrade:
    """An upgrade whose backups are on the node."""

    folder: str
    before: str | None
    """The kubelet's version before it; None if the record is missing."""
    finished: bool


@dataclass(frozen=True)
class History:
    """What kubepin did on a node and keeps there."""

    switches: tuple[Committed, ...]
    """The oldest first."""
    current: t.Mapping[str, str | None]
    """The files of the switches -> their texts now (None: absent)."""
    sequences: tuple[int, ...]
    """Of all records; 0 for those of the first schema."""
    directory: str
    """Where the records are."""
    upgrades: tuple[Upgrade, ...]
    leftovers: tuple[str, ...]
    """Files of kubepin's own that a removal removes."""

    @classmethod
    def of(cls, facts: t.Mapping[str, t.Any]) -> History:
        """From what `kubelet_switch_info` returns as `history`."""
        return cls(
            switches=tuple(
                Committed(
                    each["id"],
                    each["kubelet_version"],
                    tuple(FileChange(**file) for file in each["files"]),
                    tuple(SettingChange(**setting) for setting in each["settings"]),
                    None if each["folders"] is None else tuple(each["folders"]),
                    tuple(each["folders_removed"]),
                )
                for each in facts["switches"]
            ),
            current=facts["current"],
            sequences=tuple(facts["sequences"]),
            directory=facts["directory"],
            upgrades=tuple(
                Upgrade(upgrade["folder"], upgrade["before"], upgrade["finished"]) for upgrade in facts["upgrades"]
            ),
            leftovers=tuple(facts["leftovers"]),
        )

    @property
    def paths(self) -> set[str]:
        """The files that switches have changed."""
        return {change.path for each in self.switches for change in each.files}


def net_changes(history: History) -> tuple[list[FileChange], list[Problem]]:
    """What all switches together have done to each file that is not as before the first one, in the order of the first
    changes, and what prevents undoing it.

    A file that already has its original text needs no change. A file that was edited between two switches, or after the
    last one, is a problem: restoring its original text would lose the edit. It is none if an installer, such as kubespray,
    wrote the original text again before a later switch.
    """
    found = _missing_records(history)
    found += [problems.upgrade_unfinished(each.folder) for each in history.upgrades if not each.finished]
    first: dict[str, str | None] = {}
    last: dict[str, FileChange] = {}
    edited: dict[str, Problem] = {}
    for each in history.switches:
        for change in each.files:
            earlier = last.get(change.path)
            if earlier and change.before == first[change.path]:
                edited.pop(change.path, None)
            elif earlier and earlier.after != change.before:
                edited.setdefault(change.path, problems.changed_between(change.path, each.id))
            last[change.path] = change
            first.setdefault(change.path, change.before)
    net = []
    for path, change in last.items():
        now = history.current.get(path)
        if now == first[path]:
            continue
        if path in edited:
            found.append(edited[path])
        elif now != change.after:
            found.append(problems.changed_since(path))
        net.append(FileChange(path, first[path], now, change.reason))
    return net, found


def net_settings(history: History) -> list[SettingChange]:
    """What all switches together have done to each setting that one of them has changed."""
    net: dict[str, SettingChange] = {}
    for each in history.switches:
        for change in each.settings:
            first = net.get(change.name, change)
            net[change.name] = SettingChange(change.name, first.before, change.after, change.reason)
    return list(net.values())


def folders_made(history: History, config_dir: str | None) -> list[str]:
    """The folders outside of kubepin's own that switches have made and that no rollback has removed since, the deepest first.
    If a journal does not say which it made, these are all folders that kubepin may make.

    :param config_dir: the kubelet's drop-in directory, which it does not start without
    """
    made: set[str] = set()
    for each in history.switches:
        made |= _may_have_made(each) if each.folders is None else {*each.folders}
        made -= {*each.folders_removed}
    return sorted((folder for folder in made if not contains(folder, config_dir)), key=len, reverse=True)


def _may_have_made(switch: Committed) -> set[str]:
    folders = {posixpath.dirname(change.path) for change in switch.files}
    return folders & {DROP_IN_DIR, *map(posixpath.dirname, (GUARD_DROP_IN, *DROP_INS.values()))}


def _missing_records(history: History) -> list[Problem]:
    """Sequence numbers count from 1 without a gap (`Journal.next_sequence`)."""
    numbers = {number for number in history.sequences if number}
    if numbers == set(range(1, len(numbers) + 1)):
        return []
    return [problems.records_missing(history.directory)]


def remaining(history: History, version: str | None) -> list[Problem]:
    """What an uninstallation cannot take back, or leaves on the node.

    :param version: the kubelet's version now; None if it could not be read
    """
    before = [*(each.before for each in history.upgrades), *(each.kubelet_version for each in history.switches)]
    lowest = min(filter(None, map(_version, before)), default=None)
    now = _version(version)
    stays = [problems.version_stays(str(lowest), str(now))] if lowest and now and lowest < now else []
    return [*stays, *(problems.backups_stay(each.folder) for each in history.upgrades)]


def _version(text: str | None) -> Version | None:
    try:
        return parse_version(text or "")
    except VersionError:
        return None
