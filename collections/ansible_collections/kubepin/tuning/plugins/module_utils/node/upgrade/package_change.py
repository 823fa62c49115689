# SPDX-License-Identifier: GPL-3.0-or-later
"""The replacement of a node's packages in a transaction, and its undoing."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import UPGRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry, load
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    FileText,
    PackageChange,
    PackagesRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import Packages

IN_PROGRESS = f"{UPGRADES}/packages-in-hand"
"""Holds the kubelet's settings. Exists while packages are replaced, until systemd has reloaded their unit files."""


def restore_settings(files: Files) -> None:
    """Restore kubelet settings that packages changed, including those of a run that was killed.

    :raises TuningError: if the record of that run cannot be read
    :raises OSError: if a file cannot be written
    """
    entry = load(
        files, IN_PROGRESS, PackagesRecord, lambda reason: problems.packages_record_unreadable(IN_PROGRESS, reason)
    )
    for file in entry.record.settings if entry else ():
        if file.text is not None and files.read(file.path) != file.text:
            files.replace(file.path, file.text)


@dataclass(frozen=True)
class PackageReplacement:
    """All packages at once, while the kubelet is stopped.

    The files with the kubelet's settings stay as they are, whatever the packages' scripts do to them.
    """

    packages: Packages
    node: Node
    path: str
    """The folder with the new package files."""
    old: str
    """The folder with those of before."""
    changes: t.Tuple[PackageChange, ...]
    settings: t.Tuple[str, ...]
    """The paths of the kubelet's settings."""

    def draft(self, files: Files) -> None:
        """The package files were fetched long before."""

    def remove_draft(self, files: Files) -> None:
        """They stay."""

    def apply(self, files: Files) -> None:
        """:raises TuningError: with the package manager's output"""
        self._replace(self.path)

    def undo(self) -> None:
        """Install the packages of before, and remove those that came along.

        :raises TuningError: with the package manager's output
        """
        came = [change.name for change in self.changes if change.before is None]
        self._replace(self.old, [name for name in came if self.packages.version_of(name)])

    def hold_settings(self) -> Entry[PackagesRecord]:
        """Record that packages are being replaced, and the kubelet's settings as they are now.

        :raises OSError: if that cannot be written
        """
        settings = tuple(FileText(path, self.node.read(path)) for path in self.settings)
        entry = Entry(self.node, IN_PROGRESS, PackagesRecord(settings))
        entry.save()
        return entry

    def _replace(self, folder: str, unwanted: t.Sequence[str] = ()) -> None:
        """Install the package files of a folder, and have systemd reload the unit files if they changed."""
        packages, node = self.packages, self.node
        files = packages.files_in(folder)
        in_progress = self.hold_settings()
        due = [path for path in files.values() if not packages.complete(*packages.describe(path))]
        try:
            if due:
                packages.do(packages.install_command(due), node.sleep)
            if unwanted:
                packages.do(packages.remove_command(unwanted), node.sleep)
            packages.hold_again([change.name for change in self.changes if change.held], list(files))
        finally:  # even if packages cannot be restored, the old kubelet must start
            restore_settings(node)
            node.read_changed_units()
        in_progress.forget()
