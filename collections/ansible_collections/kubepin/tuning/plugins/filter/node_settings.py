# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that compute and format settings for new nodes; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.report import (
    node_settings,
    node_settings_text,
)


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_settings": node_settings, "node_settings_text": node_settings_text}
