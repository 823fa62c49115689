# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import parse_environment
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    BANNED_LIST,
    BANNED_MASK,
    UNITS,
    BanRefused,
    allowed_cpus,
    banned_cpus,
    drop_in,
    is_ours,
    systemd_cpus,
    with_ban,
    without_ban,
)
from hypothesis import given
from hypothesis import strategies as st

CPUS = st.frozensets(st.integers(0, 300), min_size=1)


@given(cpus=CPUS, unit=st.sampled_from(UNITS))
def test_a_drop_in_says_what_it_was_made_for(cpus: frozenset[int], unit: str) -> None:
    text = drop_in(unit, cpus)
    assert allowed_cpus(text) == cpus
    assert is_ours(text)
    assert ("[Scope]\n" in text) == unit.endswith(".scope"), "systemd ignores settings in the section of another type"


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        (None, set()),
        ("", set()),
        ("[Slice]\nCPUWeight=100\n", set()),
        ("[Slice]\nAllowedCPUs=0\nAllowedCPUs=2-3\n", {0, 2, 3}),
        ("[Slice]\nAllowedCPUs=0 1\nAllowedCPUs=\n AllowedCPUs = 4 6-7\n", {4, 6, 7}),
        ("[Slice]\n#AllowedCPUs=5\n", set()),
    ],
)
def test_assignments_add_up_until_an_empty_one(text: str | None, cpus: set[int]) -> None:
    assert allowed_cpus(text) == cpus


def test_systemd_separates_ranges_by_spaces() -> None:
    assert systemd_cpus("0-1 4, 6") == {0, 1, 4, 6}


@given(
    lines=st.lists(
        st.sampled_from(
            [
                'IRQBALANCE_ARGS="--hintpolicy=ignore"\n',
                "#IRQBALANCE_BANNED_CPUS=\n",
                "IRQBALANCE_BANNED_CPUS=ff\n",
                "IRQBALANCE_BANNED_CPULIST=0-3\n",
                "\n",
                "# a comment \\\n",
                "IRQBALANCE_ONESHOT=1 \\\n",
            ]
        )
    ),
    cpus=CPUS,
    more=CPUS,
)
def test_a_ban_is_in_force_and_can_be_replaced_and_taken_away(
    lines: list[str], cpus: frozenset[int], more: frozenset[int]
) -> None:
    text = "".join(lines)
    banned = with_ban(text, cpus)
    assert banned_cpus(banned) == cpus
    assert banned_cpus(with_ban(banned, more)) == more
    others = {name: value for name, value in parse_environment(text).items() if name not in (BANNED_LIST, BANNED_MASK)}
    assert others.items() <= parse_environment(banned).items()
    assert without_ban(banned).rstrip("\n") == text.rstrip("\n")


def test_without_a_file_there_is_one_with_the_ban_alone() -> None:
    assert (
        with_ban(None, frozenset({2, 3})) == "# Written by kubepin: the CPUs of pods.\nIRQBALANCE_BANNED_CPULIST=2-3\n"
    )


def test_a_mask_overrules_a_list_and_is_emptied() -> None:
    """irqbalance cputree.c, setup_banned_cpus."""
    text = f"{BANNED_MASK}=f0\n{BANNED_LIST}=0-3\n"
    assert banned_cpus(text) is None
    assert parse_environment(with_ban(text, frozenset({1})))[BANNED_MASK] == ""


def test_a_file_that_ends_within_a_quote_is_refused() -> None:
    with pytest.raises(BanRefused, match="ends within a quoted value"):
        with_ban('IRQBALANCE_ARGS="--debug\n', frozenset({1}))
