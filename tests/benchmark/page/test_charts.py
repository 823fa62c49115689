# SPDX-License-Identifier: GPL-3.0-or-later
"""Scales and marks."""

from __future__ import annotations

import pytest

from benchmark.page import charts


def test_a_ratio_and_its_inverse_lie_equally_far_from_one() -> None:
    scale = charts.LogScale(0.25, 4)
    assert scale.at(1) == pytest.approx(50)
    assert scale.at(2) - 50 == pytest.approx(50 - scale.at(0.5))


def test_one_huge_interval_does_not_squeeze_the_others() -> None:
    spans = [charts.Span(1.2, 1.1, 1.3), charts.Span(1.3, 0.01, 90.0)]
    scale = charts.ratio_scale(spans, 0.03)
    assert scale.high / scale.low < 3
    assert 1.0 in charts.ratio_ticks(scale)
    assert "end" in charts.forest_row(spans[1], scale, 0.03, "circle", "unknown", "")
    assert "end" not in charts.forest_row(spans[0], scale, 0.03, "circle", "unknown", "")


@pytest.mark.parametrize("ratio", [0.1, 0.8, 1.0, 1.02, 2.5, 40.0])
def test_both_sides_of_one_have_room_for_their_names(ratio: float) -> None:
    scale = charts.ratio_scale([charts.Span(ratio, ratio * 0.98, ratio * 1.02)], 0.05)
    assert 15 < scale.at(1) < 85
    assert 0 < scale.at(ratio) < 100


def test_rounds_are_on_the_scale() -> None:
    scale = charts.ratio_scale([charts.Span(1.3, 1.2, 1.4, (1.1, 1.9))], 0.05)
    assert scale.at(1.9) < 100


@pytest.mark.parametrize("longest", [0.0, 0.7, 1.0, 49.0, 1894.0, 123456.0])
def test_values_have_few_round_ticks_from_nothing(longest: float) -> None:
    ticks = charts.value_ticks(longest)
    assert ticks[0] == 0
    assert ticks[-1] <= longest * (1 + 1e-9)
    assert len(ticks) <= 6
    assert longest == 0 or len(ticks) >= 3
