# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do with a verdict: the cheap remedy next to the thorough one."""

from __future__ import annotations

from collections.abc import Sequence

from . import wording
from .analysis import Advice, AdviceCode, Cause, CauseCode, Comparison, Estimate, Factors, Gap, Verdict
from .causes import crowding, is_throttled, numa_nodes
from .results import ResultSet
from .roles import PINNED, cpu_limit, split
from .statistics import INTERIM_ANALYSES, next_analysis

WORTHWHILE = 0.2


def advice(
    comparison: Comparison,
    causes: Sequence[Cause],
    gap: Gap | None,
    a: ResultSet,
    b: ResultSet,
    factors: Factors | None,
    extra: Estimate | None,
) -> list[Advice]:
    """What to do, the most important first.

    :param gap: of the family, None if it was not timed on both sides
    :param extra: A's group with fixed threads over B: what B's placement adds to the number of threads
    """
    threads_win = extra is not None and extra.verdict is Verdict.WORSE
    found = [] if comparison.verdict is Verdict.BEATS and threads_win else [_verdict(comparison)]
    if comparison.verdict is Verdict.INVALID:
        return found
    if not comparison.interleaved and comparison.family is not None and comparison.family.low is not None:
        found.append(wording.advice(AdviceCode.MEASURE_ON_ONE_NODE))
    if gap is not None:
        found += _threads(comparison, gap, factors, extra)
    found += _quota(b, gap, comparison)
    if CauseCode.FREQUENCY in {cause.code for cause in causes}:
        found.append(wording.advice(AdviceCode.ALIGN_CPU_SPEED))
    gpu, nodes = b.environment.get("gpu_numa_node"), b.environment.get("cpu_numa_nodes")
    if isinstance(gpu, int) and gpu >= 0 and nodes is not None and numa_nodes(nodes) != {gpu}:
        found.append(wording.advice(AdviceCode.ALIGN_NUMA, b=comparison.label_b, nodes=nodes, gpu=gpu))
    return found


def _verdict(comparison: Comparison) -> Advice:
    code = {
        Verdict.INVALID: AdviceCode.REPEAT,
        Verdict.BEATS: AdviceCode.TAKE_B,
        Verdict.WORSE: AdviceCode.KEEP_A,
        Verdict.EQUIVALENT: AdviceCode.NO_CHANGE,
    }.get(comparison.verdict)
    if code is not None:
        return wording.advice(code, a=comparison.label_a, b=comparison.label_b, margin=comparison.margin)
    rounds = comparison.family.rounds if comparison.family else 0
    return wording.measure_more(comparison, INTERIM_ANALYSES[0], next_analysis(rounds))


def _threads(comparison: Comparison, gap: Gap, factors: Factors | None, extra: Estimate | None) -> list[Advice]:
    """The number of threads if it was measured to help; without such an arm, how to measure it."""
    crowded = crowding(gap.slow)
    share = factors.share_by_threads if factors is not None else None
    if share is None:
        if crowded is None or gap.fixed is not None:
            return []
        threads, limit = crowded
        return [wording.advice(AdviceCode.MEASURE_FIXED_THREADS, slow=gap.slow.name, threads=threads, limit=limit)]
    if share < WORTHWHILE:
        return [wording.advice(AdviceCode.THREADS_DO_NOT_HELP, part=max(share, 0))]
    fixed_limit = cpu_limit(gap.fixed.environment) if gap.fixed is not None else None
    number = f"={fixed_limit:.0f}" if fixed_limit is not None else ""
    found = [wording.advice(AdviceCode.SET_THREADS, number=number, part=min(share, 1))]
    if extra is not None:
        found.append(wording.beyond_threads(comparison.label_b, extra))
    return found


def _quota(b: ResultSet, gap: Gap | None, comparison: Comparison) -> list[Advice]:
    """A quota that stayed on pinned CPUs. Kubernetes below 1.33 keeps it (pull request 127525 of Kubernetes)."""
    quota, allowed = b.environment.get("quota_cpus"), b.environment.get("cpus_allowed")
    if not isinstance(quota, int | float):
        return []
    exclusive = isinstance(allowed, int | float) and allowed <= quota and b.environment.get("policy") == "static"
    if not exclusive and split(b.arm)[0] not in PINNED:
        return []
    arms = (gap.slow, gap.fast) if gap is not None else ()
    throttled = next((arm for arm in arms if arm.name == b.label and is_throttled(arm)), None)
    return [wording.quota_remains(comparison.label_b, quota, throttled)]
