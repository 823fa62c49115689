# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches a kubelet as one transaction.

The steps are: write the journal and drafts, stop, remove state files, replace files, start, verify, and commit or leave
open for confirmation. A failure undoes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    CpuManagerState,
    parse_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause, first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
    FileChange,
    cpu_state_rejected,
    state_changes,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import (
    BEGUN,
    COMMITTED,
    UNDONE,
    Journal,
    Record,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.preflight import preflight, put_back
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node, NodeLock
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.undoing import (
    Undoing,
    to_the_end,
    undone_on_failure,
)

POLL_SECONDS = 0.1
HEALTH_POLL_SECONDS = 0.02
BACKUP = "before"
"""The name of the drafts that hold what a switch replaces, so that undoing it needs renames only, and no room."""


@dataclass
class Outcome:
    """How a switch ended on the node."""

    downtime_ms: float
    started_at: float
    """When the kubelet was started, by the node's clock, in seconds since 1970."""
    up_since: float
    """The same by the node's monotonic clock, in seconds."""
    main_pid: int
    """The process that was verified."""
    verified: t.List[str] = field(default_factory=list)


@dataclass(frozen=True)
class PodCpus:
    """The CPUs that a container was seen to run on, to be compared with the kubelet's state file."""

    uid: str
    container: str
    cpus: str


class NotVerified(TuningError):
    """The kubelet did not come up as planned; the message and the details contain the first cause that it logged."""

    def __init__(self, message: str, cause: t.Optional[Cause] = None) -> None:
        quoted = f' The kubelet said: "{cause.line}"' if cause else ""
        means = f" That means: {cause.meaning}." if cause and cause.meaning else ""
        details = {"first_cause": cause.line, "meaning": cause.meaning} if cause else {}
        super().__init__(f"{message}{quoted}{means}", **details)


class Verification:
    """Watches a kubelet that was just started until it reaches the desired state and stays in it."""

    def __init__(self, node: Node, endpoint: Endpoint, timeout: float) -> None:
        self._node = node
        self._endpoint = endpoint
        self._timeout = timeout

    def run(self, expected: DesiredState, stopped_at: float, started_at: float, settle: bool = True) -> Outcome:
        """Wait for the desired state and, with *settle*, check that it lasts.

        :raises NotVerified: with the first cause
        """
        up_since = self._node.monotonic()
        deadline = up_since + self._timeout
        state = self._node.service_state()
        baseline = state.get("NRestarts")  # missing before systemd 235
        outcome: t.Optional[Outcome] = None
        while True:
            if (
                state.get("NRestarts") != baseline
                or state["ActiveState"] not in ("active", "activating")
                or state["SubState"] == "auto-restart"
            ):
                raise self._not_verified("the kubelet does not stay up with these settings.", started_at)
            if outcome is None and not self._comes_up(state):
                missing = f"/healthz does not answer (service {state['ActiveState']}, {state['SubState']})"
            else:
                outcome = outcome or Outcome(
                    (self._node.monotonic() - stopped_at) * 1000, started_at, up_since, int(state["MainPID"])
                )
                problem = self._state_problem(expected)
                if problem:
                    missing = problem
                elif not settle:
                    outcome.verified = [*self._health(outcome), self._sets(expected)]
                    return outcome
                elif self._settled(up_since) and self._healthy():
                    outcome.main_pid = int(state["MainPID"])
                    outcome.verified = [self._uptime(up_since), *self._health(outcome), self._sets(expected)]
                    return outcome
                else:
                    missing = "the kubelet was not up long enough"
                self._node.sleep(POLL_SECONDS)
            if self._node.monotonic() > deadline:
                raise self._not_verified(f"not verified within {self._timeout:g} s: {missing}.", started_at)
            state = self._node.service_state()

    def confirm(
        self, expected: DesiredState, pod: t.Optional[PodCpus], record: t.Optional[Record] = None
    ) -> t.List[str]:
        """Check that *record*'s process still runs as expected, was not restarted, and gave the pod its CPUs.

        :raises NotVerified: with the first cause
        """
        if record and record.main_pid is not None and record.up_since is not None:
            if record.boot_id != self._node.boot_id():
                raise NotVerified("the machine was started anew since the switch.")
            started_at = self._node.time() - (self._node.monotonic() - record.up_since)
            while True:
                state = self._node.service_state()
                if state["ActiveState"] != "active" or int(state["MainPID"]) != record.main_pid:
                    raise self._not_verified("the kubelet did not stay up with these settings.", started_at)
                if self._settled(record.up_since):
                    break
                self._node.sleep(POLL_SECONDS)
        if not self._healthy():
            raise NotVerified("/healthz does not answer any more.")
        problem = self._state_problem(expected) or (pod and self._pod_problem(expected, pod))
        if problem:
            raise NotVerified(f"{problem}.")
        return [self._uptime(record.up_since)] if record and record.up_since is not None else []

    def _settled(self, up_since: float) -> bool:
        return self._node.monotonic() - up_since > self._endpoint.stay_up_seconds

    def _comes_up(self, state: t.Mapping[str, str]) -> bool:
        """Whether an active kubelet becomes healthy before the service's state is polled again."""
        until = self._node.monotonic() + POLL_SECONDS
        while self._node.monotonic() < until:
            if state["ActiveState"] == "active" and self._healthy():
                return True
            self._node.sleep(HEALTH_POLL_SECONDS)
        return False

    def _healthy(self) -> bool:
        return self._endpoint.healthz_url is None or self._node.healthy(self._endpoint.healthz_url)

    def _not_verified(self, message: str, started_at: float) -> NotVerified:
        return NotVerified(message, first_cause(self._node.log_since(started_at)))

    def _state_problem(self, expected: DesiredState) -> t.Optional[str]:
        path = self._endpoint.state_paths["cpu_manager"]
        text = self._node.read(path)
        if text is None:
            return f"{path} is not there yet"
        rejected = cpu_state_rejected(text, expected)
        return f"{path} is not as planned: {rejected}" if rejected else None

    def _pod_problem(self, expected: DesiredState, pod: PodCpus) -> t.Optional[str]:
        entry = self._state(expected)["entries"].get(pod.uid, {}).get(pod.container, "no exclusive CPUs")
        if pod.cpus == entry:
            return None
        return (
            f"the probe pod may run on CPUs {pod.cpus}, and the kubelet's state file gives it {entry}: the policy is not in force "
            "for pods. Look at the runtime's log on the node"
        )

    def _uptime(self, up_since: float) -> str:
        return f"service up for {self._node.monotonic() - up_since:.0f} s without a restart"

    def _health(self, outcome: Outcome) -> t.List[str]:
        return [] if self._endpoint.healthz_url is None else [f"/healthz {outcome.downtime_ms:.0f} ms after the stop"]

    def _state(self, expected: DesiredState) -> CpuManagerState:
        text = self._node.read(self._endpoint.state_paths["cpu_manager"]) or ""
        try:
            return parse_state(text, expected.minor, expected.pod_level)
        except StateFileError as exc:
            raise NotVerified(str(exc)) from exc

    def _sets(self, expected: DesiredState) -> str:
        state = self._state(expected)
        if expected.policy != "static":
            return f"state file: policy {state['policy']}"
        reserved = f", reserved {format_cpuset(expected.reserved)}" if expected.reserved else ""
        return f"state file: policy {state['policy']}, shared pool {state['default_cpus']}{reserved}"


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
        raise TuningError("another run is changing this node right now: wait for it to end.")


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
        self._endpoint = endpoint
        self._timeout = timeout

    def check(self, changes: Changes) -> None:
        """Refuse changes that cannot be carried out, or were planned for other files than those that are here.

        :raises TuningError: with every problem; nothing was changed
        """
        found = preflight(self._node, changes.files, self._state_changes(changes.after))
        if found:
            raise TuningError.of(found)

    def apply(self, changes: Changes, hold_seconds: t.Optional[float] = None) -> t.Tuple[Record, Outcome]:
        """Carry out the changes and verify them, or undo them.

        :param hold_seconds: how long the switch stays open for confirmation, from when the kubelet is up
        :raises TuningError: after a failure; its details hold the cause, and whether the old settings are restored and
            verified
        """
        unfinished = self._journal.unfinished()
        if unfinished is not None:
            raise TuningError.of([problems.begun_meanwhile(unfinished.id)])
        self.check(changes)
        record = Record(
            id=self._journal.new_id(self._node.time()),
            status=BEGUN,
            kubelet_version=changes.kubelet_version,
            files=list(changes.files),
            state_files=self._state_changes(changes.after),
            settings=list(changes.settings),
            before=changes.before,
            after=changes.after,
            endpoint=changes.endpoint,
            sequence=self._journal.next_sequence(),
            undoes=changes.undoes,
            boot_id=self._node.boot_id(),
        )
        with self._node.guarded():
            self._begin(record)
            with undone_on_failure(lambda exc: self._undone(record, exc)):
                outcome = self._apply(record, settle=hold_seconds is None)
                record.main_pid, record.up_since = outcome.main_pid, outcome.up_since
                if hold_seconds is None:
                    self._commit(record)
                else:
                    record.held_seconds, record.held_until = hold_seconds, self._node.monotonic() + hold_seconds
                    self._journal.save(record)
        return record, outcome

    def confirm(self, record: Record, pod: t.Optional[PodCpus]) -> t.List[str]:
        """Verify a switch again. A held one is committed, or undone if it no longer verifies.

        :raises TuningError: with the cause, as `apply` does; also if a file is not as the switch wrote it, because
            the kubelet would read it at its next start
        """
        if record.status == UNDONE:
            raise TuningError(f"the switch {record.id} was undone meanwhile by another run.", undone=True)
        if record.status == COMMITTED:
            return self._verify_again(record, pod)
        with self._node.guarded(), undone_on_failure(lambda exc: self._undone(record, exc)):
            verified = self._verify_again(record, pod)
            self._commit(record)
        return verified

    def _commit(self, record: Record) -> None:
        self._journal.end(record, COMMITTED)
        self._remove_backups(record)

    def _remove_backups(self, record: Record) -> None:
        """Remove those that are left; the next switch replaces one that cannot be removed."""
        for change in record.files:
            with contextlib.suppress(OSError):
                self._node.remove_draft(change.path, BACKUP)

    def _verify_again(self, record: Record, pod: t.Optional[PodCpus]) -> t.List[str]:
        self._refuse_put_back(record)
        verified = self.verification().confirm(record.after, pod, record)
        self._refuse_put_back(record)  # it may have waited
        return verified

    def _refuse_put_back(self, record: Record) -> None:
        found = put_back(self._node, record.files)
        if found:
            raise TuningError.of(found)

    def verification(self) -> Verification:
        return Verification(self._node, self._endpoint, self._timeout)

    def undo_changes(self, record: Record) -> t.List[FileChange]:
        """The changes that undo an interrupted switch.

        :raises TuningError: if a file was edited since
        """
        edited = [
            change.path for change in record.files if self._node.read(change.path) not in (change.before, change.after)
        ]
        if edited:
            raise TuningError(
                f"the interrupted switch {record.id} cannot be undone: {', '.join(edited)} was edited since. Make the kubelet's "
                f"configuration right by hand, then move {self._journal.path(record)} away.",
                switch_id=record.id,
            )
        return [change.inverse(f"switch {record.id} was interrupted") for change in reversed(record.files)]

    def undo(self, record: Record, online: t.FrozenSet[int]) -> Outcome:
        """Restore the old settings from any step of the switch. If that fails, the kubelet is started as it is.

        :param online: the CPUs that are online now
        :raises TuningError: if the old settings do not verify, or that cannot be recorded; the journal then stays
            unfinished
        """
        record.before = dataclasses.replace(record.before, online=online)
        path = self._journal.path(record)
        with self._node.guarded(may_be_down=True):
            try:
                found = self._obstacles(record)
                if found:
                    raise TuningError.of(found)
                outcome, remarks = to_the_end(lambda: self._undo(record))
            except Exception as exc:
                raise TuningError(
                    f"the interrupted switch {record.id} was not undone: {exc} Everything that was to be replaced is in {path}; the "
                    "next run undoes the switch again first.",
                    **_details(exc),
                ) from exc
        if record.status != UNDONE:
            raise TuningError(
                f"the interrupted switch {record.id} was undone. {' '.join(remarks)}",
                undone=True,
                started_at=outcome.started_at,
                journal=path,
            )
        return outcome

    def _obstacles(self, record: Record) -> t.List[Problem]:
        """What prevents replacing the files that an undoing must replace."""
        due = [change for change in record.files if self._node.read(change.path) != change.before]
        return [
            problem for change in due for problem in self._node.obstacles(change.path, removes=change.before is None)
        ]

    def _undo(self, record: Record) -> t.Tuple[Outcome, t.List[str]]:
        """Restore the old settings step by step. A file that someone else changed meanwhile is left as it is.

        :returns: also remarks about what is not as it was, or could not be recorded
        :raises TuningError: if a file could not be restored, or the old settings do not verify
        """
        undoing = Undoing()
        back = []
        for change in reversed(record.files):
            with undoing.step(change.path):
                if self._node.read(change.path) not in (change.before, change.after):
                    undoing.remarks.append(f"{change.path} was changed by someone else meanwhile, and stays as it is.")
                    continue
                back.append(change.inverse("undone"))
                self._node.remove_draft(change.path, record.id)
                if not self._has_backup(back[-1]):
                    self._prepare(back[-1], BACKUP)
        stopped_at = undoing.stop(self._node, lambda: self._is_due(record, back))
        undoing.remove_state_files(self._node, self._endpoint.state_paths, record.before)
        for change in back:
            if change.path not in undoing.failed:
                with undoing.step(change.path):
                    self._put(change, BACKUP)
        try:
            outcome = self._start(record.before, stopped_at)
        except TuningError as exc:
            raise TuningError(f"{undoing.text} {exc}".strip(), **exc.details) from exc
        if undoing.failed:
            raise TuningError(undoing.text)
        self._remove_backups(record)
        try:
            self._journal.end(record, UNDONE)
        except OSError as exc:
            undoing.remarks.append(
                f"{self._journal.path(record)} cannot be written ({exc.strerror}), and still says that the switch is unfinished: make "
                "room there. The next run undoes the switch once more."
            )
        return outcome, undoing.remarks

    def _has_backup(self, change: FileChange) -> bool:
        """Whether what is to be restored is ready to be put in its place."""
        return change.after is not None and self._node.read_draft(change.path, BACKUP) == change.after

    def _is_due(self, record: Record, back: t.Iterable[FileChange]) -> bool:
        """Whether a running kubelet's files or state are not those of before."""
        try:
            return any(self._node.read(change.path) != change.after for change in back) or bool(
                self._state_changes(record.before)
            )
        except OSError:
            return True

    def _begin(self, record: Record) -> None:
        """Write the journal, the drafts of all files, and their backups to disk while the kubelet still runs.

        :raises TuningError: if they cannot be written; they are removed then
        """
        path = self._journal.path(record)
        try:
            self._journal.save(record)
            for change in record.files:
                path = change.path
                self._prepare(change, record.id)
                if change.before is not None:
                    self._node.draft(change.path, change.before, BACKUP)
        except OSError as exc:
            self._remove_backups(record)
            with contextlib.suppress(OSError):  # the next run undoes what cannot be removed now
                for change in record.files:
                    self._node.remove_draft(change.path, record.id)
                self._journal.forget(record)
            raise TuningError.of([problems.file_not_writable(path, str(exc.strerror))]) from exc

    def _prepare(self, change: FileChange, name: str) -> None:
        """Write the draft of a file that will change; remove a draft that is not needed."""
        if change.after is None or self._node.read(change.path) == change.after:
            self._node.remove_draft(change.path, name)
        else:
            self._node.draft(change.path, change.after, name)

    def _apply(self, record: Record, settle: bool) -> Outcome:
        """The kubelet's downtime. Everything that can be done before or after it is not done here."""
        stopped_at = self._node.stop_kubelet()
        # The kubelet may have written its state files after the journal was saved, so record them again.
        state_files = self._state_changes(record.after)
        if state_files != record.state_files:
            record.state_files = state_files
            self._journal.save(record)
        for change in state_files:
            self._node.remove(change.path)
        for change in record.files:
            self._put(change, record.id)
        return self._start(record.after, stopped_at, settle)

    def _start(self, expected: DesiredState, stopped_at: float, settle: bool = True) -> Outcome:
        started_at = self._node.time()
        self._node.start_kubelet()
        return self.verification().run(expected, stopped_at, started_at, settle)

    def _state_changes(self, expected: DesiredState) -> t.List[FileChange]:
        paths = self._endpoint.state_paths
        return state_changes({name: (path, self._node.read(path)) for name, path in paths.items()}, expected)

    def _put(self, change: FileChange, draft: str) -> None:
        if self._node.read(change.path) == change.after:
            return
        if change.after is None:
            self._node.remove(change.path)
        else:
            self._node.place_draft(change.path, draft)

    def _undone(self, record: Record, exc: BaseException) -> TuningError:
        """Undo the switch; returns one error that says what happened, why, and what is in place now."""
        details = {**_details(exc), "journal": self._journal.path(record)}
        try:
            outcome, remarks = self._undo(record)
        except Exception as second:
            return TuningError(
                f"{exc} Undoing it did not verify either: {second} Everything that was to be replaced is in {details['journal']}; "
                "the next run undoes the switch again first.",
                undone=False,
                verified=[],
                **details,
            )
        return TuningError(
            " ".join([f"{exc} The old settings are back and verified ({'; '.join(outcome.verified)}).", *remarks]),
            undone=True,
            verified=outcome.verified,
            started_at=outcome.started_at,
            **details,
        )


def _details(exc: BaseException) -> t.Dict[str, t.Any]:
    return {"first_cause": str(exc), "meaning": "", **(exc.details if isinstance(exc, TuningError) else {})}
