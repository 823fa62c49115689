# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the arms in each round of a measurement. Pure."""

from __future__ import annotations

import random
import typing as t


def balanced_orders(arms: int, rounds: int, seed: str) -> t.List[t.List[int]]:
    """An order of the arms, as numbers from 0, for each round: random, and balanced over blocks of rounds.

    Over as many rounds as there are arms, each arm has each place once (a Latin square). The next block is its mirror:
    over both, a drift affects all arms equally, and of two or three arms each follows each other one equally often
    (E. J. Williams, 1949). The same *seed* gives the same orders, and more rounds continue them.
    """
    source = random.Random(seed)
    orders: t.List[t.List[int]] = []
    while len(orders) < rounds:
        first = source.sample(range(arms), arms)
        square = [first[place:] + first[:place] for place in range(arms)]
        for block in (square, [row[::-1] for row in square]):
            source.shuffle(block)
            orders += block
    return orders[:rounds]
