# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory manager. Many expectations are Kubernetes' own, retyped from pkg/kubelet/cm/memorymanager/
policy_static_test.go of 1.36 (Apache License 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import NO_HINT, Hint, Refused
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.memory import Block, Cell, MemoryManager

MIB = 1024**2
GIB = 1024 * MIB
PAGES = "hugepages-1Gi"
ONE_GIB = {"memory": GIB, PAGES: GIB}


def nodes(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def cell(number: int, memory: int, free: int | None = None, group: tuple[int, ...] = (), assignments: int = 0) -> Cell:
    """A NUMA node with so many MiB, and pages of 1 GiB, one of them or as much as there is memory, all free."""
    left = memory if free is None else free
    pages = max(GIB, memory * MIB)
    return Cell(
        {"memory": memory * MIB, PAGES: pages},
        {"memory": left * MIB, PAGES: pages},
        {"memory": (memory - left) * MIB, PAGES: 0},
        nodes(*(group or (number,))),
        assignments,
    )


def manager(*cells: Cell, minor: int = 36) -> MemoryManager:
    return MemoryManager(minor, dict(enumerate(cells)))


def free(found: MemoryManager) -> list[int]:
    return [one.free["memory"] // MIB for one in found.cells.values()]


def blocks(on: frozenset[int], **sizes: Mapping[str, int]) -> dict[str, tuple[Block, ...]]:
    return {name: tuple(Block(on, what, size) for what, size in found.items()) for name, found in sizes.items()}


def test_a_new_machine_reserves_memory_and_sets_huge_pages_apart() -> None:
    """TestStaticPolicyStart: should fill the state with default values."""
    reserved = [{"numaNode": 0, "limits": {"memory": "512Mi"}}]
    found = MemoryManager.of(36, {0: {"memory": 4 * GIB, PAGES: GIB}, 1: {"memory": 2 * GIB}}, reserved)
    assert found.cells[0].free == {"memory": 2560 * MIB, PAGES: GIB}
    assert found.cells[1].allocatable == {"memory": 2 * GIB}


def test_a_group_of_nodes_is_filled_from_the_lowest_on_and_freed_again() -> None:
    """TestStaticPolicyAllocate: should succeed to allocate memory from multiple NUMA nodes; TestStaticPolicyRemoveContainer:
    should delete the cross NUMA container assignment."""
    found = manager(*(cell(number, 512) for number in range(4)))
    found.allocate("p", "c", False, ONE_GIB, Hint(None, True))
    assert found.blocks["p"] == blocks(nodes(0, 1), c=ONE_GIB)
    assert free(found) == [0, 0, 512, 512]
    assert [one.free[PAGES] for one in found.cells.values()] == [0, GIB, GIB, GIB]
    assert [(one.group, one.assignments) for one in found.cells.values()][:3] == [
        (nodes(0, 1), 2),
        (nodes(0, 1), 2),
        (nodes(2), 0),
    ]
    found.release("p")
    assert free(found) == [512, 512, 512, 512]
    assert {one.assignments for one in found.cells.values()} == {0}
    assert found.cells[1].group == nodes(1)


def test_what_one_pod_frees_in_a_group_may_be_on_another_node_than_it_was() -> None:
    found = manager(cell(0, 512), cell(1, 512))
    for name in ("p", "q"):
        found.allocate(name, "c", False, {"memory": 600 * MIB if name == "p" else 200 * MIB}, NO_HINT)
    assert free(found) == [0, 224]
    found.release("q")
    assert free(found) == [200, 224]


@pytest.mark.parametrize(
    ("cells", "hint", "error"),
    [
        pytest.param(
            *((cell(0, 512),), NO_HINT),
            "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available",
            id="calculation of the default hint failed",
        ),
        pytest.param(
            *((cell(0, 1024, 512, assignments=1), cell(1, 512), cell(2, 512)), Hint(None, True)),
            "failed to find the default preferred hint",
            id="default hint has preferred false",
        ),
        pytest.param(
            *((cell(0, 1024, 0, assignments=1), cell(1, 1024)), Hint(nodes(0), False)),
            "failed to find NUMA nodes to extend the current topology hint",
            id="extended hint generation failed",
        ),
        pytest.param(
            *((cell(0, 1024, 512, (0, 1), 1), cell(1, 1024, 512, (0, 1), 1)), Hint(nodes(0), True)),
            "failed to find the extended preferred hint",
            id="extended hint has preferred false",
        ),
        pytest.param(
            *((cell(0, 1536, 512, assignments=1), cell(1, 512)), Hint(nodes(0, 1), True)),
            "preferred hint violates NUMA node allocation",
            id="both single and cross NUMA node memory allocations",
        ),
    ],
)
def test_a_pod_is_refused(cells: tuple[Cell, ...], hint: Hint, error: str) -> None:
    """TestStaticPolicyAllocate"""
    with pytest.raises(Refused) as caught:
        manager(*cells).allocate("p", "c", False, ONE_GIB, hint)
    text = f"UnexpectedAdmissionError: Allocate failed due to [memorymanager] {error}, which is unexpected"
    assert str(caught.value) == text


def test_below_1_32_a_node_may_be_in_two_groups() -> None:
    found = manager(cell(0, 1536, 512, assignments=1), cell(1, 512), minor=31)
    found.allocate("p", "c", False, ONE_GIB, Hint(nodes(0, 1), True))
    assert [one.group for one in found.cells.values()] == [nodes(0, 1), nodes(0, 1)]


def test_a_hint_that_is_too_narrow_is_extended() -> None:
    found = manager(*(cell(number, 512) for number in range(3)))
    found.allocate("p", "c", False, ONE_GIB, Hint(nodes(1), False))
    assert found.blocks["p"]["c"][0].nodes == nodes(0, 1)


def test_1_21_cannot_extend_a_hint_to_a_group_that_ends_with_it() -> None:
    """isHintInGroup of 1.21 returns before it looks at the last node."""
    found = manager(*(cell(number, 512) for number in range(3)), minor=21)
    found.allocate("p", "c", False, ONE_GIB, Hint(nodes(1), False))
    assert found.blocks["p"]["c"][0].nodes == nodes(1, 2)


@pytest.mark.parametrize(
    ("starting", "running", "expected", "left"),
    [
        pytest.param((1, 2), (3, 4), ((0, 0), (3, 4)), 3, id="1Gi and 2Gi, apps 3Gi and 4Gi"),
        pytest.param((4, 3), (2, 1), ((0, 1), (2, 1)), 6, id="4Gi and 3Gi, apps 2Gi and 1Gi"),
        pytest.param((7, 4), (4, 3), ((0, 0), (4, 3)), 3, id="7Gi and 4Gi, apps 4Gi and 3Gi"),
        pytest.param((7, 4), (5, 2), ((0, 0), (5, 2)), 3, id="7Gi and 4Gi, apps 5Gi and 2Gi"),
    ],
)
def test_init_containers_memory_is_reused(
    starting: tuple[int, int], running: tuple[int, int], expected: tuple[tuple[int, int], tuple[int, int]], left: int
) -> None:
    """TestStaticPolicyAllocateWithInitContainers"""
    found = manager(cell(0, 10240))
    for number, size in enumerate(starting):
        found.allocate("p", f"i{number}", True, {"memory": size * GIB}, NO_HINT)
    for number, size in enumerate(running):
        found.allocate("p", f"c{number}", False, {"memory": size * GIB}, NO_HINT)
    sizes = {name: found.blocks["p"][name][0].size // GIB for name in ("i0", "i1", "c0", "c1")}
    assert (tuple(sizes.values())[:2], tuple(sizes.values())[2:]) == expected
    assert free(found) == [left * 1024]
    assert found.cells[0].assignments == 4


@pytest.mark.parametrize(("minor", "left"), [(21, 2), (22, 5), (23, 6)])
def test_what_init_containers_leave_is_reused_by_version(minor: int, left: int) -> None:
    """1.21 knows no reuse. 1.22 forgets what a pod may reuse once an earlier pod had init containers
    (updatePodReusableMemory deletes the wrong entry)."""
    found = manager(cell(0, 10240), minor=minor)
    for pod in ("p", "q"):
        found.allocate(pod, "i", True, {"memory": 2 * GIB}, NO_HINT)
        found.allocate(pod, "c0", False, {"memory": GIB}, NO_HINT)
        found.allocate(pod, "c1", False, {"memory": GIB}, NO_HINT)
    assert free(found) == [left * 1024]


def test_hints_are_the_same_for_all_resources() -> None:
    """TestStaticPolicyGetTopologyHints: should calculate new topology hints."""
    found = manager(cell(0, 1536), cell(1, 1536)).hints("p", ONE_GIB)
    expected = [Hint(nodes(0), True), Hint(nodes(1), True), Hint(nodes(0, 1), False)]
    assert found == {"memory": expected, PAGES: expected}


def test_a_pod_that_one_node_could_hold_does_not_prefer_a_group() -> None:
    """TestStaticPolicyGetTopologyHints: should not return preferred hints with multiple NUMA nodes for the pod with resources
    satisfied by a single NUMA node. 1.22 looks at the groups first, and prefers it."""
    taken = cell(0, 1536, 0, (0, 1), 2), cell(1, 1536, 1024, (0, 1), 2)
    assert manager(*taken).hints("p", {"memory": GIB}) == {"memory": [Hint(nodes(0, 1), False)]}
    assert manager(*taken, minor=22).hints("p", {"memory": GIB}) == {"memory": [Hint(nodes(0, 1), True)]}


def test_without_enough_memory_there_is_no_hint_at_all() -> None:
    assert manager(cell(0, 512), cell(1, 512)).hints("p", {"memory": 2 * GIB}) == {}
