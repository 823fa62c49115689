# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: from which NUMA nodes the kubelet's memory manager gives memory and huge pages. Ported from Kubernetes (Apache
License 2.0): pkg/kubelet/cm/memorymanager/policy_static.go of 1.21 to 1.36, unless another file is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import default_machine
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    Hint,
    Nodes,
    combinations,
    narrowest,
    unexpected,
)

Amounts = Mapping[str, int]
"""Resource, "memory" or "hugepages-SIZE" -> bytes."""

MEMORY, HUGE_PAGES = "memory", "hugepages-"

# the minor versions of 1.x that introduced these
_REUSES = 22
_FORGETS_OTHERS = 23
_COUNTS_TAKEN = 23
_KEEPS_GROUPS_APART = 32


def is_memory(resource: str) -> bool:
    """Whether the memory manager counts this resource."""
    return resource == MEMORY or resource.startswith(HUGE_PAGES)


@dataclass(frozen=True)
class Block:
    """What a container has of one resource: so many bytes, somewhere in these NUMA nodes."""

    nodes: Nodes
    resource: str
    size: int


@dataclass
class Cell:
    """What a NUMA node has. `group` are the nodes of which it gives memory together, only itself at first; while it has
    `assignments`, it gives nothing outside this group."""

    allocatable: dict[str, int]
    free: dict[str, int]
    reserved: dict[str, int]
    group: Nodes
    assignments: int = 0


@dataclass
class MemoryManager:
    """The static policy's books.

    `blocks` maps pods and containers to what they have. `_reusable` maps pods to what their init containers had in a group
    of NUMA nodes, as far as no other container has it again, and `_ending` to these containers.
    """

    minor: int
    cells: dict[int, Cell]
    blocks: dict[str, dict[str, tuple[Block, ...]]] = field(default_factory=dict)
    _reusable: dict[str, dict[tuple[Nodes, str], int]] = field(default_factory=dict)
    _ending: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, minor: int, memory: Mapping[int, Amounts], reserved_memory: Sequence[Mapping[str, Any]]
    ) -> MemoryManager:
        """A memory manager without pods (getDefaultMachineState).

        :param memory: NUMA node -> all that it has; "memory" includes the huge pages
        :param reserved_memory: reservedMemory of the kubelet's configuration
        """
        cells = {}
        for number, node in default_machine(memory, reserved_memory).items():
            free = {resource: table["free"] for resource, table in node["memoryMap"].items()}
            cells[int(number)] = Cell(dict(free), free, dict.fromkeys(free, 0), frozenset({int(number)}))
        return cls(minor, cells)

    def hints(self, pod: str, wanted: Amounts) -> dict[str, Sequence[Hint] | None]:
        """The hints for each resource, which are the same (calculateHints). If no nodes have enough, there are none, which the
        topology manager takes for no preference."""
        fewest = len(self.cells)
        found = []
        for nodes in combinations(self.cells):
            cells = [self.cells[node] for node in nodes]
            taken = self._is_taken_otherwise(nodes)
            if taken and self.minor < _COUNTS_TAKEN:
                continue
            if any(sum(cell.allocatable.get(what, 0) for cell in cells) < size for what, size in wanted.items()):
                continue
            fewest = min(fewest, len(nodes))
            if not taken and all(
                sum(cell.free.get(what, 0) for cell in cells) + self._reusable_in(pod, nodes, what) >= size
                for what, size in wanted.items()
            ):
                found.append(nodes)
        hints = [Hint(nodes, len(nodes) == fewest) for nodes in found]
        return dict.fromkeys(wanted, hints) if hints else {}

    def _is_taken_otherwise(self, nodes: Nodes) -> bool:
        """Whether one of the nodes gives memory in another group already: a single node alone may not be in a group, and
        several nodes together must all be unused, or this very group."""
        cells = [self.cells[node] for node in nodes]
        if len(nodes) == 1:
            return len(cells[0].group) > 1
        return self._violates(nodes)

    def _violates(self, nodes: Nodes) -> bool:
        """isAffinityViolatingNUMAAllocations"""
        cells = [self.cells[node] for node in nodes]
        return len(nodes) > 1 and any(cell.assignments and cell.group != nodes for cell in cells)

    def allocate(self, pod: str, container: str, reused_later: bool, wanted: Amounts, hint: Hint) -> None:
        """What a container of a Guaranteed pod gets (Allocate).

        :param reused_later: whether it ends before the next container starts, as init containers do
        :param hint: the topology manager's
        :raises Refused: if the kubelet refuses the pod
        """
        nodes = self._choose(pod, wanted, hint)
        if self.minor >= _KEEPS_GROUPS_APART and self._violates(nodes):
            raise unexpected("[memorymanager] preferred hint violates NUMA node allocation")
        blocks = tuple(Block(nodes, what, size) for what, size in wanted.items())
        for block in blocks:
            self._take(block, max(0, block.size - self._reusable_in(pod, nodes, block.resource)))
        self._note_reusable(pod, reused_later, blocks)
        self.blocks.setdefault(pod, {})[container] = blocks
        if self.minor >= _REUSES:
            self._shrink_reused(pod, blocks)
        if reused_later:
            self._ending.setdefault(pod, []).append(container)

    def _choose(self, pod: str, wanted: Amounts, hint: Hint) -> Nodes:
        """The topology manager's choice; the manager's own without one (getDefaultHint), or if it is too little, a wider one
        that contains it (extendTopologyManagerHint)."""
        best = hint
        if best.nodes is None:
            found = self.hints(pod, wanted).get(MEMORY)
            if not found:
                raise unexpected(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
                )
            best = self._preferred(found, hint, "default")
        assert best.nodes is not None
        if any(sum(self.cells[node].free.get(what, 0) for node in best.nodes) < size for what, size in wanted.items()):
            wider = [
                one
                for one in self.hints(pod, wanted).get(MEMORY) or ()
                if one.nodes and self._contains(best.nodes, one.nodes)
            ]
            if not wider:
                raise unexpected("[memorymanager] failed to find NUMA nodes to extend the current topology hint")
            best = self._preferred(wider, best, "extended")
        assert best.nodes is not None
        return best.nodes

    def _contains(self, nodes: Nodes, wider: Nodes) -> bool:
        """isHintInGroup; 1.21 misses groups that end with the last one of the nodes."""
        return nodes <= wider and (self.minor >= _REUSES or max(nodes) != max(wider))

    @staticmethod
    def _preferred(hints: Sequence[Hint], over: Hint, name: str) -> Hint:
        """findBestHint, which has to be preferred if the other one was."""
        best = narrowest(hints)
        if over.preferred and not best.preferred:
            raise unexpected(f"[memorymanager] failed to find the {name} preferred hint")
        return best

    def _take(self, block: Block, size: int) -> None:
        """updateMachineState: from the lowest node on, whatever is free."""
        for node in sorted(block.nodes):
            cell = self.cells[node]
            cell.assignments += 1
            cell.group = block.nodes
            taken = min(size, cell.free.get(block.resource, 0))
            if taken:
                cell.free[block.resource] -= taken
                cell.reserved[block.resource] += taken
                size -= taken

    def release(self, pod: str) -> None:
        """Frees what a pod has (RemoveContainer): in its NUMA nodes from the lowest on, whoever reserved it there."""
        self._ending.pop(pod, None)
        for blocks in self.blocks.pop(pod, {}).values():
            for block in blocks:
                size = block.size
                for node in sorted(block.nodes):
                    cell = self.cells[node]
                    cell.assignments -= 1
                    if cell.assignments == 0:
                        cell.group = frozenset({node})
                    freed = min(size, cell.reserved.get(block.resource, 0))
                    if freed:
                        cell.free[block.resource] += freed
                        cell.reserved[block.resource] -= freed
                        size -= freed

    def _reusable_in(self, pod: str, nodes: Nodes, resource: str) -> int:
        """getPodReusableMemory"""
        return self._reusable.get(pod, {}).get((nodes, resource), 0)

    def _note_reusable(self, pod: str, reused_later: bool, blocks: Sequence[Block]) -> None:
        """updatePodReusableMemory; 1.22 means to forget what other pods could reuse, and forgets what this one can."""
        if self.minor < _REUSES:
            return
        if self.minor < _FORGETS_OTHERS:
            if self._reusable.keys() - {pod}:
                self._reusable.pop(pod, None)
        else:
            self._reusable = {uid: found for uid, found in self._reusable.items() if uid == pod}
        if reused_later:
            mine = self._reusable.setdefault(pod, {})
            for block in blocks:
                mine[block.nodes, block.resource] = max(block.size, mine.get((block.nodes, block.resource), 0))
            return
        for block in blocks:
            left = self._reusable_in(pod, block.nodes, block.resource)
            if left:
                self._reusable[pod][block.nodes, block.resource] = max(0, left - block.size)

    def _shrink_reused(self, pod: str, blocks: Sequence[Block]) -> None:
        """updateInitContainersMemoryBlocks: what a later container has again no longer counts for the earlier ones."""
        containers = self.blocks[pod]
        for block in blocks:
            size = block.size
            for name in self._ending.get(pod, ()):
                shrunk = []
                for earlier in containers[name]:
                    again = 0
                    if (earlier.nodes, earlier.resource) == (block.nodes, block.resource):
                        again = min(size, earlier.size)
                    shrunk.append(replace(earlier, size=earlier.size - again))
                    size -= again
                containers[name] = tuple(shrunk)
