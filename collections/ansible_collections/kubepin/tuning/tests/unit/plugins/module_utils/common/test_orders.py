# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the arms of a measurement."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.orders import balanced_orders


@pytest.mark.parametrize("arms", [1, 2, 3])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_each_arm_has_each_place_equally_often(arms: int, seed: str) -> None:
    orders = balanced_orders(arms, 2 * arms, seed)
    for block in (orders[:arms], orders[arms:]):
        assert all(Counter(places) == Counter(range(arms)) for places in zip(*block))


@pytest.mark.parametrize("arms", [2, 3])
def test_each_arm_follows_each_other_one_equally_often(arms: int) -> None:
    orders = balanced_orders(arms, 2 * arms, "a")
    follows = Counter(pair for order in orders for pair in pairwise(order))
    assert len(follows) == arms * (arms - 1)
    assert len(set(follows.values())) == 1


def test_more_rounds_continue_the_same_orders() -> None:
    assert balanced_orders(3, 20, "lab")[:5] == balanced_orders(3, 5, "lab")


def test_the_orders_differ_between_runs() -> None:
    assert len({str(balanced_orders(3, 5, f"run-{number}")) for number in range(20)}) > 10
