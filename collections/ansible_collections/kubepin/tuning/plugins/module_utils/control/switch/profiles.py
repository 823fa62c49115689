# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a profile asks of a kubelet, unless the operator asks for something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.reservation import Spread
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    BY_UNCORE_CACHE,
    minor_of,
    option_is_available,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch import problems

BALANCED, NUMA, L3 = "balanced", "numa", "l3"
PROFILES = (BALANCED, NUMA, L3)
_SINCE, _ON_SINCE = 32, 34
"""The minor versions of 1.x that know prefer-align-cpus-by-uncorecache, and take it without a feature gate (KEP-4800)."""


@dataclass(frozen=True)
class ProfileSettings:
    """What a profile sets, by the kubelet's fields, and what cannot be as it should."""

    spread: Spread = Spread.LOWEST
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def profile_settings(
    profile: str, topology: Topology, now: Config, version: str, given: Mapping[str, Any] | None
) -> ProfileSettings:
    """The settings of a profile on this machine.

    A part that the profile prefers (``prefer-align-cpus-by-uncorecache``) and this kubelet does not have is noted; a part
    that it is about is a problem.

    :param now: the kubelet's effective configuration
    :param given: the policy options that the operator asks for, which replace those of the profile; None: none
    """
    if profile == NUMA:
        return _numa(topology)
    if profile == L3:
        return _l3(topology, now, minor_of(version), given)
    return ProfileSettings()


def _numa(topology: Topology) -> ProfileSettings:
    """Containers on as few NUMA nodes as can hold them, and the usual reserved CPUs.

    No rule of the kubelet wants a reserved CPU on each NUMA node: the CPU manager counts them only (policy_static.go
    NewStaticPolicy), the memory manager adds reservedMemory up over the nodes (memory_manager.go validateReservedMemory). And
    it reckons with all CPUs of a NUMA node when it decides how many nodes a container needs (policy_static.go
    generateCPUTopologyHints): a container of a whole node's CPUs would find none with so many free, and be refused.
    OpenShift's Performance Profile Creator does not spread reserved CPUs by default either, and refuses to with
    single-numa-node (openshift/cluster-node-tuning-operator, profilecreator/cmd/root.go).
    """
    return ProfileSettings(
        settings={"topologyManagerPolicy": "restricted", "memoryManagerPolicy": "Static"},
        problems=() if topology.numa_nodes else (problems.profile_without(NUMA, "NUMA nodes"),),
    )


def _l3(topology: Topology, now: Config, minor: int, given: Mapping[str, Any] | None) -> ProfileSettings:
    if not topology.l3_groups:
        return ProfileSettings(Spread.L3, problems=(problems.profile_without(L3, "L3 caches"),))
    if given is not None:
        return ProfileSettings(Spread.L3)
    if option_is_available(now, BY_UNCORE_CACHE, minor):
        options = {**(now["cpuManagerPolicyOptions"] or {}), BY_UNCORE_CACHE: "true"}
        return ProfileSettings(Spread.L3, {"cpuManagerPolicyOptions": options})
    note = (
        f"Profile l3: kubelet 1.{minor} does not align pods to L3 groups by itself. {BY_UNCORE_CACHE} is on offer from 1.{_SINCE} (with "
        f"the feature gate CPUManagerPolicyAlphaOptions) and from 1.{_ON_SINCE} without it. Until then, pods stay inside L3 groups if "
        "their size divides the groups."
    )
    return ProfileSettings(Spread.L3, notes=(note,))
