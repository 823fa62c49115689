# SPDX-License-Identifier: GPL-3.0-or-later
"""How a transaction that stops the kubelet is undone: shared by switches and upgrades."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import DesiredState, state_changes
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files


@contextlib.contextmanager
def undone_on_failure(undone: t.Callable[[BaseException], TuningError]) -> t.Iterator[None]:
    """A transaction that is undone whatever goes wrong, an exit of the process included.

    :param undone: undoes it, and returns one error that says what happened and what is in place now
    """
    try:
        yield
    except BaseException as exc:
        error = undone(exc)
        if not isinstance(exc, Exception):
            raise
        raise error from exc


class Undoing:
    """The steps of an undoing: one that fails keeps no other from being done."""

    def __init__(self) -> None:
        self.failed: t.Dict[str, str] = {}
        """What could not be restored -> the reason."""
        self.remarks: t.List[str] = []
        """Whole sentences about what is not as it was, or could not be recorded."""

    @contextlib.contextmanager
    def step(self, subject: str) -> t.Iterator[None]:
        try:
            yield
        except (OSError, TuningError) as exc:
            self.failed.setdefault(subject, str(exc))

    @property
    def text(self) -> str:
        """What could not be restored, and the remarks."""
        return " ".join(
            [
                *(f"{subject} could not be restored: {reason.rstrip('.')}." for subject, reason in self.failed.items()),
                *self.remarks,
            ]
        )

    def remove_state_files(self, node: Files, paths: t.Mapping[str, str], expected: DesiredState) -> None:
        """Remove the state files that a kubelet with the expected settings would refuse, while it is stopped.

        They are not kept: the transaction that is undone wrote them.

        :param paths: "cpu_manager" and "memory_manager" -> path
        """
        for name, path in paths.items():
            with self.step(path):
                if state_changes({name: (path, node.read(path))}, expected):
                    node.remove(path)
