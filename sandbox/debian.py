# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of Debian that virtual machines can have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Debian:
    """A release, and what a machine takes from it.

    :param suite: its name on a mirror
    :param packaged_runtime: whether containerd and runc are its packages; else current ones are compiled
    """

    suite: str
    packaged_runtime: bool


RELEASES: Mapping[int, Debian] = {
    12: Debian("bookworm", packaged_runtime=False),
    13: Debian("trixie", packaged_runtime=True),
}
