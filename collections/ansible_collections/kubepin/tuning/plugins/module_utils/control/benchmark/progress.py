# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a measurement of interleaved arms goes on, and up to which round. Pure.

The aim is a precision, not a number of rounds: a fixed number is far too many on a quiet machine and far too few on a
noisy one. Looking several times at growing data makes false findings likelier. The evaluation therefore corrects for these
analyses (benchmark/README.md), and only these are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, duration

Data = Mapping[str, Any]

SCHEMA = 1
FORECAST = 3
"""Rounds whose spread gives a rough estimate of how many are needed; too few for a verdict."""
ANALYSES = (5, 8, 12, 20)
MOST_ROUNDS = ANALYSES[-1]


class Ending(StrEnum):
    """Why no further round is measured."""

    PRECISE = "precise"
    INVALID = "invalid"
    BUDGET = "budget"
    ROUNDS = "rounds"


def measurement_progress(reported: Data, rounds: int, limits: Data, seconds: Sequence[float | None]) -> dict[str, Any]:
    """The fact `kubepin_measurement`: where a measurement stands after `rounds` rounds, and whether it goes on.

    :param reported: the result of module benchmark_report without a folder, failed or not; empty before the first round
    :param limits: ``rounds``, the most of them; ``precision``, a half-width as a share; ``budget_minutes``, for which GPUs
        may be held, and None for no limit; ``analyses``, false for arms that answer no question by themselves
    :param seconds: how long each round or process held a GPU; None where that is unknown, as for one of an interrupted run.
        Then the sum that the report found counts, which lacks their start-up
    """
    report: Data = reported.get("report") or {}
    most, budget = int(limits["rounds"]), limits["budget_minutes"]
    known = [one for one in seconds if one is not None]
    minutes = sum(known) / 60 if len(known) == len(seconds) else float(report.get("gpu_minutes") or 0)
    target, ending = (most, None) if rounds < most else (None, Ending.ROUNDS)
    if limits.get("analyses", True):
        target, ending = _next_target(report, rounds, most, budget, minutes)
    expected = report.get("expected_rounds")
    seconds_left = (target - rounds) * minutes * 60 / rounds if target and rounds else 0.0
    return {
        "schema": SCHEMA,
        "rounds": rounds,
        "next_rounds": target,
        "expected_rounds": expected,
        "minutes": round(minutes, 1),
        "ending": None if ending is None else ending.value,
        "text": " ".join(
            filter(
                None,
                (
                    _so_far(reported, rounds),
                    _forecast(expected, rounds, limits),
                    _then(target, ending, limits, seconds_left),
                ),
            )
        ),
    }


def _next_target(
    report: Data, rounds: int, most: int, budget: float | None, minutes: float
) -> tuple[int | None, Ending | None]:
    if rounds >= ANALYSES[0] and report.get("is_precise"):
        return None, Ending.PRECISE
    if rounds >= ANALYSES[0] and report.get("invalid"):
        return None, Ending.INVALID
    if rounds >= most:
        return None, Ending.ROUNDS
    target = min(most, next((number for number in (FORECAST, *ANALYSES) if number > rounds), most))
    if rounds < ANALYSES[0] or budget is None or minutes == 0:
        return target, None
    affordable = int(float(budget) * rounds / minutes)
    return (min(target, affordable), None) if affordable > rounds else (None, Ending.BUDGET)


def _so_far(reported: Data, rounds: int) -> str:
    if rounds == 0:
        return ""
    report: Data = reported.get("report") or {}
    why = report.get("sentence") or reported.get("msg")
    if not why or (rounds < ANALYSES[0] and report):
        return f"{counted(rounds, 'round')} measured."
    return f"After {counted(rounds, 'round')}: {str(why).rstrip('.')}."


def _forecast(expected: int | None, rounds: int, limits: Data) -> str:
    if expected is None or expected <= rounds:
        return ""
    return f"About {expected} rounds are needed for {_aim(limits)}."


def _aim(limits: Data) -> str:
    return f"a decision on both questions within ±{float(limits['precision']):.0%}"


def _then(target: int | None, ending: Ending | None, limits: Data, seconds_left: float) -> str:
    if ending is None:
        return f"Going on up to round {target}" + (f", for about {duration(seconds_left)}." if seconds_left else ".")
    budget = limits["budget_minutes"]
    return {
        Ending.PRECISE: "This is as precise as asked for.",
        Ending.INVALID: "More rounds cannot make it valid.",
        Ending.BUDGET: f"Another round would exceed the budget of {counted(budget, 'minute')}: raise it for more precision.",
        Ending.ROUNDS: f"That is the most rounds that may be measured ({limits['rounds']}).",
    }[ending]
