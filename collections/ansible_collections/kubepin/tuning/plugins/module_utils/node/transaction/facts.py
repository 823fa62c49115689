# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's journal as the control node plans with it."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import COMMITTED, SwitchRecord
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.removal import archive, leftovers

Facts = t.Dict[str, t.Any]


def journal_facts(journal: Journal, files: Files) -> Facts:
    """The interrupted switch, if there is one, and the last committed one with what its files hold now."""
    unfinished, committed = journal.unfinished(), journal.committed()
    return {
        "unfinished": unfinished.id if unfinished else None,
        "committed": _committed(committed, files) if committed else None,
        "rollback": rollback_facts(journal, committed),
    }


def history_facts(journal: Journal, files: Files) -> Facts:
    """All that an uninstallation plans with: the switches with the texts of their files, and what kubepin keeps here."""
    committed = [record for record in journal.oldest_first() if record.status == COMMITTED]
    paths = {change.path for record in committed for change in record.files}
    return {
        "sequences": [record.sequence for record in journal.oldest_first()],
        "directory": journal.directory,
        "switches": [_switch(record) for record in committed],
        "current": {path: files.read(path) for path in sorted(paths)},
        "leftovers": leftovers(files),
        "archive": archive(files),
    }


def rollback_facts(journal: Journal, committed: t.Optional[SwitchRecord]) -> Facts:
    """What a rollback would restore, and from which journal; empty if there is nothing to roll back."""
    if committed is None:
        return {}
    return {
        "id": committed.id,
        "journal": journal.path(committed),
        "restores": [change.path for change in committed.files],
    }


def _switch(record: SwitchRecord) -> Facts:
    return {
        "id": record.id,
        "kubelet_version": record.kubelet_version,
        "files": [asdict(change) for change in record.files],
        "settings": [asdict(setting) for setting in record.settings],
        "folders": record.folders_made,
        "folders_removed": record.folders_removed,
    }


def _committed(record: SwitchRecord, files: Files) -> Facts:
    return {
        **_switch(record),
        "current": {change.path: files.read(change.path) for change in record.files},
    }
