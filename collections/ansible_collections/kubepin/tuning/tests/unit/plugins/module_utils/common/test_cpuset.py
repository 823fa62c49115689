# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        pytest.param("", set(), id="empty"),
        pytest.param("\n", set(), id="an empty file"),
        pytest.param("0", {0}, id="one"),
        pytest.param("0-3,8\n", {0, 1, 2, 3, 8}, id="range and number, as a file"),
        pytest.param("8,0-3,2", {0, 1, 2, 3, 8}, id="any order, twice"),
        pytest.param("0-7:1/2", {0, 2, 4, 6}, id="every other"),
        pytest.param("0-10:2/4", {0, 1, 4, 5, 8, 9}, id="two of four"),
        pytest.param("65535", {65535}, id="the highest"),
    ],
)
def test_parse(text: str, cpus: set[int]) -> None:
    assert parse_cpuset(text) == cpus


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("a", "'a' is neither", id="letters"),
        pytest.param("0,,2", "'' is neither", id="nothing between commas"),
        pytest.param("0,", "'' is neither", id="trailing comma"),
        pytest.param("-1", "'-1' is neither", id="negative"),
        pytest.param("1-", "'1-' is neither", id="open range"),
        pytest.param("0 1", "'0 1' is neither", id="space"),
        pytest.param("0, 1", "' 1' is neither", id="space after comma"),
        pytest.param("0x1", "'0x1' is neither", id="a mask"),
        pytest.param("٣", "'٣' is neither", id="digits that the kernel does not know"),
        pytest.param("5-2", "'5-2' ends before it starts", id="backwards"),
        pytest.param("0-65536", "'0-65536' goes beyond CPU 65535", id="too high"),
        pytest.param("9" * 5000, "goes beyond CPU 65535", id="a number that Python does not convert"),
        pytest.param("0-7:0/2", "uses none", id="no CPU of each group"),
        pytest.param("0-7:3/2", "more than all", id="more than the group"),
        pytest.param("3:1/2", "'3:1/2' is neither", id="group without range"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(
        CpusetError, match=f"^'{text.strip()[:100]}.*' is not a CPU list: .*{why}.*such as '0-3,8'"
    ) as caught:
        parse_cpuset(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("cpus", "text"),
    [
        pytest.param([], "", id="none"),
        pytest.param([3], "3", id="one"),
        pytest.param([1, 0], "0-1", id="two neighbours are a range, as the kernel prints them"),
        pytest.param([8, 0, 3, 1, 2, 8], "0-3,8", id="sorted, once"),
        pytest.param([0, 2, 4], "0,2,4", id="apart"),
    ],
)
def test_format(cpus: list[int], text: str) -> None:
    assert format_cpuset(cpus) == text
    assert parse_cpuset(text) == set(cpus)


@given(st.text(alphabet="0123456789-,:/ ", max_size=60))
def test_any_text_is_a_set_of_cpus_or_refused(text: str) -> None:
    try:
        cpus = parse_cpuset(text)
    except CpusetError:
        return
    assert parse_cpuset(format_cpuset(cpus)) == cpus
