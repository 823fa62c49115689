# SPDX-License-Identifier: GPL-3.0-or-later
"""Topologies and kubelets as the readers would return them, for tests of decisions."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.config import effective_config


def topology(
    cores: int = 2,
    threads: int = 1,
    numa_nodes: int = 1,
    cores_per_l3: int = 8,
    gpus_on: tuple[int, ...] = (),
    sockets: int = 1,
) -> dict[str, Any]:
    """A machine whose sibling threads are numbered after all first threads, as on EPYC."""
    told = []
    for core in range(cores):
        cpus = [core + thread * cores for thread in range(threads)]
        numa = core * numa_nodes // cores if numa_nodes else None
        told.append(
            {
                "socket": core * sockets // cores,
                "core": core,
                "numa_node": numa,
                "l3": core // cores_per_l3,
                "cpus": format_cpuset(cpus),
            }
        )
    return {
        "cpus": [
            {
                "id": core + thread * cores,
                "online": True,
                **{name: told[core][name] for name in ("socket", "core", "numa_node", "l3")},
            }
            for thread in range(threads)
            for core in range(cores)
        ],
        "cores": told,
        "online": format_cpuset(range(cores * threads)),
        "threads_per_core": threads,
        "sockets": [{"id": n} for n in range(sockets)],
        "numa_nodes": [{"id": n} for n in range(numa_nodes)],
        "gpus": [{"numa_node": n} for n in gpus_on],
    }


EPYC_7773X_PAIR = topology(cores=128, threads=2, numa_nodes=2, sockets=2, gpus_on=(1, 1, 1, 1))

NONE_STATE = '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'
DEFAULTS, _SOURCES = effective_config(None, None, [], ["/usr/bin/kubelet"])


def kubelet(version: str = "1.22.17", **changes: Any) -> dict[str, Any]:
    """A kubeadm node's kubelet with its defaults, before any switch."""
    told: dict[str, Any] = {
        "manager": "kubeadm",
        "version": version,
        "problems": [],
        "service": {"restart_interval_s": 10},
        "command_line": ["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml"],
        "configured_command_line": ["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml"],
        "extra_args_file": "/etc/default/kubelet",
        "extra_args_text": None,
        "config_file": "/var/lib/kubelet/config.yaml",
        "config": {},
        "config_dir": None,
        "drop_ins": [],
        "effective": dict(DEFAULTS),
        "sources": {},
        "state": {
            "cpu_manager": {"path": "/var/lib/kubelet/cpu_manager_state", "text": NONE_STATE},
            "memory_manager": {"path": "/var/lib/kubelet/memory_manager_state", "text": None},
        },
    }
    told.update(copy.deepcopy(changes))
    return told
