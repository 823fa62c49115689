# SPDX-License-Identifier: GPL-3.0-or-later
"""The recommendation, over all combinations of verdicts: it never names what the data show to be slower."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from benchmark.analysis import Verdict
from benchmark.decide import Verdicts, busy_load, decisive, recommend
from benchmark.experiment import Load, Recommendation

B, W, E, U = Verdict.BEATS, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.UNDECIDED
DECIDED = (B, W, E, U)
S, F, N = Load.SOLO, Load.FULL, Load.BUSY


def one(verdict: Verdict | None) -> Verdicts:
    return {} if verdict is None else {S: verdict}


@pytest.mark.parametrize(
    ("threads", "exclusive", "whole", "expected"),
    [
        (B, B, B, Recommendation.BOTH),
        (B, W, B, Recommendation.SET_THREADS),
        (B, E, B, Recommendation.SET_THREADS),
        (B, U, B, Recommendation.SET_THREADS),
        (B, None, None, Recommendation.SET_THREADS),
        (E, B, B, Recommendation.PIN),
        (W, B, B, Recommendation.PIN),
        (W, B, E, Recommendation.NEITHER),
        (W, B, W, Recommendation.NEITHER),
        (W, B, U, Recommendation.MEASURE_MORE),
        (U, B, B, Recommendation.PIN),
        (U, B, U, Recommendation.MEASURE_MORE),
        (None, B, None, Recommendation.PIN),
        (E, E, E, Recommendation.NEITHER),
        (W, W, W, Recommendation.NEITHER),
        (E, W, W, Recommendation.NEITHER),
        (E, U, U, Recommendation.MEASURE_MORE),
        (U, E, U, Recommendation.MEASURE_MORE),
        (U, U, U, Recommendation.MEASURE_MORE),
        (None, None, B, Recommendation.CHANGE),
        (None, None, W, Recommendation.KEEP),
        (None, None, E, Recommendation.NEITHER),
        (None, None, U, Recommendation.MEASURE_MORE),
        (None, None, None, Recommendation.MEASURE_MORE),
        (None, E, None, Recommendation.NEITHER),
    ],
)
def test_one_tenant(
    threads: Verdict | None, exclusive: Verdict | None, whole: Verdict | None, expected: Recommendation
) -> None:
    assert recommend(one(threads), one(exclusive), one(whole)) is expected


@pytest.mark.parametrize(
    ("exclusive", "expected"),
    [
        pytest.param({S: W, F: B, N: B}, Recommendation.PIN_IF_BUSY, id="slower-alone-faster-on-a-full-node"),
        pytest.param({S: W, F: E, N: B}, Recommendation.PIN_IF_BUSY, id="faster-with-busy-neighbours-only"),
        pytest.param({S: W, F: B}, Recommendation.PIN_IF_BUSY, id="busy-neighbours-not-measured"),
        pytest.param({S: E, F: B, N: B}, Recommendation.BOTH, id="no-harm-alone"),
        pytest.param({S: B, F: E, N: E}, Recommendation.SET_THREADS, id="faster-alone-only"),
        pytest.param({S: B, F: W, N: W}, Recommendation.SET_THREADS, id="slower-on-a-full-node"),
        pytest.param({S: B, F: B, N: W}, Recommendation.SET_THREADS, id="slower-with-busy-neighbours"),
    ],
)
def test_loads_that_disagree(exclusive: Verdicts, expected: Recommendation) -> None:
    threads = dict.fromkeys(exclusive, B)
    assert recommend(threads, exclusive, dict.fromkeys(exclusive, B)) is expected


def test_the_full_node_decides() -> None:
    assert decisive({S: B, F: E, N: W}) is F
    assert decisive({S: B, N: W}) is S
    assert decisive({}) is None


def every_measurement() -> Iterator[tuple[Verdicts, Verdicts, Verdicts]]:
    """All verdicts on both steps and the whole way, with one tenant, with a full node, and with busy neighbours too."""
    for verdicts in product((None, *DECIDED), repeat=3):
        yield tuple(one(verdict) for verdict in verdicts)  # type: ignore[misc]
    for loads in ((S, F), (S, F, N)):
        for threads in product(DECIDED, repeat=len(loads)):
            for exclusive in product(DECIDED, repeat=len(loads)):
                for whole in product((B, W, E) if len(loads) == 3 else DECIDED, repeat=len(loads)):
                    yield dict(zip(loads, threads)), dict(zip(loads, exclusive)), dict(zip(loads, whole))


def test_what_is_slower_is_never_recommended() -> None:
    seen = set()
    for threads, exclusive, whole in every_measurement():
        found = recommend(threads, exclusive, whole)
        seen.add(found)
        if found in (Recommendation.SET_THREADS, Recommendation.BOTH):
            assert W not in threads.values()
        if found in (Recommendation.PIN, Recommendation.BOTH):
            assert W not in exclusive.values()
            assert W not in whole.values()
        if found is Recommendation.PIN_IF_BUSY:
            load = busy_load(exclusive, whole)
            assert load is not None
            assert exclusive[load] is B
            assert whole.get(load) is not W
        if found is Recommendation.CHANGE:
            assert W not in whole.values()
    assert seen == set(Recommendation) - {Recommendation.REPEAT}


def test_nothing_is_recommended_that_no_load_shows_to_be_faster() -> None:
    for threads, exclusive, whole in every_measurement():
        found = recommend(threads, exclusive, whole)
        if found in (Recommendation.SET_THREADS, Recommendation.BOTH):
            assert B in threads.values()
        if found in (Recommendation.PIN, Recommendation.BOTH, Recommendation.PIN_IF_BUSY):
            assert B in exclusive.values()
        if found is Recommendation.CHANGE:
            assert B in whole.values()
