# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch's changes and the state that it leads to: what a plan consists of, and what the transaction works with."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import Refusal, StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    parse_state,
    refusal_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    Machine,
    memory_refusal_of,
    parse_memory_state,
)


@dataclass(frozen=True)
class SettingChange:
    """A kubelet setting whose value will change, for people to read."""

    name: str
    before: t.Any
    after: t.Any
    reason: str


@dataclass(frozen=True)
class FileChange:
    """A file that is replaced, created (`before` is None) or removed (`after` is None)."""

    path: str
    before: t.Optional[str]
    after: t.Optional[str]
    reason: str

    def inverse(self, reason: str) -> FileChange:
        return FileChange(self.path, self.after, self.before, reason)


@dataclass(frozen=True)
class DesiredState:
    """The state that a node must show once its kubelet runs with the plan's settings."""

    policy: str
    reserved: t.FrozenSet[int]
    online: t.FrozenSet[int]
    strict: bool
    memory_policy: t.Optional[str]
    """None if the kubelet has no memory manager."""
    memory: Machine = field(default_factory=dict)
    """The memory manager's initial machine state; empty if unknown."""
    minor: int = 0
    """The kubelet's minor version of 1.x; 0 in old journals, which do not contain it."""
    pod_level: bool = False
    """Whether the kubelet manages resources of whole pods."""

    def to_dict(self) -> t.Dict[str, t.Any]:
        """The state as JSON can hold it."""
        return {**asdict(self), "reserved": sorted(self.reserved), "online": sorted(self.online)}

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> DesiredState:
        """The state that `to_dict` wrote."""
        return cls(**{**data, "reserved": frozenset(data["reserved"]), "online": frozenset(data["online"])})


@dataclass(frozen=True)
class Endpoint:
    """What the verification needs to know about the kubelet besides its settings."""

    healthz_url: t.Optional[str]
    """None if the kubelet serves no health endpoint (healthzPort 0)."""
    state_paths: t.Mapping[str, str]
    """"cpu_manager" and "memory_manager" -> path of the state file."""
    stay_up_seconds: float
    """How long the service must stay up: longer than its restart interval, or a crash loop would look healthy."""
    service: str = "kubelet"
    """The systemd service that runs the kubelet."""
    log_file: t.Optional[str] = None
    """The file that the kubelet logs to; None if it logs to the journal of its service."""


@dataclass(frozen=True)
class KubeletState:
    """What only the control node can read from a kubelet's configuration."""

    settings: t.Mapping[str, t.Any]
    """The effective settings that kubepin manages."""
    state: DesiredState
    """The state that the kubelet shows with them."""
    endpoint: Endpoint

    def to_dict(self) -> t.Dict[str, t.Any]:
        """The state as JSON can hold it."""
        return {**asdict(self), "state": self.state.to_dict()}

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> KubeletState:
        """The state that `to_dict` wrote."""
        return cls(data["settings"], DesiredState.from_dict(data["state"]), Endpoint(**data["endpoint"]))


@dataclass(frozen=True)
class Changes:
    """A plan as it travels to the node: file changes with the text that each must find, and the states before and
    after."""

    files: t.Sequence[FileChange]
    settings: t.Sequence[SettingChange]
    before: DesiredState
    after: DesiredState
    endpoint: Endpoint
    kubelet_version: t.Optional[str]
    undoes: t.Optional[str] = None
    """The id of the switch that these changes roll back."""
    config_dir: t.Optional[str] = None
    """The drop-in directory that the kubelet already has: no undo removes it, even if it is missing now."""
    folders: t.Sequence[str] = ()
    """Folders that a switch made, the deepest first: they are removed after the files, if they are empty."""

    def to_dict(self) -> t.Dict[str, t.Any]:
        """The changes as JSON can hold them."""
        return {**asdict(self), "before": self.before.to_dict(), "after": self.after.to_dict()}

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Changes:
        """The changes that `to_dict` wrote."""
        return cls(
            files=[FileChange(**change) for change in data["files"]],
            settings=[SettingChange(**change) for change in data["settings"]],
            before=DesiredState.from_dict(data["before"]),
            after=DesiredState.from_dict(data["after"]),
            endpoint=Endpoint(**data["endpoint"]),
            kubelet_version=data["kubelet_version"],
            undoes=data["undoes"],
            config_dir=data["config_dir"],
            folders=data["folders"],
        )


def contains(folder: str, path: t.Optional[str]) -> bool:
    """Whether the path is the folder, or in it at any depth."""
    return path is not None and f"{path}/".startswith(f"{folder}/")


def state_changes(texts: t.Mapping[str, t.Tuple[str, t.Optional[str]]], expected: DesiredState) -> t.List[FileChange]:
    """The removal of each state file that a kubelet with the expected settings would refuse; the others stay.

    :param texts: "cpu_manager" and "memory_manager" -> (path, text or None)
    """
    refusals = {"cpu_manager": cpu_state_refusal, "memory_manager": memory_state_refusal}
    changes = []
    for name, (path, text) in sorted(texts.items()):
        refusal = refusals[name](text, expected)
        if refusal:
            changes.append(FileChange(path, text, None, f"the kubelet would refuse it: {refusal.reason}"))
    return changes


def cpu_state_refusal(text: t.Optional[str], expected: DesiredState) -> t.Optional[Refusal]:
    """Why the kubelet would refuse this CPU manager state; None if it would accept it."""
    try:
        state = parse_state(text, expected.minor, expected.pod_level) if text is not None else None
    except StateFileError as exc:
        return Refusal("cpu_state_unreadable", str(exc))
    return refusal_of(state, expected.policy, expected.reserved, expected.online, expected.strict)


def memory_state_refusal(text: t.Optional[str], expected: DesiredState) -> t.Optional[Refusal]:
    """Why the kubelet would refuse this memory manager state; None if it would accept it, or has no memory manager."""
    if expected.memory_policy is None:
        return None
    try:
        state = parse_memory_state(text, expected.minor, expected.pod_level) if text is not None else None
    except StateFileError as exc:
        return Refusal("memory_state_unreadable", str(exc))
    return memory_refusal_of(state, expected.memory_policy, expected.memory, expected.minor)
