# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What a switch is confirmed with."""

    DOCUMENTATION = r"""
options:
  pod:
    description:
      - The CPUs on which a pod with exclusive CPUs was seen to run. With O(state=confirmed), the kubelet's state file
        must agree.
    type: dict
    suboptions:
      uid:
        description: The pod's UID.
        type: str
        required: true
      container:
        description: The container's name.
        type: str
        required: true
      cpus:
        description: Its CPUs as a list such as V(1,129).
        type: str
        required: true
"""
