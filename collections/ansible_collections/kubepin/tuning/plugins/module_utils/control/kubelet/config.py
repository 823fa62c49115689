# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the kubelet's effective settings, from its configuration file, drop-in files and flags."""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import fields_from_flags

DEFAULTS: t.Dict[str, t.Any] = {
    "cpuManagerPolicy": "none",
    "cpuManagerPolicyOptions": {},
    "cpuManagerReconcilePeriod": "10s",
    "reservedSystemCPUs": "",
    "kubeReserved": {},
    "systemReserved": {},
    "kubeReservedCgroup": "",
    "systemReservedCgroup": "",
    "enforceNodeAllocatable": ["pods"],
    "topologyManagerPolicy": "none",
    "topologyManagerScope": "container",
    "topologyManagerPolicyOptions": {},
    "memoryManagerPolicy": "None",
    "reservedMemory": [],
    "featureGates": {},
    "evictionHard": {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "15%",
    },
    "cgroupDriver": "cgroupfs",
    "healthzPort": 10248,
    "healthzBindAddress": "127.0.0.1",
    "cpuCFSQuota": True,
    "failSwapOn": True,
}
"""Field -> the kubelet's own default (pkg/kubelet/apis/config/v1beta1/defaults.go; for evictionHard, defaults_linux.go
in the same folder in 1.22, and pkg/kubelet/eviction in newer versions, some of which add imagefs.inodesFree)."""

_EMPTY = {"cpuManagerReconcilePeriod": ("", 0, "0", "0s")}
"""Values that mean the default, besides the empty text, which always does (SetDefaults_KubeletConfiguration)."""

Config = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class DropIn:
    """A file in the kubelet's --config-dir."""

    path: str
    text: str | None
    """None if it cannot be read."""
    config: Config
    """The fields that it sets, each of its type."""


def effective_config(
    config_file: str | None,
    config: Config | None,
    drop_ins: t.Sequence[DropIn],
    command_line: t.Sequence[str],
) -> tuple[dict[str, t.Any], dict[str, str]]:
    """The effective value of each field of DEFAULTS, and its source, which is "default" or as in `merged_config`.

    The parameters, and FlagError, are those of `merged_config`.
    """
    return with_defaults(*merged_config(config_file, config, drop_ins, command_line))


def merged_config(
    config_file: str | None,
    config: Config | None,
    drop_ins: t.Sequence[DropIn],
    command_line: t.Sequence[str],
) -> tuple[dict[str, t.Any], dict[str, str]]:
    """Each field that the files set, or a flag in FLAGS, and its source.

    :param config_file: path of the file named by --config
    :param config: its content, None if there is none
    :param drop_ins: in any order
    :param command_line: program and arguments
    :raises FlagError: for a flag that the kubelet would refuse

    Sources are "file:PATH", "drop-in:PATH" (the last one that sets the field) and "flag". Flags take precedence over
    drop-ins, drop-ins over the file, and the file over the defaults (cmd/kubelet/app/server.go:
    kubeletConfigFlagPrecedence, mergeKubeletConfigurations). Drop-ins are JSON merge patches (RFC 7396): maps are
    merged, lists are replaced, null restores the default. A flag replaces a whole map, except --feature-gates, which is
    merged.
    """
    layers = [(f"file:{config_file}", config)] if config is not None else []
    layers += [
        (f"drop-in:{drop_in.path}", drop_in.config)
        for drop_in in sorted(drop_ins, key=lambda drop_in: drop_in.path.split("/"))
        if is_drop_in(drop_in.path)
    ]
    merged: dict[str, t.Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        merged = _merge_patch(merged, layer)
        sources.update(dict.fromkeys(layer, source))
    for field, value in fields_from_flags(command_line).items():
        merged[field] = {**merged.get(field, {}), **value} if field == "featureGates" else value
        sources[field] = "flag"
    return merged, sources


def with_defaults(merged: Config, sources: t.Mapping[str, str]) -> tuple[dict[str, t.Any], dict[str, str]]:
    """What `merged_config` returns, as `effective_config` returns it."""
    unset = {field for field in DEFAULTS if _is_unset(field, merged.get(field))}
    effective = {field: default if field in unset else merged[field] for field, default in DEFAULTS.items()}
    if merged.get("mergeDefaultEvictionSettings") is True:
        effective["evictionHard"] = {**DEFAULTS["evictionHard"], **effective["evictionHard"]}
    return effective, {field: "default" if field in unset else sources[field] for field in DEFAULTS}


def is_drop_in(path: str) -> bool:
    """Whether the kubelet reads this file of its --config-dir: only those that end in .conf (Go's filepath.Ext)."""
    return posixpath.basename(path).endswith(".conf")


def _is_unset(field: str, value: t.Any) -> bool:
    return value is None or value == "" or (field in _EMPTY and value in _EMPTY[field])


def _merge_patch(target: Config, patch: Config) -> t.Dict[str, t.Any]:
    """RFC 7396."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, t.Mapping):
            old = result.get(key)
            result[key] = _merge_patch(old if isinstance(old, t.Mapping) else {}, value)
        else:
            result[key] = value
    return result
