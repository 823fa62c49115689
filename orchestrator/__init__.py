# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive kubepin from a program: `conduct` a `Request`, get a `RunResult`. orchestrator/README.md has an example."""

from orchestrator.conductor import Control, conduct
from orchestrator.model import (
    EXIT_CODES,
    Event,
    HostResult,
    KubepinError,
    Request,
    RunResult,
    UsageError,
    Verdict,
)

__all__ = [
    "EXIT_CODES",
    "Control",
    "Event",
    "HostResult",
    "KubepinError",
    "Request",
    "RunResult",
    "UsageError",
    "Verdict",
    "conduct",
]
