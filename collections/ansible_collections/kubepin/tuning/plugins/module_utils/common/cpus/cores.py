# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: how the kubelet counts the threads of a core."""

from __future__ import annotations

import typing as t


def threads_as_counted(online: int, cores: int) -> t.Optional[int]:
    """How many CPUs a core has for the kubelet: the machine's average, rounded down (cpumanager/topology/topology.go
    CPUsPerCore); None without a core.

    :param online: how many CPUs are online
    :param cores: how many cores have one
    """
    return online // cores if cores else None
