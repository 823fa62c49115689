# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check the hosts of a run; the playbooks keep no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.hosts import (
    comparison_problems,
    inventory_problems,
)


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"comparison_problems": comparison_problems, "inventory_problems": inventory_problems}
