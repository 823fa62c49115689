# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on the variables of hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import misspelt


def misspelt_variables(names: Iterable[str], roles: str) -> list[str]:
    return misspelt(names, role_variables(Path(roles)))


def role_variables(roles: Path) -> dict[str, list[str]]:
    """Role -> the variables of its argument_specs, for all roles in a folder."""
    found = {}
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        entries: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"]
        found[file.parts[-3]] = sorted({name for entry in entries.values() for name in entry.get("options") or {}})
    return found


class FilterModule:
    """kubepin's filters."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"misspelt_variables": misspelt_variables}
