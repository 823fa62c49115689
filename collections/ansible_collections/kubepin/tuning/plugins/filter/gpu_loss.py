# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that formats a diagnosis of GPU pods; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.report import gpu_loss_text


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_loss_text": gpu_loss_text}
