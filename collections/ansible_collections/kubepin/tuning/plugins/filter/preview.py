# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that compute and format previews; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.report import preview_nodes, preview_text


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preview_nodes": preview_nodes, "preview_text": preview_text}
