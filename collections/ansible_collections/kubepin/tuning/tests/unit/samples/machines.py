# SPDX-License-Identifier: GPL-3.0-or-later
"""Topologies and kubelets as the readers would return them, for tests of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    EXTRA_ARGS,
    extra_args_of,
    flag_value,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import UNITS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import effective_config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet, decode_kubelet

UNSET = {
    "profile": "",
    "reserved_cpu_count": "",
    "policy_options": "",
    "topology_manager_policy": "",
    "topology_manager_scope": "",
    "memory_manager_policy": "",
}
"""Variables of the static policy that are not set, as a role passes them on."""


def topology_facts(
    cores: int = 2,
    threads: int = 1,
    numa_nodes: int = 1,
    cores_per_l3: int = 8,
    gpus_on: tuple[int, ...] = (),
    sockets: int = 1,
    isolated: str = "",
    missing: tuple[int, ...] = (),
    offline: str = "",
    housekeeping: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The facts of a machine whose sibling threads are numbered after all first threads, as on EPYC.

    :param missing: CPUs that the machine does not have, so that their cores have fewer threads
    """
    listed: list[dict[str, Any]] = []
    for core in range(cores):
        cpus = sorted({core + thread * cores for thread in range(threads)} - {*missing})
        numa = core * numa_nodes // cores if numa_nodes else None
        listed.append(
            {
                "socket": core * sockets // cores,
                "core": core,
                "numa_node": numa,
                "l3": core // cores_per_l3,
                "cpus": format_cpuset(cpus),
            }
        )

    def cpus_of(place: str, number: int) -> str:
        return format_cpuset(parse_cpuset(",".join(core["cpus"] for core in there if core[place] == number)))

    there = [core for core in listed if core["cpus"]]
    return {
        "schema": 1,
        "cpus": [
            {
                "id": core + thread * cores,
                "online": True,
                **{name: listed[core][name] for name in ("socket", "core", "numa_node", "l3")},
            }
            for thread in range(threads)
            for core in range(cores)
            if core + thread * cores not in missing
        ],
        "cores": there,
        "online": format_cpuset({*range(cores * threads)} - {*missing}),
        "offline": offline,
        "isolated": isolated,
        "housekeeping": dict(housekeeping or {}),
        "threads_per_core": threads,
        "sockets": [{"id": n, "cpus": cpus_of("socket", n)} for n in range(sockets)],
        "numa_nodes": [
            {"id": n, "cpus": cpus_of("numa_node", n), "memory": {"memory": 64 * 2**30}} for n in range(numa_nodes)
        ],
        "l3_groups": [{"id": n, "cpus": cpus_of("l3", n)} for n in sorted({core["l3"] for core in listed})],
        "gpus": [
            {"address": f"0000:{n:02x}:00.0", "numa_node": node, "local_cpus": cpus_of("numa_node", node)}
            for n, node in enumerate(gpus_on, 1)
        ],
    }


_RUNNING_IRQBALANCE = {"active": True, "environment_files": ["/etc/default/irqbalance"], "version": [1, 9]}


def daemon_facts(
    files: Mapping[str, str] | None = None,
    allowed: Mapping[str, str] | None = None,
    irqbalance_facts: object = _RUNNING_IRQBALANCE,
    **changed: Any,
) -> dict[str, Any]:
    """What `read_system_daemons` returns of a machine with cgroup v2 and a running irqbalance.

    :param files: of a simulated node, with the control groups of its units
    :param allowed: unit -> AllowedCPUs=
    """

    return {
        "cgroup_version": 2,
        "has_cpusets": True,
        "units": {
            unit: {
                "allowed": (allowed or {}).get(unit, ""),
                "effective": (files or {}).get(f"/sys/fs/cgroup/{unit}/cpuset.cpus.effective", "0-1").strip(),
            }
            for unit in UNITS
        },
        "affinities": {},
        "irqbalance": irqbalance_facts,
        "irqs": [],
        "kernel_threads": [],
        "workqueues": "",
        **changed,
    }


def topology(**machine: Any) -> Topology:
    """The machine that `topology_facts` describes."""
    return Topology.of(topology_facts(**machine))


EPYC_7773X_PAIR = topology(cores=128, threads=2, numa_nodes=2, sockets=2, gpus_on=(1, 1, 1, 1))

NONE_STATE = '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'
STATIC_STATE = '{"policyName":"static","defaultCpuSet":"0-1","checksum":0}'
DEFAULTS, _SOURCES = effective_config(None, None, [], ["/usr/bin/kubelet"])
ENV = "/etc/default/kubelet"
CONFIG = "/var/lib/kubelet/config.yaml"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


def sources(
    version: str | None = "1.22.17",
    *,
    manager: str = "kubeadm",
    config: str = "",
    extra_args: str | None = None,
    extra_args_file: str | None = ENV,
    extra_args_variable: str = EXTRA_ARGS,
    line: Sequence[str] = (),
    drop_ins: Mapping[str, str] | None = None,
    running: Sequence[str] | None = None,
    state: str = NONE_STATE,
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    """What a node sends of its kubelet, with its defaults before any switch.

    :param config: lines of its configuration file besides the head
    :param extra_args: the text of the service's environment file
    :param line: further arguments, which the unit sets itself
    :param drop_ins: path -> text
    :param running: the arguments of the running process, if they differ from those of the next start
    """
    configured = ["/usr/bin/kubelet", f"--config={CONFIG}", *line, *extra_args_of(extra_args, extra_args_variable)]
    config_dir = flag_value(configured, "config-dir")
    embedded = [f"/etc/rancher/{manager}/config.yaml"] if manager in ("k3s", "rke2") else []
    return {
        "manager": manager,
        "embedded_configs": embedded,
        "version": version,
        "service": {"name": "kubelet", "restart_interval_s": 10},
        "command_line": configured if running is None else ["/usr/bin/kubelet", f"--config={CONFIG}", *running],
        "configured_command_line": configured,
        "extra_args_file": extra_args_file,
        "extra_args_variable": extra_args_variable if extra_args_file else None,
        "extra_args_text": extra_args,
        "texts": {CONFIG: HEAD + config, **(drop_ins or {})},
        "drop_ins": {config_dir: sorted(drop_ins or {})} if config_dir else {},
        "root_dir": "/var/lib/kubelet",
        "state": {
            "cpu_manager": {"path": "/var/lib/kubelet/cpu_manager_state", "text": state},
            "memory_manager": {"path": "/var/lib/kubelet/memory_manager_state", "text": None},
        },
        "cgroup_version": 1,
        "problems": to_dicts(problems),
    }


def kubelet(version: str | None = "1.22.17", **given: Any) -> Kubelet:
    """The kubelet that `sources` describes."""
    return decode_kubelet(sources(version, **given))
