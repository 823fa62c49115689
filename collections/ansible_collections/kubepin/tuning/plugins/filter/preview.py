# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that make and word previews; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.report import preview_nodes, preview_text


class FilterModule:
    """What Ansible looks for in a filter file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preview_nodes": preview_nodes, "preview_text": preview_text}
