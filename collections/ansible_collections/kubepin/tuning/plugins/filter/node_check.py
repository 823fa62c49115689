# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that collect and format checks of nodes; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.report import (
    check_facts,
    check_text,
    check_verdict,
)


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"check_facts": check_facts, "check_text": check_text, "check_verdict": check_verdict}
