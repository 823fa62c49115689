# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that builds the fact of role host_probe; the role keeps no logic in Jinja."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.host_probe.report import probe_fact


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probe_fact": probe_fact}
