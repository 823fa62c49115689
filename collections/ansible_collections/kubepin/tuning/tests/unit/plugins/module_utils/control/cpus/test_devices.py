# SPDX-License-Identifier: GPL-3.0-or-later
"""The device manager. Many expectations are Kubernetes' own, retyped from pkg/kubelet/cm/devicemanager/
topology_hints_test.go of 1.36 (Apache License 2.0)."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import NO_HINT, Hint, Refused
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DeviceManager, DevicePlugin

GPU = "example.com/gpu"
ALTERNATING = (0, 1, 0, 1)


def hint(*numbers: int, preferred: bool = True) -> Hint:
    return Hint(frozenset(numbers), preferred)


def manager(
    *nodes: int | None, minor: int = 36, machine: int = 2, lowest_first: bool = False, given: str = ""
) -> DeviceManager:
    """Devices d1, d2, ... on these NUMA nodes, of which another pod has those in `given`."""
    devices = {f"d{number}": frozenset() if node is None else frozenset({node}) for number, node in enumerate(nodes, 1)}
    found = DeviceManager(minor, frozenset(range(machine)), {GPU: DevicePlugin(GPU, devices, lowest_first)})
    if given:
        found.replace("other", {"c": {GPU: frozenset(given.split())}})
    return found


def hints(found: DeviceManager, wanted: int, whole_pod: bool = False) -> object:
    return found.hints("p", {GPU: wanted}, whole_pod)[GPU]


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        pytest.param(manager(None, None), 1, None, id="single request, no alignment"),
        pytest.param(manager(None, 1), 1, [hint(1)], id="only one with alignment"),
        pytest.param(manager(None, 1, minor=35), 1, [hint(1), hint(0, 1, preferred=False)], id="the same below 1.36"),
        pytest.param(manager(0, 1), 1, [hint(0), hint(1), hint(0, 1, preferred=False)], id="one device per socket"),
        pytest.param(manager(0, 1), 2, [hint(0, 1)], id="2, one device per socket"),
        pytest.param(
            manager(*ALTERNATING), 2, [hint(0), hint(1), hint(0, 1, preferred=False)], id="2, 2 devices per socket"
        ),
        pytest.param(manager(*ALTERNATING, given="d1 d2"), 2, [hint(0, 1, preferred=False)], id="2, forced cross-NUMA"),
        pytest.param(manager(*ALTERNATING), 5, [], id="more requested than available"),
    ],
)
def test_hints(found: DeviceManager, wanted: int, expected: object) -> None:
    """getCommonTestCases"""
    assert hints(found, wanted) == expected


@pytest.mark.parametrize(
    ("found", "wanted", "on", "expected"),
    [
        pytest.param(manager(None, 1), 1, (1,), "d2", id="1, partial alignment"),
        pytest.param(manager(0, 1), 1, (0,), "d1", id="single request, socket 0"),
        pytest.param(manager(0, 1), 1, (1,), "d2", id="single request, socket 1"),
        pytest.param(manager(*ALTERNATING), 2, (1,), "d2 d4", id="2, socket 1"),
        pytest.param(manager(0, 1, 0, 1, 0, 1, lowest_first=True), 4, (1,), "d1 d2 d4 d6", id="4, unsatisfiable"),
        pytest.param(manager(0, 1, 2, 3, 0, 1, machine=4), 4, (0, 1), "d1 d2 d5 d6", id="4, multisocket"),
        pytest.param(manager(*ALTERNATING, None), 5, (0,), "d1 d2 d3 d4 d5", id="those without a node come last"),
    ],
)
def test_devices_on_the_chosen_nodes_come_first(
    found: DeviceManager, wanted: int, on: tuple[int, ...], expected: str
) -> None:
    """TestTopologyAlignedAllocation"""
    assert not found.allocate("p", "c", False, {GPU: wanted}, hint(*on))
    assert found.given["p"]["c"][GPU] == frozenset(expected.split())


def test_without_preferences_of_the_plugin_the_nodes_are_not_certain() -> None:
    assert manager(*ALTERNATING).allocate("p", "c", False, {GPU: 1}, NO_HINT) == {GPU}
    assert not manager(0, 0, 0).allocate("p", "c", False, {GPU: 1}, NO_HINT)
    assert not manager(*ALTERNATING).allocate("p", "c", False, {GPU: 4}, NO_HINT)
    assert not manager(*ALTERNATING, lowest_first=True).allocate("p", "c", False, {GPU: 1}, NO_HINT)


@pytest.mark.parametrize("minor", [21, 36])
def test_which_of_an_init_containers_devices_is_given_again_is_not_certain(minor: int) -> None:
    found = manager(*ALTERNATING, lowest_first=True, minor=minor)
    assert not found.allocate("p", "i", True, {GPU: 2}, hint(0, 1))
    assert found.allocate("p", "c", False, {GPU: 1}, hint(0, 1)) == {GPU}


def test_below_1_22_it_is_not_certain_where_a_device_on_several_nodes_counts() -> None:
    devices = {"d1": frozenset({0, 1}), "d2": frozenset({1}), "d3": frozenset({1})}
    for minor in (21, 22):
        found = DeviceManager(minor, frozenset({0, 1}), {GPU: DevicePlugin(GPU, devices, lowest_first=True)})
        assert found.allocate("p", "c", False, {GPU: 1}, hint(1)) == (set() if minor == 22 else {GPU})
        assert not found.allocate("q", "c", False, {GPU: 2}, hint(1))


def test_too_few_devices_are_refused_by_number() -> None:
    found = manager(*ALTERNATING, given="d1 d2 d3")
    with pytest.raises(
        Refused, match=f"devices unavailable for {GPU}. Requested: 2, Available: 1, which is unexpected"
    ):
        found.allocate("p", "c", False, {GPU: 2}, NO_HINT)


def test_devices_of_init_containers_are_given_again_and_bind_the_hints() -> None:
    found = manager(*ALTERNATING)
    found.allocate("p", "i", True, {GPU: 1}, hint(1))
    assert found.given["p"]["i"][GPU] == {"d2"}
    assert hints(found, 1) == [hint(1), hint(0, 1, preferred=False)]
    found.allocate("p", "c0", False, {GPU: 2}, hint(1))
    assert found.given["p"]["c0"][GPU] == {"d2", "d4"}
    found.allocate("p", "c1", False, {GPU: 2}, hint(0))
    assert found.given["p"]["c1"][GPU] == {"d1", "d3"}
    found.release("p")
    assert hints(found, 4) == [hint(0, 1)]


def test_a_pod_as_a_whole_is_looked_at_before_it_has_anything() -> None:
    found = manager(*ALTERNATING)
    found.allocate("p", "i", True, {GPU: 1}, hint(1))
    assert hints(found, 2, whole_pod=True) == [hint(0), hint(0, 1, preferred=False)]
