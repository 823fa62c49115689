# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd on a node: its configuration, and its restart."""

from __future__ import annotations

from sandbox.nodes import Node
from sandbox.shell import wait_for

CONFIGURATION = "/etc/containerd/config.toml"


def cri_plugin(config: str) -> str:
    """The name of the CRI plugin in a configuration of version 2 or 3."""
    return "io.containerd.cri.v1.runtime" if "version = 3" in config else "io.containerd.grpc.v1.cri"


def handler(config: str, name: str, program: str, base_specification: str = "") -> str:
    """The lines that add a handler to a configuration, with the cgroup driver of its other handlers.

    :param program: the OCI runtime
    :param base_specification: the file that containerd starts from for each container; empty for its default
    """
    table = f"plugins.'{cri_plugin(config)}'.containerd.runtimes.{name}"
    lines = ["", f"[{table}]", 'runtime_type = "io.containerd.runc.v2"']
    lines += [f'base_runtime_spec = "{base_specification}"'] if base_specification else []
    systemd = str("SystemdCgroup = true" in config).lower()
    lines += ["", f"[{table}.options]", f'BinaryName = "{program}"', f"SystemdCgroup = {systemd}", ""]
    return "\n".join(lines)


def restart(node: Node, seconds: float = 60) -> None:
    """Restart containerd, and wait until it answers."""
    node.run("systemctl", "restart", "containerd")
    wait_for(f"containerd on {node.name} answers", lambda: bool(node.run("ctr", "version")), seconds)
