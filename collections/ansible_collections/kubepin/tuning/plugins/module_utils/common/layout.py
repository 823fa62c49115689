# SPDX-License-Identifier: GPL-3.0-or-later
"""Where kubepin and an upgrade write on a node."""

from __future__ import annotations

HOME = "/var/lib/kubepin"
"""Where kubepin keeps on a node what it needs to undo its changes."""

UPGRADES = f"{HOME}/upgrades"
"""Holds a folder for each version that an upgrade began with: the record, and copies of what it replaces."""

KUBERNETES = "/etc/kubernetes"

DROP_IN_DIR = f"{KUBERNETES}/kubelet.conf.d"
"""The kubelet's drop-in directory on nodes that have none."""

DROP_IN_NAME = "90-kubepin.conf"
"""kubepin's file in the kubelet's drop-in directory."""

PROGRAM_BYTES = 1 << 20
"""What Ansible's program of a module takes in the folder for temporary files: 0.3 MB, and its unpacked parts."""

GUARD_PROGRAM = f"{HOME}/boot-guard.py"
GUARD_UNIT = "/etc/systemd/system/kubepin-boot-guard.service"
GUARD_DROP_IN = "/etc/systemd/system/multi-user.target.d/90-kubepin-boot-guard.conf"
GUARD_FILES = (GUARD_PROGRAM, GUARD_UNIT, GUARD_DROP_IN)
GUARD_FOLDER = f"{HOME}/boot-guard"
"""Where the boot guard moves state files that the kubelet would refuse."""

RUNTIME_FOLDERS = {
    "containerd": "/var/lib/containerd",
    "cri-o": "/var/lib/containers",
    "docker": "/var/lib/docker",
}
"""Container runtime -> where it keeps images."""
