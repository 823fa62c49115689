# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology manager's choice. The merged hints are Kubernetes' own expectations, retyped from
pkg/kubelet/cm/topologymanager/policy_test.go (Apache License 2.0)."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.alignment import (
    Hint,
    TopologyManager,
    fewest_nodes,
    hints_for,
)


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
