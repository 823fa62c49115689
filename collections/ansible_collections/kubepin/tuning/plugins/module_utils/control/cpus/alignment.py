# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: to which NUMA nodes the kubelet's topology manager confines a pod. Ported from Kubernetes (Apache License 2.0)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Nodes = frozenset[int]
"""Numbers of NUMA nodes."""

REFUSED = "TopologyAffinityError: Resources cannot be allocated with Topology locality"
"""The reason and the message of a pod that is refused (pkg/kubelet/cm/topologymanager/topology_manager.go)."""

UNALIGNED = "UnexpectedAdmissionError"
"""The reason of a pod that a resource manager refuses without a reason of its own."""

_WEIGHS_WIDTH = 24
"""The minor version since which the width of a hint that is not preferred counts
(policy.go bestNonPreferredAffinityCount), and a merged hint is preferred only if all resources name the same nodes
(policy.go mergePermutation)."""


class Refused(Exception):
    """The kubelet refuses the pod; the text is the reason and the message in the pod's status.

    :param certain: False if Kubernetes might as well name another one
    """

    def __init__(self, text: str, certain: bool = True) -> None:
        super().__init__(text)
        self.certain = certain


def unexpected(error: str) -> Refused:
    """An error without a specific reason (pkg/kubelet/cm/admission/errors.go)."""
    return Refused(f"{UNALIGNED}: Allocate failed due to {error}, which is unexpected")


@dataclass(frozen=True)
class Hint:
    """NUMA nodes that can give a resource (TopologyHint); `nodes` is None if any can.

    It is preferred if no fewer nodes could ever give as much.
    """

    nodes: Nodes | None
    preferred: bool


ANYWHERE = Hint(None, True)
NO_HINT = Hint(None, False)
"""What resource managers get if no topology manager has chosen (scope.go GetAffinity), and what a resource stands for
that no NUMA node can give."""


@dataclass(frozen=True)
class TopologyManager:
    """The kubelet's settings topologyManagerPolicy and topologyManagerScope, and the machine's NUMA nodes.

    `nodes` includes those without CPUs.
    """

    policy: str
    scope: str
    nodes: Nodes
    minor: int

    @property
    def per_pod(self) -> bool:
        """Whether all containers of a pod get the same NUMA nodes."""
        return self.scope == "pod"

    def align(self, resources: Iterable[Sequence[Hint] | None]) -> tuple[Hint, bool]:
        """The NUMA nodes from which a pod or container gets its resources, and whether it is admitted.

        :param resources: for each resource its hints: None if it has no preference, empty if no nodes can give it
        """
        single = self.policy == "single-numa-node"
        hints = [_considered(found, single) for found in resources]
        best = self._best(_merged(self.nodes, hints, self.minor >= _WEIGHS_WIDTH), _widest_need(hints))
        if single and best.nodes == self.nodes:
            best = Hint(None, best.preferred)
        return best, best.preferred or self.policy == "best-effort"

    def _best(self, merged: Iterable[Hint], needed: int) -> Hint:
        """The hint that HintMerger.Merge chooses; before 1.24, mergeFilteredHints.

        Comparing two at a time, as the kubelet does, is a total order, so the order of the hints does not matter.
        """
        found = [hint for hint in merged if hint.nodes]
        fallback = Hint(self.nodes, False)
        if self.minor < _WEIGHS_WIDTH:
            return narrowest([*found, fallback])

        def rank(hint: Hint) -> tuple[bool, int, int, tuple[int, int]]:
            count = len(hint.nodes or ())
            if hint.preferred or count == needed:
                return not hint.preferred, 0, 0, _width(hint)
            return True, 1 if count < needed else 2, -count if count < needed else count, _width(hint)

        return min(found, key=rank, default=fallback)


def fewest_nodes(total: Mapping[int, int], wanted: int) -> int:
    """How many NUMA nodes could give this much if all of it were free; if no number can, all of them."""
    return next(
        (len(nodes) for nodes in combinations(total) if sum(map(total.__getitem__, nodes)) >= wanted), len(total)
    )


def hints_for(free: Mapping[int, int], reusable: Mapping[int, int], wanted: int, preferred: int) -> list[Hint]:
    """The hints of a resource that is counted per NUMA node (cpumanager/policy_static.go generateCPUTopologyHints).

    :param free: NUMA node -> what is free there; its keys are the nodes that are considered
    :param reusable: NUMA node -> what the pod already has and may use again; a hint must include all of these nodes
    :param wanted: how much is requested
    :param preferred: how many nodes a preferred hint has
    """
    must = {node for node, count in reusable.items() if count}
    return [
        Hint(nodes, len(nodes) == preferred)
        for nodes in combinations(free)
        if must <= nodes and sum(free[node] + reusable.get(node, 0) for node in nodes) >= wanted
    ]


def combinations(nodes: Iterable[int]) -> Iterator[Nodes]:
    """All combinations of NUMA nodes but the empty one (bitmask.IterateBitMasks)."""
    ordered = sorted(nodes)
    sizes = range(1, len(ordered) + 1)
    return (frozenset(chosen) for size in sizes for chosen in itertools.combinations(ordered, size))


def _considered(hints: Sequence[Hint] | None, single: bool) -> Sequence[Hint]:
    """policy.go filterProvidersHints, policy_single_numa_node.go filterSingleNumaHints."""
    if hints is None:
        return [ANYWHERE]
    found = hints or [NO_HINT]
    if single:
        return [hint for hint in found if hint.preferred and (hint.nodes is None or len(hint.nodes) == 1)]
    return found


def _merged(every: Nodes, resources: Sequence[Sequence[Hint]], same_nodes: bool) -> set[Hint]:
    """The hints that any choice of one hint for each resource amounts to (policy.go mergePermutation).

    The nodes that all have in common are preferred if all hints are preferred. Choices that cannot be told apart any
    more are carried on as one, because there may be millions of them.

    :param same_nodes: only hints that name the same nodes make a preferred one
    """
    states: set[tuple[Nodes, Nodes | None, bool]] = {(every, None, True)}
    for hints in resources:
        different = set(hints)
        states = {
            _merge(common, first, preferred and hint.preferred, hint.nodes, same_nodes)
            for common, first, preferred in states
            for hint in different
        }
    return {Hint(common, preferred) for common, _first, preferred in states}


def _merge(
    common: Nodes, first: Nodes | None, preferred: bool, nodes: Nodes | None, same_nodes: bool
) -> tuple[Nodes, Nodes | None, bool]:
    """A merged hint with one more; its first nodes count only as long as it may be preferred."""
    if nodes is None:
        return common, first if preferred else None, preferred
    preferred = preferred and not (same_nodes and first not in (None, nodes))
    return common & nodes, nodes if preferred and same_nodes else None, preferred


def _widest_need(resources: Sequence[Sequence[Hint]]) -> int:
    """How many NUMA nodes the resource needs that needs most (policy.go maxOfMinAffinityCounts)."""
    fewest = [[len(hint.nodes) for hint in hints if hint.nodes is not None] for hints in resources]
    return max((min(counts) for counts in fewest if counts), default=0)


def narrowest(hints: Iterable[Hint]) -> Hint:
    """The preferred hint with the fewest and lowest NUMA nodes; without any, the narrowest at all.

    :raises ValueError: if there is none
    """
    return min(hints, key=lambda hint: (not hint.preferred, _width(hint)))


def _width(hint: Hint) -> tuple[int, int]:
    """Fewer NUMA nodes first, then those with lower numbers (bitmask.IsNarrowerThan)."""
    nodes = hint.nodes or ()
    return len(nodes), sum(1 << node for node in nodes)
