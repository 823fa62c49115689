# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of changes that a transaction makes on a node, and how each is undone.

All that needs room happens while the kubelet still runs: beside each file is a draft of what replaces it, and a backup.
The kubelet's downtime, and undoing, then need renames only.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import FileText


class Change(t.Protocol):
    """What a transaction does while the kubelet is stopped."""

    @property
    def path(self) -> str:
        """The file, for errors."""

    def draft(self, files: Files) -> None:
        """Prepare it while the kubelet runs.

        :raises OSError: if it cannot be written
        """

    def remove_draft(self, files: Files) -> None:
        """Take back what `draft` did."""

    def apply(self, files: Files) -> None:
        """:raises OSError: if it cannot be done"""


class Restorable(t.Protocol):
    """A file of before a transaction, and what an undoing needs to restore it."""

    @property
    def path(self) -> str: ...

    @property
    def was_missing(self) -> bool:
        """Whether there was no such file, so that restoring it is a removal."""

    def is_due(self, files: Files) -> bool:
        """Whether the file is not as it was."""

    def is_backed_up(self, files: Files) -> bool:
        """Whether the right backup is beside the file."""

    def back_up(self, files: Files) -> None:
        """Write the backup beside the file.

        :raises OSError: if it cannot be written
        """


def restore(file: Restorable, files: Files) -> None:
    """Restore a file, which needs neither a command nor room once it is backed up.

    :raises OSError: if it cannot be done
    """
    if not file.is_due(files):
        return
    if file.was_missing:
        files.remove(file.path)
    else:
        files.place_draft(file.path, BACKUP)


class TextFile(FileText):
    """A file whose text the journal holds."""

    @property
    def was_missing(self) -> bool:
        return self.text is None

    def is_due(self, files: Files) -> bool:
        return files.read(self.path) != self.text

    def is_backed_up(self, files: Files) -> bool:
        return self.text is None or files.read_draft(self.path, BACKUP) == self.text

    def back_up(self, files: Files) -> None:
        if self.text is not None:
            files.draft(self.path, self.text, BACKUP)


@dataclass(frozen=True)
class CopiedFile:
    """A file of which a copy is kept, with owner and mode, such as a program."""

    path: str
    kept: t.Optional[str]

    @property
    def was_missing(self) -> bool:
        return self.kept is None

    def is_due(self, files: Files) -> bool:
        return files.exists(self.path) if self.kept is None else not files.same(self.kept, self.path)

    def is_backed_up(self, files: Files) -> bool:
        return self.kept is None or files.has_draft(self.path, BACKUP, self.kept)

    def back_up(self, files: Files) -> None:
        if self.kept is None or self.is_backed_up(files):
            return
        if not (files.same(self.kept, self.path) and files.link_draft(self.path, BACKUP)):
            files.draft_copy(self.kept, self.path, BACKUP)


@dataclass(frozen=True)
class TextChange:
    """The planned change of a file's text."""

    change: FileChange
    name: str
    """Of the draft."""

    @property
    def path(self) -> str:
        return self.change.path

    def draft(self, files: Files) -> None:
        if self.change.after is None or files.read(self.path) == self.change.after:
            files.remove_draft(self.path, self.name)
        else:
            files.draft(self.path, self.change.after, self.name)

    def remove_draft(self, files: Files) -> None:
        files.remove_draft(self.path, self.name)

    def apply(self, files: Files) -> None:
        if files.read(self.path) == self.change.after:
            return
        if self.change.after is None:
            files.remove(self.path)
        else:
            files.place_draft(self.path, self.name)


@dataclass(frozen=True)
class ProgramChange:
    """The replacement of a program by another, which keeps the old one's owner, mode and extended attributes."""

    path: str
    new: str
    """The path of the new program."""
    name: str
    """Of the draft."""

    def draft(self, files: Files) -> None:
        files.draft_copy(self.new, self.path, self.name, like=self.path if files.exists(self.path) else self.new)

    def remove_draft(self, files: Files) -> None:
        files.remove_draft(self.path, self.name)

    def apply(self, files: Files) -> None:
        files.place_draft(self.path, self.name)
