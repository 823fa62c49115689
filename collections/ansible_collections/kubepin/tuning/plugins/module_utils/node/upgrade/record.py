# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the record of a node's upgrade to a version is."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry, load
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import UpgradeRecord


def record_path(folder: str) -> str:
    """The record's file in the folder of an upgrade."""
    return f"{folder}/record.json"


def read_entry(files: Files, folder: str) -> t.Optional[Entry[UpgradeRecord]]:
    """The record in the folder of an upgrade; None if there is none.

    :raises TuningError: if it cannot be read
    """
    path = record_path(folder)
    return load(files, path, UpgradeRecord, lambda reason: problems.upgrade_record_unreadable(path, folder, reason))
