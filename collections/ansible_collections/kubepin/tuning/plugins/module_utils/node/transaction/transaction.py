# SPDX-License-Identifier: GPL-3.0-or-later
"""What switches and upgrades of a kubelet share: drafts and backups, stop, change, start, verify, and the one undoing."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    state_changes,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.changes import (
    Change,
    Restorable,
    restore,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, NEW
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    SwitchRecord,
    UpgradeRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.undoing import Undoing
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.verification import (
    Outcome,
    Verification,
)

AnyEntry = t.Union[Entry[SwitchRecord], Entry[UpgradeRecord]]


@dataclass(frozen=True)
class Transaction:
    """The change of one kubelet. Callers hold `Node.guarded`, and undo what fails (`undone_on_failure`)."""

    node: Node
    endpoint: Endpoint
    timeout: float
    """How long a kubelet may take to be up, in seconds."""

    def prepare(self, changes: t.Sequence[Change], before: t.Sequence[Restorable]) -> None:
        """Write drafts and backups to disk while the kubelet runs.

        :raises OSError: with the file, if one cannot be written; nothing is left of them then
        """
        path = ""
        try:
            for change in changes:
                path = change.path
                change.draft(self.node)
            for file in before:
                path = file.path
                file.back_up(self.node)
        except OSError as exc:
            self.clean(changes, before)
            raise OSError(exc.errno, exc.strerror, path) from exc

    def clean(self, changes: t.Sequence[Change], before: t.Sequence[Restorable]) -> None:
        """Remove drafts and backups; the next transaction replaces one that cannot be removed."""
        for file in before:
            for name in (BACKUP, NEW):
                with contextlib.suppress(OSError):
                    self.node.remove_draft(file.path, name)
        for change in changes:
            with contextlib.suppress(OSError):
                change.remove_draft(self.node)

    def refused_state_files(self, expected: DesiredState) -> t.Tuple[FileChange, ...]:
        """The removal of each state file that a kubelet in the expected state would refuse."""
        paths = self.endpoint.state_paths
        return tuple(state_changes({name: (path, self.node.read(path)) for name, path in paths.items()}, expected))

    def carry_out(
        self,
        entry: AnyEntry,
        changes: t.Sequence[Change],
        expected: DesiredState,
        removed_earlier: t.Sequence[FileChange] = (),
        settle: bool = True,
    ) -> Outcome:
        """The kubelet's downtime. Everything that can be done before or after it is not done here.

        :param removed_earlier: removals that an interrupted run recorded
        """
        stopped_at = self.node.stop_kubelet()
        # The kubelet may have written its state files after the record was saved, so record them again.
        state_files = self.refused_state_files(expected)
        entry.update(state_files=merged(removed_earlier, state_files))
        for file in state_files:
            self.node.remove(file.path)
        for change in changes:
            change.apply(self.node)
        return self._start(expected, stopped_at, settle)

    def undo(
        self,
        before: t.Sequence[Restorable],
        expected: DesiredState,
        undoing: Undoing,
        packages: t.Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Restore everything step by step, and verify it. This needs no command until the start, and no room, as long as
        the backups are there.

        A created file stays if another one has no backup, because a kubelet may need it then. It also stays if another
        one cannot be restored and the policy of before is static: its state file stays too, and a kubelet
        that no longer reads the policy refuses it (pkg/kubelet/cm/cpumanager/state/state_checkpoint.go).

        :param undoing: what has failed so far; its steps are added
        :param packages: restores packages, while the kubelet is stopped
        :raises TuningError: if something could not be restored, or the expected state is not reached
        """
        node = self.node
        due = []
        for file in before:
            with undoing.step(file.path):
                if file.is_due(node) and not file.is_backed_up(node):
                    file.back_up(node)
                due.append(file)
        removes_created = not undoing.failed
        keeps_state = expected.policy == "static"
        stopped_at = undoing.stop(node, lambda: self._is_due(before, expected))
        undoing.remove_state_files(node, self.endpoint.state_paths, expected)
        packages()
        for file in sorted(due, key=lambda file: file.was_missing):
            if removes_created or not file.was_missing:
                with undoing.step(file.path):
                    restore(file, node)
            if keeps_state and file.path in undoing.failed:
                removes_created = False
        try:
            outcome = self._start(expected, stopped_at)
        except TuningError as exc:
            raise TuningError(*undoing.problems, *exc.problems, **exc.facts) from exc
        if undoing.failed:
            raise TuningError(*undoing.problems)
        self.clean((), before)
        return outcome

    def _is_due(self, before: t.Iterable[Restorable], expected: DesiredState) -> bool:
        """Whether a running kubelet's files or state are not those of before."""
        try:
            return any(file.is_due(self.node) for file in before) or bool(self.refused_state_files(expected))
        except OSError:
            return True

    def verification(self) -> Verification:
        return Verification(self.node, self.endpoint, self.timeout)

    def _start(self, expected: DesiredState, stopped_at: float, settle: bool = True) -> Outcome:
        started_at = self.node.time()
        self.node.start_kubelet()
        return self.verification().run(expected, stopped_at, started_at, settle)


def merged(earlier: t.Iterable[FileChange], now: t.Iterable[FileChange]) -> t.Tuple[FileChange, ...]:
    """The removals of state files of an interrupted run and of this one, each file once."""
    return tuple({change.path: change for change in (*earlier, *now)}.values())


def followed(earlier: t.Iterable[FileChange], now: t.Iterable[FileChange]) -> t.Tuple[FileChange, ...]:
    """The changes of earlier steps and of this one, each file once, from its first text to its last.

    If a change does not start with the text that an earlier step left, someone else edited the file in between, and the
    earlier changes no longer count.
    """
    changes = {change.path: change for change in earlier}
    for change in now:
        before = changes.get(change.path)
        changes[change.path] = (
            replace(change, before=before.before) if before and before.after == change.before else change
        )
    return tuple(change for change in changes.values() if change.before != change.after)
