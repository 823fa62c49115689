# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of CPUs and nodes in the kernel's notation, such as "0-3,8"."""

from typing import Iterable, List, Set


def parse_list(text: str) -> Set[int]:
    """The numbers in a list such as "0-3,8"; empty for an empty text."""
    numbers: Set[int] = set()
    for part in text.strip().split(","):
        first, _dash, last = part.partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def format_list(numbers: Iterable[int]) -> str:
    """`numbers` in the kernel's notation."""
    ranges: List[List[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
