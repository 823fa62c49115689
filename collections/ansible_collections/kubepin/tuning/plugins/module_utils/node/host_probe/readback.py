# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: whether a process of a host probe has the CPUs, the limit and the threads that its arm is about.

Limits can fail to apply without an error: an empty text written to cpuset.cpus writes nothing, so that CPUs set before
stay set, and a torch of its own can ignore OMP_NUM_THREADS. What such a process measures belongs to another arm.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    EXCLUSIVE,
    described,
    group_of,
    threads_of,
)


def arm_problems(arm: str, environment: t.Mapping[str, t.Any], cpus: int, cpuset: str) -> t.List[str]:
    """Every difference between a process and its arm, a sentence each with the remedy.

    :param arm: the arm's name, such as quota-auto
    :param environment: what the process read of itself (``env`` of its line); what it lacks cannot differ
    :param cpus: the CPU limit of all arms
    :param cpuset: the exclusive CPUs, as a list
    """
    problems, process = [], f"{described(arm)}: the process"
    for name, what in (("cpus_effective", "cpuset.cpus.effective"), ("cpus_allowed_list", "its CPU affinity")):
        value = environment.get(name)
        if value is None:
            continue
        found = parse_cpuset(str(value))
        if group_of(arm) == EXCLUSIVE and found != parse_cpuset(cpuset):
            problems.append(
                f"{process} has the CPUs {value} ({what}): expected its exclusive CPUs, {cpuset}. Something else sets the CPUs of "
                "this host's processes: stop it, or name CPUs that it leaves alone with cpuset."
            )
        elif group_of(arm) != EXCLUSIVE and len(found) <= cpus:
            problems.append(
                f"{process} has the CPUs {value} only ({what}): expected the host's shared CPUs, more than its limit of {cpus}. "
                "Something confines it (taskset, AllowedCPUs= of a slice, a CPU set of an earlier run): remove that, "
                "or lower cpus."
            )
    if "quota_cpus" in environment and environment["quota_cpus"] != cpus:
        value = environment["quota_cpus"]
        found_quota = "no CPU limit" if value is None else f"a CPU limit of {value:g}"
        problems.append(
            f"{process} has {found_quota} (cpu.max, or cpu.cfs_quota_us): expected {cpus}. Check that the kernel has "
            "CONFIG_CFS_BANDWIDTH and that no group above has a lower limit, or take another engine."
        )
    threads = environment.get("threads")
    if threads_of(arm).isdigit() and threads is not None and threads != int(threads_of(arm)):
        problems.append(
            f"{process} computes with {counted(threads, 'thread')} (torch.get_num_threads()): expected {threads_of(arm)}, as "
            "OMP_NUM_THREADS says. Something in the image sets another number: take another image or python."
        )
    return problems
