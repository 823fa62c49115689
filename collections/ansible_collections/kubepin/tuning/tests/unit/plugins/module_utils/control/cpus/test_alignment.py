# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology manager's choice. The merged hints are Kubernetes' own expectations, retyped from
pkg/kubelet/cm/topologymanager/policy_test.go (Apache License 2.0)."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    Hint,
    TopologyManager,
    fewest_nodes,
    hints_for,
)
from hypothesis import given
from hypothesis import strategies as st


def hint(nodes: tuple[int, ...] | None, preferred: bool = True) -> Hint:
    return Hint(None if nodes is None else frozenset(nodes), preferred)


def align(policy: str, *resources: list[Hint] | None, nodes: int = 2, minor: int = 36) -> tuple[list[int] | None, bool]:
    found, admitted = TopologyManager(policy, "container", frozenset(range(nodes)), minor).align(resources)
    return (None if found.nodes is None else sorted(found.nodes)), admitted


NO_FIT = [hint((0,)), hint((1,), False)], [hint((1,))]


@pytest.mark.parametrize(
    ("policy", "resources", "expected"),
    [
        pytest.param("best-effort", [None], ([0, 1], True), id="no preference"),
        pytest.param("best-effort", [[]], ([0, 1], True), id="impossible, and admitted all the same"),
        pytest.param("restricted", [[]], ([0, 1], False), id="impossible"),
        pytest.param("single-numa-node", [None], (None, True), id="single, no preference"),
        pytest.param("single-numa-node", [[]], (None, False), id="single, impossible"),
        pytest.param("restricted", [[hint((0,)), hint((1,))], [hint((0,)), hint((1,))]], ([0], True), id="the lowest"),
        pytest.param("restricted", [[hint((0,)), hint((1,))], [hint((1,))]], ([1], True), id="the common one"),
        pytest.param("restricted", [[hint((0,)), hint((1,))], [hint((0, 1), False)]], ([0], False), id="narrowed"),
        pytest.param("best-effort", [[hint((0,)), hint((1,))], [hint((0, 1), False)]], ([0], True), id="best effort"),
        pytest.param("restricted", [[hint((0, 1))], [hint((0, 1))]], ([0, 1], True), id="both need two nodes"),
        pytest.param("single-numa-node", [[hint((0, 1))]], (None, False), id="single, needs two"),
        pytest.param("single-numa-node", [[hint((0,)), hint((1,))], [hint((1,))]], ([1], True), id="single"),
        pytest.param("restricted", NO_FIT, ([1], False), id="preferred elsewhere"),
    ],
)
def test_the_nodes_that_all_resources_have_in_common_are_chosen(
    policy: str, resources: list[list[Hint] | None], expected: tuple[list[int] | None, bool]
) -> None:
    assert align(policy, *resources) == expected


def test_without_a_preferred_choice_the_resource_that_needs_most_nodes_decides_since_1_24() -> None:
    wide = [hint((0, 1), False), hint((0, 1, 2), False), hint((0, 1, 2, 3), False)]
    narrow = [hint((0,), False), hint((0, 1), False), hint((0, 1, 2, 3), False)]
    assert align("best-effort", wide, narrow, nodes=4, minor=23) == ([0], True)
    assert align("best-effort", wide, narrow, nodes=4, minor=24) == ([0, 1], True)


def test_before_1_24_preferred_hints_that_name_different_nodes_stay_preferred() -> None:
    """mergePermutation"""
    resources = [hint((0, 1))], [hint((0,)), hint((1,))]
    assert align("restricted", *resources, minor=23) == ([0], True)
    assert align("restricted", *resources, minor=24) == ([0], False)


def test_a_hint_is_preferred_if_the_fewest_nodes_that_could_do_have_enough_left() -> None:
    total = {0: 8, 1: 8}
    assert fewest_nodes(total, 8) == 1
    assert hints_for({0: 8, 1: 4}, {}, 8, 1) == [hint((0,)), hint((0, 1), False)]
    assert hints_for({0: 4, 1: 4}, {}, 8, 1) == [hint((0, 1), False)]
    assert fewest_nodes(total, 12) == 2
    assert hints_for({0: 8, 1: 4}, {}, 12, 2) == [hint((0, 1))]


def test_more_than_the_machine_has_is_impossible() -> None:
    assert fewest_nodes({0: 8, 1: 8}, 17) == 2
    assert hints_for({0: 8, 1: 8}, {}, 17, 2) == []


def test_what_the_pod_already_has_must_be_reused() -> None:
    assert hints_for({0: 8, 1: 4}, {1: 4}, 8, 1) == [hint((1,)), hint((0, 1), False)]


def test_choices_are_not_enumerated() -> None:
    """The kubelet looks at 255 to the power of three choices, which would not end here."""
    hints = hints_for(dict.fromkeys(range(8), 8), {}, 8, 1)
    assert align("restricted", hints, hints, hints, nodes=8) == ([0], True)


EVERY = frozenset(range(3))
MASKS = [frozenset(mask) for size in (1, 2, 3) for mask in itertools.combinations(sorted(EVERY), size)]
RESOURCES = st.lists(
    st.lists(st.builds(Hint, st.sampled_from([None, *MASKS]), st.booleans()), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


def narrower(one: frozenset[int], other: frozenset[int]) -> bool:
    """bitmask.IsNarrowerThan"""
    return (len(one), sum(1 << n for n in one)) < (len(other), sum(1 << n for n in other))


def merged_one_by_one(resources: list[list[Hint]], minor: int) -> Hint:
    """policy.go as it stands: every permutation, compared with the best one so far."""
    best = Hint(EVERY, False) if minor < 24 else None
    counts = [[hint.nodes for hint in hints if hint.nodes is not None] for hints in resources]
    most = max((min(map(len, masks)) for masks in counts if masks), default=0)
    for permutation in itertools.product(*resources):
        masks = [hint.nodes for hint in permutation if hint.nodes is not None]
        common = EVERY.intersection(*masks)
        preferred = all(hint.preferred for hint in permutation) and (minor < 24 or len(set(masks)) < 2)
        if common and (best is None or replaces(best, Hint(common, preferred), most, minor)):
            best = Hint(common, preferred)
    return best or Hint(EVERY, False)


def replaces(best: Hint, new: Hint, most: int, minor: int) -> bool:
    """Whether a merged hint takes the place of the best one: mergeFilteredHints before 1.24, HintMerger.compare since."""
    assert best.nodes is not None
    assert new.nodes is not None
    if new.preferred != best.preferred:
        return new.preferred
    current, candidate = len(best.nodes), len(new.nodes)
    if minor < 24 or best.preferred or current > most:
        return narrower(new.nodes, best.nodes)
    if current == most:
        return candidate == most and narrower(new.nodes, best.nodes)
    if candidate != current:
        return current < candidate <= most
    return narrower(new.nodes, best.nodes)


@pytest.mark.parametrize("minor", [23, 24])
@given(resources=RESOURCES)
def test_hints_are_merged_as_if_every_permutation_were_looked_at(minor: int, resources: list[list[Hint]]) -> None:
    expected = merged_one_by_one(resources, minor)
    assert TopologyManager("restricted", "container", EVERY, minor).align(resources) == (expected, expected.preferred)
