# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_duration, parse_quantity
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2),
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1.5Ki", 1536),
        ("2e3", 2000),
        ("1E", 10**18),
        (".5", 0.5),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e999999999", 2**63 - 1, id="a large exponent"),
        pytest.param("-1e999999999", -(2**63 - 1), id="a large negative number"),
        pytest.param("8Ei", 2**63 - 1, id="one more than the largest"),
        pytest.param("0e999999999", 0, id="zero with an exponent"),
        pytest.param("1e-999999999", Fraction(1, 10**9), id="a small exponent"),
        pytest.param("0.1n", Fraction(1, 10**9), id="less than 1n"),
        pytest.param("9" * 500, 2**63 - 1, id="many digits"),
    ],
)
def test_numbers_out_of_range_are_capped_as_in_kubernetes(text: str, value: float) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "1 Gi", "Gi", "1GB", "5%", "1e", "one", "٣", "1e9999999999999999999", "9" * 5000, "1" * 50000 + "x"]
)
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("2h0m0.25s", 7200.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "10s!"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}" is not a duration'):
        parse_duration(text)


@given(st.text(alphabet="0123456789.+-eEnumkKMGi ", max_size=40), st.sampled_from([1, 20_000]))
def test_any_text_is_a_bounded_number_or_refused_at_once(part: str, times: int) -> None:
    text = part * times
    started = time.thread_time()
    parsers: tuple[Callable[[str], Any], ...] = (parse_quantity, parse_duration)
    for parse in parsers:
        try:
            value = parse(text)
        except ValueError:
            continue
        assert parse is parse_duration or abs(value) < 2**63
    assert time.thread_time() - started < 1


def test_a_long_text_that_is_no_duration_is_refused_at_once() -> None:
    started = time.thread_time()
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration("1" * 50_000)
    assert time.thread_time() - started < 1
