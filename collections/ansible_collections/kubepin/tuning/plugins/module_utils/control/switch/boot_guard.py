# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the boot guard, as changes of a switch. Pure.

The unit needs no daemon-reload: systemd reads it at the next boot, which is when it is for. A drop-in of multi-user.target
starts it, and not a link in kubelet.service.wants: so the guard consists of files alone, which the journal can hold, and
runs at a boot and not whenever the kubelet starts. A drop-in of kubelet.service would make systemd ask for a
daemon-reload of the kubelet.
"""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import (
    GUARD_DROP_IN,
    GUARD_FOLDER,
    GUARD_PROGRAM,
    GUARD_UNIT,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
)


@dataclass(frozen=True)
class DesiredGuard:
    """The guard that a node has, and the one that it is to have."""

    program: str | None
    """The text of `node/boot_guard.py`; None if there is to be no guard."""
    current: t.Mapping[str, str | None]
    """Path -> text (None: absent) of the guard's files."""


def guard_changes(guard: DesiredGuard, after: DesiredState, endpoint: Endpoint) -> list[FileChange]:
    """What installs the guard, or removes it. A guard of another kubepin version does not cause a switch.

    :param after: the state that the kubelet shows after the switch
    """
    texts: dict[str, str | None] = dict.fromkeys((GUARD_PROGRAM, GUARD_UNIT, GUARD_DROP_IN))
    if guard.program is not None:
        texts = {
            GUARD_PROGRAM: guard.program,
            GUARD_UNIT: _unit(after, endpoint),
            GUARD_DROP_IN: f"# Written by kubepin.\n[Unit]\nWants={posixpath.basename(GUARD_UNIT)}\n",
        }
    reason = "no boot guard is wanted" if guard.program is None else "the boot guard"
    current = guard.current
    changes = [
        FileChange(path, current.get(path), text, reason) for path, text in texts.items() if current.get(path) != text
    ]
    other_version = [change.path for change in changes if change.before and change.after] == [GUARD_PROGRAM]
    return [] if other_version and len(changes) == 1 else changes


def _unit(after: DesiredState, endpoint: Endpoint) -> str:
    paths = endpoint.state_paths
    command = [
        "/usr/bin/env",
        "python3",
        GUARD_PROGRAM,
        f"--cpu-state={paths['cpu_manager']}",
        f"--memory-state={paths['memory_manager']}",
        f"--folder={GUARD_FOLDER}",
        *([f"--strictly-reserved={format_cpuset(after.reserved)}"] if after.strict else []),
    ]
    folders = sorted({posixpath.dirname(path) for path in (*paths.values(), GUARD_PROGRAM)})
    return "\n".join(
        [
            "# Written by kubepin: moves state files aside that the kubelet would refuse on this machine.",
            "[Unit]",
            "Description=kubepin: check the kubelet's state files against this machine",
            f"Before={endpoint.service}.service",
            f"RequiresMountsFor={' '.join(folders)}",
            "",
            "[Service]",
            "Type=oneshot",
            "TimeoutStartSec=30",
            f"ExecStart=-{' '.join(command)}",
            "",
        ]
    )
