# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on the variables of hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import (
    BATCHES,
    misspelt,
    type_problems,
)


def misspelt_variables(names: Iterable[str], roles: str) -> list[str]:
    return misspelt(names, role_variables(Path(roles)))


def variable_problems(hosts: Iterable[Mapping[str, Any]], roles: str) -> list[dict[str, Any]]:
    """The problems of the hosts' variables, each once."""
    kinds = variable_kinds(Path(roles))
    found = (problem for host in hosts for problem in type_problems(_values(host, [*kinds, BATCHES]), kinds))
    return to_dicts(dict.fromkeys(found))


def _values(host: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Only those: Ansible evaluates a variable when it is read, and others may not be defined yet."""
    return {name: host[name] for name in names if name in host}


def variable_kinds(roles: Path) -> dict[str, str]:
    """Variable -> its type, of all that are lists or dictionaries by the argument_specs of the roles in a folder."""
    return {
        name: option["type"]
        for entry in _entries(roles)
        for name, option in (entry.get("options") or {}).items()
        if option.get("type") in ("list", "dict")
    }


def _entries(roles: Path) -> Iterator[Mapping[str, Any]]:
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        yield from yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"].values()


def role_variables(roles: Path) -> dict[str, list[str]]:
    """Role -> the variables of its argument_specs, for all roles in a folder."""
    found = {}
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        entries: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"]
        found[file.parts[-3]] = sorted({name for entry in entries.values() for name in entry.get("options") or {}})
    return found


class FilterModule:
    """kubepin's filters."""

    def filters(self) -> dict[str, Callable[..., list[Any]]]:
        return {"misspelt_variables": misspelt_variables, "variable_problems": variable_problems}
