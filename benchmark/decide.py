# SPDX-License-Identifier: GPL-3.0-or-later
"""From verdicts to a recommendation. Pure; it knows no numbers.

The step to threads is THREADS against TODAY, the step to exclusive CPUs EXCLUSIVE against THREADS, and the whole way
EXCLUSIVE against TODAY. A step is taken if it is faster in the decisive load, and slower in no measured load. The
decisive load is the full node, or one tenant if no full node was measured. Exclusive CPUs that are faster only where
neighbours are busy, or only on a full node, are recommended for there. If neither step was measured, the whole way is
recommended if it is faster, and advised against if it is slower.
"""

from __future__ import annotations

from collections.abc import Mapping

from .analysis import Verdict
from .experiment import DECISIVE, Load, Recommendation

Verdicts = Mapping[Load, Verdict]
"""The verdict on a step under each load in which it was measured."""
CROWDED = (Load.BUSY, Load.FULL)

_WHOLE: Mapping[Verdict | None, Recommendation] = {
    Verdict.BEATS: Recommendation.CHANGE,
    Verdict.WORSE: Recommendation.KEEP,
    Verdict.EQUIVALENT: Recommendation.NEITHER,
}


def recommend(threads: Verdicts, exclusive: Verdicts, whole: Verdicts) -> Recommendation:
    """What to do, by the verdicts on both steps and on the whole way, which is also that from one side to another."""
    first, second = _step(threads), _step(exclusive)
    if first is None and second is None:
        return _WHOLE.get(_step(whole), Recommendation.MEASURE_MORE)
    if second is Verdict.BEATS:
        return _pinned(first, whole)
    if first is not Verdict.UNDECIDED and pays_where_busy(exclusive, whole):
        return Recommendation.PIN_IF_BUSY
    if first is Verdict.BEATS:
        return Recommendation.SET_THREADS
    if Verdict.UNDECIDED in (first, second):
        return Recommendation.MEASURE_MORE
    return Recommendation.NEITHER


def _pinned(first: Verdict | None, whole: Verdicts) -> Recommendation:
    """Exclusive CPUs are faster than the number of threads. Where that is slower than today, the whole way decides."""
    if first is Verdict.BEATS:
        return Recommendation.BOTH if Verdict.WORSE not in whole.values() else Recommendation.MEASURE_MORE
    together = _step(whole)
    if together is Verdict.BEATS or (first in (None, Verdict.EQUIVALENT) and together in (None, Verdict.EQUIVALENT)):
        return Recommendation.PIN
    if together is Verdict.UNDECIDED or first is Verdict.UNDECIDED:
        return Recommendation.MEASURE_MORE
    return Recommendation.NEITHER


def pays_where_busy(exclusive: Verdicts, whole: Verdicts) -> bool:
    """Whether exclusive CPUs are faster under a crowded load, and slower under none that is more crowded."""
    return busy_load(exclusive, whole) is not None


def busy_load(exclusive: Verdicts, whole: Verdicts) -> Load | None:
    """The most crowded load that was measured, if exclusive CPUs are faster under it."""
    load = next((load for load in CROWDED if load in exclusive), None)
    if load is None or exclusive[load] is not Verdict.BEATS or whole.get(load) is Verdict.WORSE:
        return None
    return load


def decisive(verdicts: Verdicts) -> Load | None:
    """The load that decides on a step: the full node, else one tenant, else busy neighbours."""
    return next((load for load in DECISIVE if load in verdicts), None)


def _step(verdicts: Verdicts) -> Verdict | None:
    """The verdict on a step over all loads; None if it was not measured. One load in which it is slower is enough."""
    load = decisive(verdicts)
    if load is None:
        return None
    return Verdict.WORSE if Verdict.WORSE in verdicts.values() else verdicts[load]
