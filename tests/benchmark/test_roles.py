# SPDX-License-Identifier: GPL-3.0-or-later
"""What arms stand for, by their names."""

from __future__ import annotations

import pytest

from benchmark.experiment import ArmRole
from benchmark.results import InputError, ResultSet
from benchmark.roles import by_role, role, split


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("quota-auto", ArmRole.TODAY),
        ("none-auto", ArmRole.TODAY),
        ("fractional-auto", ArmRole.TODAY),
        ("none-12", ArmRole.THREADS),
        ("cpuset-4", ArmRole.EXCLUSIVE),
        ("static-auto", ArmRole.EXCLUSIVE),
        ("integer-12", ArmRole.EXCLUSIVE),
        ("none", None),
        ("amd-4", None),
    ],
)
def test_a_name_says_what_an_arm_stands_for(arm: str, expected: ArmRole | None) -> None:
    assert role(arm) is expected


def test_a_name_has_a_group_and_threads() -> None:
    assert [split(name) for name in ("none-auto", "my-node-4", "none", "a-b")] == [
        ("none", "auto"),
        ("my-node", "4"),
        ("none", ""),
        ("a-b", ""),
    ]


def arms(*names: str, limit: int = 4) -> dict[str, ResultSet]:
    return {name: ResultSet(name, (), {"quota_cpus": float(limit), "cpus_allowed": 16}, arm=name) for name in names}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("static-4", "none-4", "none-auto"), ["none-auto", "none-4", "static-4"]),
        (("none-8", "none-4"), ["none-4"]),
        (("none-8", "none-2"), ["none-8"]),
        (("static-auto", "static-4"), ["static-4"]),
        (("static-auto",), ["static-auto"]),
    ],
)
def test_each_role_has_one_arm(names: tuple[str, ...], expected: list[str]) -> None:
    assert list(by_role(arms(*names)).values()) == expected


def test_two_groups_of_one_role_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        by_role(arms("none-auto", "fractional-auto", "static-4", "integer-4"))
    assert [problem.partition(" are all ")[0] for problem in refused.value.problems] == [
        "none-auto, fractional-auto",
        "static-4, integer-4",
    ]


def test_names_without_a_role_are_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"no arm of amd, intel says what it stands for.*report A B"):
        by_role(arms("amd", "intel"))
