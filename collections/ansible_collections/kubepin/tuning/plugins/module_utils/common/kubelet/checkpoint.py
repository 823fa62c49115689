# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what the state files of the kubelet's CPU and memory managers have in common."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

CORRUPTED = "checkpoint is corrupted"
"""The kubelet's message for a checksum that does not match (pkg/kubelet/checkpointmanager/errors)."""

WAY_OUT = "Drain the node and remove the file before the kubelet starts."


@dataclass(frozen=True)
class Refusal:
    """Why a kubelet would refuse a state file."""

    code: str
    """Names the kubelet's check, for programs."""
    reason: str
    """In the kubelet's words, for people."""


class StateFileError(InvalidText):
    """The text is not a state file that the kubelet could have written."""

    code = "state_file_invalid"
    remedy = WAY_OUT


def go_map(entries: t.Mapping[t.Any, str]) -> str:
    """A map as go-spew writes it within a struct, with sorted keys, numbers by value."""
    return "map[" + " ".join(f"{key}:{entries[key]}" for key in sorted(entries)) + "]"


def fnv32a(text: str) -> int:
    """The 32-bit FNV-1a hash of the text's UTF-8 bytes (Go's hash/fnv New32a)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def json_object(text: str, what: str) -> t.Dict[str, t.Any]:
    """Parses a JSON object.

    :param what: names the text in the error
    :raises StateFileError: if the text is not a JSON object
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise StateFileError(f"{what} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise StateFileError(f"{what} holds {data!r}; expected a JSON object")
    return data


def text_of(data: t.Mapping[str, t.Any], key: str) -> str:
    """The text under a key, empty if the key is missing.

    :raises StateFileError: if the value is not a text
    """
    value = data.get(key, "")
    if not isinstance(value, str):
        raise StateFileError(f"state file: '{key}' is {value!r}; expected text")
    return value


def mapping_of(data: t.Mapping[str, t.Any], key: str) -> t.Dict[str, t.Any]:
    """The mapping under a key, empty if the key is missing.

    :raises StateFileError: if the value is not a mapping
    """
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StateFileError(f"state file: '{key}' is {value!r}; expected a mapping")
    return value


def number_of(data: t.Mapping[str, t.Any], key: str) -> int:
    """The whole number under a key, 0 if the key is missing.

    :raises StateFileError: if the value is not a whole number
    """
    value = data.get(key, 0)
    if not isinstance(value, int):
        raise StateFileError(f"state file: '{key}' is {value!r}; expected a whole number")
    return value


def is_sealed(data: t.Mapping[str, t.Any]) -> bool:
    """Whether the file is in the format of kubelets since 1.37, in which the text `data` counts, and not the fields for older
    kubelets around it. Such a kubelet tries no older format then (loadAndMigrateCheckpointV4 in
    pkg/kubelet/cm/cpumanager/state/state_checkpoint.go, loadAndMigrateCheckpointV3 in that of the memory manager)."""
    return bool(text_of(data, "data") or number_of(data, "dataChecksum"))


def sealed_data(data: t.Mapping[str, t.Any], what: str) -> t.Dict[str, t.Any]:
    """The content of the text `data`.

    :param what: names the file in the error
    :raises StateFileError: if it is not a JSON object
    """
    return json_object(text_of(data, "data"), f"{what}: 'data'")


def is_sealed_well(data: t.Mapping[str, t.Any]) -> bool:
    """Whether `dataChecksum` is that of `data`; 0 is checked like any other."""
    return number_of(data, "dataChecksum") == seal_of(text_of(data, "data"))


def seal_of(text: str) -> int:
    """The `dataChecksum` that a kubelet writes for the text `data`: the hash of go-spew's text of a Go string."""
    return fnv32a(f"(string){text}")
