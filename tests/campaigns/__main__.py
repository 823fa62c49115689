# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one campaign; the exit status is 1 if a check fails."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from sandbox.settings import SandboxError
from tests.campaigns import (
    faults,
    fuzz,
    gpu_audit_owners,
    gpu_audit_time,
    gpu_continuity,
    gpu_loss,
    machine,
    mixed,
    permissions,
    power_cuts,
    profiles,
    scale,
    stand_in_downloads,
    switch_cost,
    upgrade_interrupted,
    upgrade_packages,
    upgrade_two_minors,
)
from tests.campaigns.base import CheckFailed


class Campaign(Protocol):
    """A module of this package; the first line of its docstring is its help."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add its options."""

    def run(self, options: argparse.Namespace) -> int:
        """Return the exit status. CheckFailed and SandboxError are reported by the caller."""


CAMPAIGNS: Mapping[str, Campaign] = {
    "faults": faults,
    "fuzz": fuzz,
    "gpu-loss": gpu_loss,
    "gpu-continuity": gpu_continuity,
    "machine": machine,
    "mixed": mixed,
    "upgrade-two-minors": upgrade_two_minors,
    "upgrade-interrupted": upgrade_interrupted,
    "upgrade-packages": upgrade_packages,
    "permissions": permissions,
    "power-cuts": power_cuts,
    "profiles": profiles,
    "switch-cost": switch_cost,
    "scale": scale,
    "gpu-audit-owners": gpu_audit_owners,
    "gpu-audit-time": gpu_audit_time,
    "stand-in-downloads": stand_in_downloads,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    commands = top.add_subparsers(dest="campaign", required=True, metavar="CAMPAIGN")
    for name, campaign in CAMPAIGNS.items():
        description = campaign.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.splitlines()[0].replace("%", "%%"),
            description=description.replace("%", "%%"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        campaign.add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """`CAMPAIGN [OPTION ...]`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a new sandbox is removed
    options = parser().parse_args(arguments)
    try:
        return CAMPAIGNS[options.campaign].run(options)
    except (CheckFailed, SandboxError) as error:
        print(f"{options.campaign}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
