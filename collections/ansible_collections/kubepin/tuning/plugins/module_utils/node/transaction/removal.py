# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubepin keeps on a node: as an archive for the control node, and its removal.

The removal can be interrupted after any step and be repeated: the records go newest first, so that those that are left
still say the same about what was there before the first switch. Backups of upgrades stay: they hold credentials of the
cluster, which must not travel, and are the only way back from an upgrade.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME, UPGRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, NEW, Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import LOCK, Node


def leftovers(files: Files) -> t.List[str]:
    """The files of kubepin that a removal removes."""
    return [path for path in files.names_below(HOME) if not path.startswith(f"{UPGRADES}/")]


def archive(files: Files) -> t.Dict[str, str]:
    """Path -> content (base64) of everything that would be lost by a removal.

    :raises OSError: if a file cannot be read
    """
    return {path: base64.b64encode(files.content(path)).decode("ascii") for path in _records(files)}


def _records(files: Files) -> t.List[str]:
    return [path for path in leftovers(files) if path != LOCK]


class Removal:
    """Removes from a node what is left of kubepin once its changes are undone. The caller holds the node's lock."""

    def __init__(self, node: Node, journal: Journal) -> None:
        self._node = node
        self._journal = journal

    def run(self, archived: t.Mapping[str, str], folders: t.Iterable[str]) -> None:
        """Remove drafts next to the kubelet's files, guards, records, and at the end the lock.

        :param archived: path -> SHA-256 of the content that is safe on the control node
        :param folders: folders outside of kubepin's own, the deepest first, that are removed if they are empty
        :raises TuningError: if a file is not in the archive as it is; nothing was removed then
        :raises OSError: if a file cannot be removed; the next run goes on there
        """
        node, journal = self._node, self._journal
        journal.remove_drafts()
        lost = [path for path in _records(node) if _seal(node.content(path)) != archived.get(path)]
        if lost:
            raise TuningError(*map(problems.not_archived, lost))
        newest_first = journal.oldest_first()[::-1]
        for record in newest_first:
            for change in record.files:
                for name in (BACKUP, NEW, record.id):
                    node.remove_draft(change.path, name)
        node.remove_guards()
        for folder in folders:
            node.remove_folder(folder)
        for record in newest_first:
            node.remove(journal.path(record))
        for path in _records(node):
            node.remove(path)
        node.remove(LOCK)
        node.remove_empty_folders(HOME)


def _seal(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
