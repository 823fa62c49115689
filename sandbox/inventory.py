# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a sandbox."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from sandbox.settings import SandboxPaths


def ssh_options(paths: SandboxPaths) -> list[str]:
    """Options for checked connections with the sandbox's own key and known hosts."""
    settings = (f"UserKnownHostsFile={paths.known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes")
    return [word for setting in settings for word in ("-o", setting)]


def render_inventory(
    paths: SandboxPaths, addresses: Mapping[str, str], control_planes: Sequence[str]
) -> dict[str, object]:
    """What an inventory script prints for --list."""
    hostvars = {
        node: {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(paths.ssh_key),
            "ansible_ssh_common_args": shlex.join(ssh_options(paths)),
            "ansible_python_interpreter": "/usr/bin/python3",
            "kubepin_node_name": node,
        }
        for node, address in addresses.items()
    }
    return {
        "_meta": {"hostvars": hostvars},
        "all": {"children": ["control_plane", "gpu_nodes"], "vars": {"kubepin_kubeconfig": str(paths.kubeconfig)}},
        "control_plane": {"hosts": [*control_planes]},
        "gpu_nodes": {"hosts": [node for node in addresses if node not in control_planes]},
    }
