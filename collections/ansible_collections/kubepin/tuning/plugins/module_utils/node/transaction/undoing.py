# SPDX-License-Identifier: GPL-3.0-or-later
"""How a transaction that stops the kubelet is undone: shared by switches and upgrades."""

from __future__ import annotations

import contextlib
import typing as t
from functools import partial

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import DesiredState, state_changes
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node

T = t.TypeVar("T")


@contextlib.contextmanager
def undone_on_failure(undone: t.Callable[[BaseException], TuningError]) -> t.Iterator[None]:
    """A transaction that is undone whatever goes wrong, an exit of the process included.

    :param undone: undoes it, and returns one error that says what happened and what is in place now
    """
    try:
        yield
    except BaseException as exc:
        error = to_the_end(partial(undone, exc))
        if not isinstance(exc, Exception):
            raise
        raise error from exc


def to_the_end(undo: t.Callable[[], T]) -> T:
    """The result of *undo*. If the process is to end meanwhile, *undo* is repeated before it does."""
    try:
        return undo()
    except Exception:
        raise
    except BaseException:
        undo()
        raise


class Undoing:
    """The steps of an undoing: one that fails keeps no other from being done."""

    def __init__(self) -> None:
        self.failed: t.Dict[str, str] = {}
        """What could not be restored -> the reason."""
        self.remarks: t.List[Problem] = []
        """What is not as it was, or could not be recorded."""

    def stop(self, node: Node, is_due: t.Callable[[], bool]) -> float:
        """Stop the kubelet. If that fails, end its process without a command.

        One that ran on would write the state of the new settings again, and then not start with the old ones.

        :param is_due: whether anything that the kubelet reads has to be restored
        :returns: when it was asked to stop, by the monotonic clock in seconds
        """
        try:
            return node.stop_kubelet()
        except TuningError:
            asked_at = node.monotonic()
        if is_due():
            try:
                node.end_kubelet()
            except TuningError as exc:
                self.remarks += exc.problems
        return asked_at

    @contextlib.contextmanager
    def step(self, subject: str) -> t.Iterator[None]:
        try:
            yield
        except (OSError, TuningError) as exc:
            self.failed.setdefault(subject, str(exc))

    @property
    def problems(self) -> t.List[Problem]:
        """What could not be restored, and the remarks."""
        return [*(problems.file_not_restored(path, reason) for path, reason in self.failed.items()), *self.remarks]

    def remove_state_files(self, node: Files, paths: t.Mapping[str, str], expected: DesiredState) -> None:
        """Remove the state files that a kubelet with the expected settings would refuse, while it is stopped.

        They are not kept: the transaction that is undone wrote them.

        :param paths: "cpu_manager" and "memory_manager" -> path
        """
        for name, path in paths.items():
            with self.step(path):
                if state_changes({name: (path, node.read(path))}, expected):
                    node.remove(path)
