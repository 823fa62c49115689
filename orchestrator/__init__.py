# SPDX-License-Identifier: GPL-3.0-or-later
"""Run kubepin from a program: `conduct` takes a `RunRequest` and returns a `RunResult`. See orchestrator/README.md."""

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

from orchestrator.conductor import Control, conduct
from orchestrator.model import (
    EXIT_CODES,
    Event,
    HostResult,
    KubepinError,
    RunRequest,
    RunResult,
    RunVerdict,
    UsageError,
)

__all__ = [
    "EXIT_CODES",
    "Control",
    "Event",
    "HostResult",
    "KubepinError",
    "Outcome",
    "RunRequest",
    "RunResult",
    "RunVerdict",
    "UsageError",
    "conduct",
]
