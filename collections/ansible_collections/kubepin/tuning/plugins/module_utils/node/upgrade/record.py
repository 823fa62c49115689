# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the record of a node's upgrade to a version is."""

from __future__ import annotations

import os
import typing as t
from dataclasses import asdict

from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import UPGRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import VersionError, parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry, load
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import BEGUN, UpgradeRecord
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.package_change import IN_PROGRESS


def record_path(folder: str) -> str:
    """The record's file in the folder of an upgrade."""
    return f"{folder}/record.json"


def read_entry(files: Files, folder: str) -> t.Optional[Entry[UpgradeRecord]]:
    """The record in the folder of an upgrade; None if there is none.

    :raises TuningError: if it cannot be read
    """
    path = record_path(folder)
    return load(files, path, UpgradeRecord, lambda reason: problems.upgrade_record_unreadable(path, folder, reason))


def upgrade_facts(files: Files) -> t.List[t.Dict[str, t.Any]]:
    """The upgrades of which backups are on the node, the oldest first: their folder, the version before, whether each
    has ended, and what it wrote to the kubelet's files.

    :raises TuningError: if a record cannot be read
    """
    below = {path[len(UPGRADES) + 1 :].split("/")[0] for path in files.names_below(UPGRADES)}
    names = sorted(below - {os.path.basename(IN_PROGRESS)}, key=_order)
    replacing = files.exists(IN_PROGRESS)
    return [_facts(folder, read_entry(files, folder), replacing) for folder in (f"{UPGRADES}/{name}" for name in names)]


def _order(name: str) -> t.Tuple[bool, t.Any]:
    """By version: kubepin never downgrades."""
    try:
        return True, parse_version(name)
    except VersionError:
        return False, name


def _facts(folder: str, entry: t.Optional[Entry[UpgradeRecord]], replacing: bool) -> t.Dict[str, t.Any]:
    return {
        "folder": folder,
        "before": entry.record.kubelet_version if entry else None,
        "finished": not replacing and (entry is None or entry.record.status != BEGUN),
        "texts": [asdict(change) for change in entry.record.texts] if entry else [],
    }
