# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that format an upgrade's results as text and as a fact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.report import (
    upgrade_failure_text,
    upgrade_result_fact,
    upgrade_summary_text,
)


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "upgrade_failure_text": upgrade_failure_text,
            "upgrade_result_fact": upgrade_result_fact,
            "upgrade_summary_text": upgrade_summary_text,
        }
