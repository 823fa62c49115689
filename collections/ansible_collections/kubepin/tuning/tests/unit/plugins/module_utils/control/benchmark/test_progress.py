# SPDX-License-Identifier: GPL-3.0-or-later
"""A measurement goes on until it is precise, or until its rounds or minutes are used up."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.progress import (
    ANALYSES,
    FORECAST,
    measurement_progress,
)
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.statistics import (
    FORECAST_ROUNDS,
    INTERIM_ANALYSES,
)

SENTENCE = "Set the number of threads: 1.85 times as fast."


def progress(rounds: int, *, most: int = 20, budget: float | None = 10, minutes: float = 1.5, **report: Any) -> Any:
    found = {"sentence": SENTENCE, "is_precise": False, "invalid": [], "expected_rounds": 7, "gpu_minutes": 0.5}
    limits = {"rounds": most, "precision": 0.1, "budget_minutes": budget}
    return measurement_progress({"report": {**found, **report}}, rounds, limits, [minutes * 20] * 3)


def test_analyses_are_those_that_the_evaluation_corrects_for() -> None:
    assert (FORECAST, ANALYSES) == (FORECAST_ROUNDS, INTERIM_ANALYSES)


@pytest.mark.parametrize(("most", "first"), [(1, 1), (3, 3), (20, 3)])
def test_it_begins_with_the_rounds_that_tell_how_many_are_needed(most: int, first: int) -> None:
    limits = {"rounds": most, "precision": 0.1, "budget_minutes": 10}
    found = measurement_progress({}, 0, limits, [])
    assert (found["next_rounds"], found["text"]) == (first, f"Going on up to round {first}.")


@pytest.mark.parametrize(
    ("rounds", "changes", "target", "ending"),
    [
        pytest.param(3, {}, 5, None, id="to the first analysis"),
        pytest.param(3, {"is_precise": True}, 5, None, id="three rounds decide nothing"),
        pytest.param(3, {"minutes": 40}, 5, None, id="a budget that is too small for any analysis"),
        pytest.param(5, {}, 8, None, id="to the second"),
        pytest.param(8, {"minutes": 2}, 12, None, id="to the third"),
        pytest.param(12, {"minutes": 2}, 20, None, id="to the last"),
        pytest.param(5, {"is_precise": True}, None, "precise", id="precise"),
        pytest.param(5, {"invalid": [{"code": "control_moved"}]}, None, "invalid", id="invalid"),
        pytest.param(5, {"most": 6}, 6, None, id="no more rounds than asked for"),
        pytest.param(6, {"most": 6}, None, "rounds", id="all rounds"),
        pytest.param(1, {"most": 1}, None, "rounds", id="a single round"),
        pytest.param(20, {"most": 30, "minutes": 2}, 30, None, id="more rounds than analyses"),
        pytest.param(5, {"minutes": 7}, 7, None, id="as many as the budget allows"),
        pytest.param(5, {"minutes": 9}, None, "budget", id="the budget"),
        pytest.param(5, {"minutes": 90, "budget": None}, 8, None, id="no budget"),
    ],
)
def test_when_it_ends(rounds: int, changes: dict[str, Any], target: int | None, ending: str | None) -> None:
    found = progress(rounds, **changes)
    assert (found["next_rounds"], found["ending"]) == (target, ending)


def test_after_three_rounds_it_says_how_many_it_expects() -> None:
    assert progress(3)["text"] == (
        "3 rounds measured. About 7 rounds are needed for a decision on both questions within ±10%. Going on up to round 5, "
        "for about 1 min 0 s."
    )


def test_each_analysis_says_what_it_found_and_why_it_ends() -> None:
    assert progress(5, is_precise=True, expected_rounds=5)["text"] == (
        f"After 5 rounds: {SENTENCE} This is as precise as asked for."
    )
    assert "exceed the budget of 10 minutes: raise it" in progress(5, minutes=9)["text"]
    assert "the most rounds that may be measured (5)" in progress(5, most=5)["text"]


def test_where_a_pods_time_is_unknown_the_reports_sum_counts() -> None:
    limits = {"rounds": 20, "precision": 0.1, "budget_minutes": 10}
    report = {"sentence": SENTENCE, "gpu_minutes": 7.0}
    found = measurement_progress({"report": report}, 5, limits, [60.0, None])
    assert (found["minutes"], found["next_rounds"]) == (7.0, 7)


def test_timings_that_cannot_be_evaluated_are_told_and_the_next_analysis_is_tried() -> None:
    limits = {"rounds": 20, "precision": 0.1, "budget_minutes": 10}
    found = measurement_progress({"failed": True, "msg": "lines.jsonl:3: is not JSON."}, 3, limits, [])
    assert found["next_rounds"] == 5
    assert found["text"] == "After 3 rounds: lines.jsonl:3: is not JSON. Going on up to round 5."


def test_one_side_of_a_comparison_has_no_analyses() -> None:
    limits = {"rounds": 5, "precision": 0.1, "budget_minutes": 10, "analyses": False}
    assert measurement_progress({}, 0, limits, [])["next_rounds"] == 5
    ended = measurement_progress({}, 5, limits, [])
    assert ended["next_rounds"] is None
    assert ended["text"] == "5 rounds measured. That is the most rounds that may be measured (5)."
