# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches a kubelet to a plan's settings, and undoes or confirms that."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, causes
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import PROGRAM_BYTES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    Endpoint,
    FileChange,
    contains,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.changes import TextChange, TextFile
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry, Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.preflight import preflight, put_back
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    UNDONE,
    SwitchRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.room import NewFile, shortages
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node, NodeLock
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system_daemons import SystemDaemons
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.transaction import Transaction
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.undoing import (
    Undoing,
    to_the_end,
    undone_on_failure,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.verification import (
    Outcome,
    PodCpus,
    Verification,
)

RECORD_BYTES = 16 << 10
"""The most that a record has besides the texts of files."""
STATE_BYTES = 64 << 10
"""The state file of a kubelet with hundreds of containers."""


def wait_for_held_switch(node: Node, journal: Journal, own: t.Optional[str]) -> None:
    """Wait while another run's switch awaits confirmation; one that is not confirmed in time counts as interrupted.

    Does not take the lock, which the other run needs to confirm. No switch is waited for longer than it is held, and
    none from before a restart of the machine.

    :param own: the id of the caller's own switch
    :raises TuningError: if the other run ended its switch meanwhile, because that run is still active
    """
    deadlines: t.Dict[str, float] = {}
    waited = False
    while True:
        record = journal.unfinished()
        if record is None or record.id == own:
            break
        now = node.monotonic()
        if now >= deadlines.setdefault(record.id, now + record.held_for(node.boot_id(), now)):
            break
        waited = True
        node.sleep(1)
    if waited and record is None:
        raise TuningError(problems.another_run_active())


@contextlib.contextmanager
def sole_use(node: Node, journal: Journal, own: t.Optional[str]) -> t.Iterator[None]:
    """The lock of a node on which no other run's switch awaits confirmation, not even one of a run that had the lock.

    :param own: the id of the caller's own switch
    :raises TuningError: if another run is active, or the lock is not free in time
    """
    while True:
        wait_for_held_switch(node, journal, own)
        with NodeLock():
            record = journal.unfinished()
            if record is None or record.id == own or not record.held_for(node.boot_id(), node.monotonic()):
                yield
                return


class Switch:
    """Carries out plans on one node."""

    def __init__(self, node: Node, journal: Journal, endpoint: Endpoint, timeout: float) -> None:
        self._node = node
        self._journal = journal
        self._transaction = Transaction(node, endpoint, timeout)

    def check(self, changes: Changes) -> None:
        """Refuse changes that cannot be carried out, or were planned for other files than those that are here.

        :raises TuningError: with every problem; nothing was changed
        """
        found = preflight(self._node, changes.files, self._transaction.refused_state_files(changes.after))
        found += shortages(self._new_files(changes), self._node.room)
        if found:
            raise TuningError(*found)

    def _new_files(self, changes: Changes) -> t.Iterator[NewFile]:
        """What a switch and its undoing write, without the files that are renamed."""
        texts = [text for change in changes.files for text in (change.before, change.after) if text is not None]
        record = os.path.join(self._journal.directory, "switch.json")
        for name in ("record", "new record"):  # a record is replaced by a new one
            yield NewFile(f"{record}.{name}", 2 * _size(*texts) + RECORD_BYTES)
        for change in changes.files:
            for text in (change.before, change.after):  # backup and draft
                if text is not None:
                    yield NewFile(change.path, _size(text))
        for path in self._transaction.endpoint.state_paths.values():
            yield NewFile(path, STATE_BYTES)
        yield NewFile(os.path.join(tempfile.gettempdir(), "ansible"), PROGRAM_BYTES)  # of the next step, or of the undo

    def apply(self, changes: Changes, hold_seconds: t.Optional[float] = None) -> t.Tuple[SwitchRecord, Outcome]:
        """Carry out the changes and verify them, or undo them.

        :param hold_seconds: how long the switch stays open for confirmation, from when the kubelet is up
        :raises TuningError: after a failure; its details hold the cause, and whether the old settings are restored and
            verified
        """
        unfinished = self._journal.unfinished()
        if unfinished is not None:
            raise TuningError(problems.begun_meanwhile(unfinished.id))
        self.check(changes)
        record = SwitchRecord(
            id=self._journal.new_id(self._node.time()),
            status=BEGUN,
            kubelet_version=changes.kubelet_version,
            files=tuple(changes.files),
            state_files=self._transaction.refused_state_files(changes.after),
            settings=tuple(changes.settings),
            before=changes.before,
            after=changes.after,
            endpoint=changes.endpoint,
            sequence=self._journal.next_sequence(),
            undoes=changes.undoes,
            boot_id=self._node.boot_id(),
            folders_made=self._folders_made(changes),
            folders_to_remove=tuple(changes.folders),
        )
        entry = self._journal.entry(record)
        with self._node.guarded():
            self._begin(entry)
            with undone_on_failure(lambda exc: self._undone(entry, exc)):
                outcome = self._transaction.carry_out(
                    entry, _changes_of(record), record.after, settle=hold_seconds is None
                )
                daemons = self._daemons(record).follow()
                if hold_seconds is None:  # else the confirmation says it
                    outcome.lasting += daemons
                    outcome.verified += daemons
                up = {"main_pid": outcome.main_pid, "up_since": outcome.up_since}
                if hold_seconds is None:
                    self._commit(entry, **up)
                else:
                    held_until = self._node.monotonic() + hold_seconds
                    entry.update(**up, held_seconds=hold_seconds, held_until=held_until)
        return entry.record, outcome

    def _folders_made(self, changes: Changes) -> t.Tuple[str, ...]:
        """The folders that are there because of these changes: those that are missing now, and those that a rollback was
        about to remove when the power was cut."""
        written = [change.path for change in changes.files if change.after is not None]
        left = self._journal.folders_to_remove()
        made = {folder for path in written for folder in self._node.missing_folders(path)}
        made |= {folder for folder in left if any(contains(folder, path) for path in written)}
        kept = {folder for folder in made if contains(folder, changes.config_dir)}
        return tuple(sorted(made - kept, key=len, reverse=True))

    def confirm(self, record: SwitchRecord, pod: t.Optional[PodCpus]) -> t.List[str]:
        """Verify a switch again. A held one is committed, or undone if it no longer verifies.

        :raises TuningError: with the cause, as `apply` does; also if a file is not as the switch wrote it, because
            the kubelet would read it at its next start
        """
        if record.status == UNDONE:
            raise TuningError(problems.switch_undone_meanwhile(record.id), undone=True)
        if record.status == COMMITTED:
            return self._verify_again(record, pod)
        entry = self._journal.entry(record)
        with self._node.guarded(), undone_on_failure(lambda exc: self._undone(entry, exc)):
            verified = self._verify_again(record, pod)
            self._commit(entry)
        return verified

    def _commit(self, entry: Entry[SwitchRecord], **changes: t.Any) -> None:
        entry.update(status=COMMITTED, **changes)
        self._transaction.clean((), _files_of(entry.record))
        removed = self._remove_folders(entry.record.folders_to_remove)
        with contextlib.suppress(OSError):  # of a full disk: the switch is committed, and must not be undone for this
            entry.update(folders_removed=removed)

    def _remove_folders(self, folders: t.Iterable[str]) -> t.Tuple[str, ...]:
        """Only after the kubelet was seen running with files that do not name them, and after their drafts and backups.

        :returns: those that were removed
        """
        return tuple(folder for folder in folders if self._node.remove_folder(folder))

    def _verify_again(self, record: SwitchRecord, pod: t.Optional[PodCpus]) -> t.List[str]:
        self._refuse_put_back(record)
        verified = self.verification().confirm(record.after, pod, record)
        self._refuse_put_back(record)  # it may have waited
        return [*verified, *self._daemons(record).verified()]

    def _daemons(self, record: SwitchRecord) -> SystemDaemons:
        return SystemDaemons(self._node, [change.path for change in record.files])

    def _refuse_put_back(self, record: SwitchRecord) -> None:
        found = put_back(self._node, record.files)
        if found:
            raise TuningError(*found)

    def verification(self) -> Verification:
        return self._transaction.verification()

    def undo_changes(self, record: SwitchRecord) -> t.List[FileChange]:
        """The changes that undo an interrupted switch.

        :raises TuningError: if a file was edited since
        """
        edited = [
            change.path for change in record.files if self._node.read(change.path) not in (change.before, change.after)
        ]
        if edited:
            raise TuningError(problems.edited_since(record.id, edited, self._journal.path(record)), switch_id=record.id)
        return [change.inverse(f"switch {record.id} was interrupted") for change in reversed(record.files)]

    def undo(self, record: SwitchRecord, online: t.FrozenSet[int]) -> Outcome:
        """Restore the old settings from any step of the switch. If that fails, the kubelet is started as it is.

        :param online: the CPUs that are online now
        :raises TuningError: if the old settings do not verify, or that cannot be recorded; the journal then stays
            unfinished
        """
        entry = self._journal.entry(
            dataclasses.replace(record, before=dataclasses.replace(record.before, online=online))
        )
        self._journal.remove_drafts()
        with self._node.guarded(may_be_down=True):
            try:
                found = self._obstacles(record)
                if found:
                    raise TuningError(*found)
                outcome, remarks = to_the_end(lambda: self._undo(entry))
            except Exception as exc:
                raise TuningError(
                    *causes(exc), problems.interrupted_not_undone(record.id, entry.path), **_facts(exc)
                ) from exc
        if entry.record.status != UNDONE:
            raise TuningError(
                problems.interrupted_undone(record.id),
                *remarks,
                undone=True,
                started_at=outcome.started_at,
                journal=entry.path,
            )
        return outcome

    def _obstacles(self, record: SwitchRecord) -> t.List[Problem]:
        """What prevents replacing the files that an undoing must replace."""
        due = [change for change in record.files if self._node.read(change.path) != change.before]
        return [
            problem for change in due for problem in self._node.obstacles(change.path, removes=change.before is None)
        ]

    def _undo(self, entry: Entry[SwitchRecord]) -> t.Tuple[Outcome, t.List[Problem]]:
        """Restore the old settings. A file that someone else changed meanwhile is left as it is.

        :returns: also remarks about what is not as it was, or could not be recorded
        :raises TuningError: if a file could not be restored, or the old settings do not verify
        """
        record, undoing = entry.record, Undoing()
        before = []
        for change in reversed(record.files):
            with undoing.step(change.path):
                if self._node.read(change.path) in (change.before, change.after):
                    self._node.remove_draft(change.path, record.id)
                    before.append(TextFile(change.path, change.before))
                else:
                    undoing.remarks.append(problems.left_as_edited(change.path))
        outcome = self._undo_files(record, before, undoing)
        self._transaction.clean((), _files_of(record))
        if len(before) == len(record.files):  # a file that someone else changed may name them
            self._remove_folders(record.folders_made or ())
        try:
            entry.update(status=UNDONE)
        except OSError as exc:
            undoing.remarks.append(problems.journal_not_updated(entry.path, str(exc.strerror)))
        return outcome, undoing.remarks

    def _undo_files(self, record: SwitchRecord, before: t.Sequence[TextFile], undoing: Undoing) -> Outcome:
        """Restore the kubelet first, which matters most; then apply the files of system daemons."""
        daemons = self._daemons(record)
        try:
            outcome = self._transaction.undo(before, record.before, undoing)
        except TuningError as exc:
            try:
                daemons.follow()
            except TuningError as other:
                raise TuningError(*exc.problems, *other.problems, **exc.facts) from exc
            raise
        outcome.verified += daemons.follow()
        return outcome

    def _begin(self, entry: Entry[SwitchRecord]) -> None:
        """Write the journal, the drafts of all files, and their backups to disk while the kubelet still runs.

        :raises TuningError: if they cannot be written; they are removed then
        """
        record, path = entry.record, entry.path
        self._journal.remove_drafts()
        try:
            entry.save()
            self._transaction.prepare(_changes_of(record), _files_of(record))
        except OSError as exc:
            self._remove_folders(record.folders_made or ())
            with contextlib.suppress(OSError):  # the next run undoes what cannot be removed now
                entry.forget()
            raise TuningError(problems.file_not_writable(exc.filename or path, str(exc.strerror))) from exc

    def _undone(self, entry: Entry[SwitchRecord], exc: BaseException) -> TuningError:
        """Undo the switch; returns one error that says what happened, why, and what is in place now."""
        first, facts = causes(exc), {**_facts(exc), "journal": entry.path}
        try:
            outcome, remarks = self._undo(entry)
        except Exception as second:
            return TuningError(
                *first,
                *causes(second),
                problems.switch_not_undone(entry.path),
                undone=False,
                verified=[],
                **facts,
            )
        return TuningError(
            *first,
            problems.switch_undone(outcome.verified),
            *remarks,
            undone=True,
            verified=outcome.verified,
            started_at=outcome.started_at,
            **facts,
        )


def _size(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)


def _changes_of(record: SwitchRecord) -> t.List[TextChange]:
    return [TextChange(change, record.id) for change in record.files]


def _files_of(record: SwitchRecord) -> t.List[TextFile]:
    return [TextFile(change.path, change.before) for change in record.files]


def _facts(exc: BaseException) -> t.Dict[str, t.Any]:
    return {"first_cause": str(exc), "meaning": "", **(exc.facts if isinstance(exc, TuningError) else {})}
