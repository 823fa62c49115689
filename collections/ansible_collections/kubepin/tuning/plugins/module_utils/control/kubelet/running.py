# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: how the configuration that a kubelet runs with differs from what its files and flags amount to."""

from __future__ import annotations

import json
import posixpath
import typing as t
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import CpusetError, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    FLAGS,
    flag_values,
    mask_secrets,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_duration, parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import ROOT, known_fields
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.field_sources import (
    FLAG_FIELDS,
    WITHOUT_DEFAULT,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import FIELDS, NEWEST_MINOR
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import MANAGED, flags_of, minor_of

_BY_CONTENT = ("config", "config-dir")
"""Flags that name files, of which the content counts."""
_CGROUP_DRIVER_FROM_RUNTIME = 28
"""Since this minor version the container runtime may choose the cgroup driver (KEP-4033)."""
_AMOUNTS = (
    "containerLogMaxSize",
    "evictionHard",
    "evictionMinimumReclaim",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "kubeReserved",
    "systemReserved",
)
"""Fields of texts in which the kubelet reads quantities or durations."""
SECRET_FIELDS = ("staticPodURLHeader",)
_SECRET = (*SECRET_FIELDS, "--manifest-url-header")
_MASK = "********"
_LONGEST = 120
"""Characters of a value that a difference shows."""
_ZEROS: tuple[t.Any, ...] = (None, "", 0, False, (), frozenset())


@dataclass(frozen=True)
class Difference:
    """A setting that the running kubelet has otherwise than the next start would."""

    name: str
    """The field, with a dot before each field in a struct, or the flag with its dashes."""
    running: str
    """As messages show it; secrets are masked."""
    configured: str
    """Likewise."""
    source: str
    """Where the configured value comes from: a path, "a flag", or empty if nothing sets it."""

    @property
    def text(self) -> str:
        """Both values, for people."""
        source = f" (from {self.source})" if self.source else ""
        return f"{self.name} is {self.running}, and would be {self.configured}{source}"


def differences(kubelet: Kubelet, running: Config | None, exempt: Collection[str] = ()) -> list[Difference]:
    """What has changed in the kubelet's files and flags since it was started, as far as that can be known.

    A field is the same in any spelling of its value. The kubelet itself fills in fields, so one that nothing sets, or that
    is set to the zero value for which it takes its default (``0s``), only differs if it has no default or is a boolean.

    :param running: what /configz says; None if unknown, and then only the command lines are compared
    :param exempt: fields of KubeletConfiguration that may differ
    """
    comparison = _Comparison(kubelet, exempt)
    found = [] if running is None else comparison.fields(running)
    skipped = set(FLAGS) if running is not None else flags_of(MANAGED)
    return [*found, *_flag_differences(kubelet, {*skipped, *_BY_CONTENT})]


def same(field: str, one: t.Any, other: t.Any) -> bool:
    """Whether two values of a field of KubeletConfiguration are equal to a kubelet, in any version that has the field."""
    kind = FIELDS[ROOT][field][-1][0]
    return _equal(_canonical(one, kind, field), _canonical(other, kind, field))


class _Comparison:
    def __init__(self, kubelet: Kubelet, exempt: Collection[str]) -> None:
        self._kubelet = kubelet
        self._minor = minor_of(kubelet.version) if kubelet.version else NEWEST_MINOR
        lines = (kubelet.running, kubelet.layout.command_line)
        self._skipped = {
            *exempt,
            *(FLAG_FIELDS[name] for line in lines for name in flag_values(line) if name in FLAG_FIELDS.keys() - FLAGS),
            *(["cgroupDriver"] if self._minor >= _CGROUP_DRIVER_FROM_RUNTIME else []),
        }

    def fields(self, running: Config) -> list[Difference]:
        configured = dict(self._kubelet.configured)
        if configured.get("mergeDefaultEvictionSettings") and isinstance(running.get("evictionHard"), Mapping):
            configured["evictionHard"] = {**running["evictionHard"], **configured.get("evictionHard", {})}
        if configured.get("reservedSystemCPUs") or running.get("reservedSystemCPUs"):
            # the kubelet moves the amounts in the map that configz shows (cmd/kubelet/app/server.go run())
            running, configured = _without_reserved_cpu(running), _without_reserved_cpu(configured)
        return self._struct(ROOT, configured, running, "")

    def _struct(self, struct: str, configured: Config, running: Config, where: str) -> list[Difference]:
        found: list[Difference] = []
        for name, kind in sorted(known_fields(struct, self._minor).items()):
            path = f"{where}.{name}" if where else name
            value, runs = configured.get(name), running.get(name)
            if path in self._skipped:
                continue
            if kind in FIELDS:
                found += self._struct(kind, value or {}, runs if isinstance(runs, Mapping) else {}, path)
            elif (name in configured or path in WITHOUT_DEFAULT) and self._differs(path, kind, value, runs):
                found.append(Difference(path, _shown(path, runs), _shown(path, value), self._source(path)))
        return found

    def _differs(self, path: str, kind: str, configured: t.Any, running: t.Any) -> bool:
        wanted = _canonical(configured, kind, path)
        if wanted in _ZEROS and kind != "bool" and path not in WITHOUT_DEFAULT:
            return False
        return not _equal(wanted, _canonical(running, kind, path))

    def _source(self, path: str) -> str:
        source = self._kubelet.configured_by.get(path.partition(".")[0], "")
        return "a flag" if source == "flag" else source.partition(":")[2]


def _without_reserved_cpu(config: Config) -> dict[str, t.Any]:
    """Without the amounts of CPUs for which reservedSystemCPUs stands in."""
    return {
        name: {key: amount for key, amount in value.items() if key != "cpu"}
        if name in ("kubeReserved", "systemReserved") and isinstance(value, Mapping)
        else value
        for name, value in config.items()
    }


def _flag_differences(kubelet: Kubelet, skipped: Collection[str]) -> list[Difference]:
    """Flags whose values differ between the running process and the next start, in whatever order they stand.

    A process of another program, such as one that a wrapper starts, cannot be compared.
    """
    now, then = kubelet.running, kubelet.layout.command_line
    if not now or not then or posixpath.basename(now[0]) != posixpath.basename(then[0]):
        return []
    running, configured = flag_values(now), flag_values(then)
    return [
        Difference(f"--{name}", _flag_shown(name, running), _flag_shown(name, configured), "")
        for name in sorted({*running, *configured} - {*skipped})
        if running.get(name) != configured.get(name)
    ]


def _flag_shown(name: str, flags: Mapping[str, Sequence[str | None]]) -> str:
    if name not in flags:
        return "not set"
    return _shown(f"--{name}", ",".join("true" if value is None else value for value in flags[name]))


def _shown(name: str, value: t.Any) -> str:
    """A value as messages show it."""
    if value in _ZEROS[:2] or value in ({}, []):
        return "not set"
    if name in _SECRET:
        return _MASK
    text = mask_secrets(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _equal(one: t.Any, other: t.Any) -> bool:
    """Whether canonical values are equal; configz omits some zero values."""
    return one == other or (one in _ZEROS and other in _ZEROS)


def _canonical(value: t.Any, kind: str, field: str) -> t.Any:
    """A value of a Go type of the table in fields.py, so that equal ones are equal in Python; empty ones are None."""
    if value is None or value in ("", [], {}):
        return None
    if kind.startswith("[]") and isinstance(value, list):
        return tuple(_canonical(item, kind[len("[]") :], field) for item in value)
    if kind.startswith("map[string]") and isinstance(value, Mapping):
        return frozenset((key, _canonical(item, kind[len("map[string]") :], field)) for key, item in value.items())
    if kind in FIELDS and isinstance(value, Mapping):
        kinds = {name: spans[-1][0] for name, spans in FIELDS[kind].items()}
        items = ((name, _canonical(item, kinds.get(name, ""), field)) for name, item in value.items())
        return frozenset((name, item) for name, item in items if item not in _ZEROS)
    if kind == "bool":
        return bool(value)
    if not isinstance(value, (str, int, float)):
        return json.dumps(value, sort_keys=True)
    return _scalar(value, kind, field)


def _scalar(value: str | float, kind: str, field: str) -> t.Any:
    try:
        if field == "reservedSystemCPUs":
            return parse_cpuset(str(value))
        if "duration" in kind:
            return _nanoseconds(value)
        if kind == "quantity":
            return parse_quantity(str(value))
    except (ValueError, CpusetError):
        return value
    return _amount(value) if field in _AMOUNTS and isinstance(value, str) else value


def _nanoseconds(value: str | float) -> int:
    """:raises ValueError: if a text is not a duration"""
    if not isinstance(value, str):
        return int(value)
    text = value.lstrip("+-")
    return (-1 if value.startswith("-") else 1) * (0 if text == "0" else round(parse_duration(text) * 10**9))


def _amount(text: str) -> t.Any:
    """A text in which the kubelet reads a quantity or a duration; a percentage stays a text."""
    try:
        return parse_quantity(text)
    except ValueError:
        pass
    try:
        return Fraction(_nanoseconds(text), 10**9)
    except ValueError:
        return text
