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

RUNTIME_FOLDERS = {
    "containerd": "/var/lib/containerd",
    "cri-o": "/var/lib/containers",
    "docker": "/var/lib/docker",
}
"""Container runtime -> where it keeps images."""
