# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that shape kubepin's facts; the roles keep no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.plugin_utils._result import plan_fact, result_fact


class FilterModule:
    """What Ansible looks for in a filter file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan_fact": plan_fact, "result_fact": result_fact}
