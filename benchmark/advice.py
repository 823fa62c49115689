# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do with a verdict, in sentences: the cheap remedy is named beside the thorough one."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.analysis import Cause, CauseCode, Factors
from benchmark.causes import Arm, Gap, cpu_limit, crowding, is_throttled, numa_nodes
from benchmark.compare import LOOKS, Comparison, Estimate, Verdict, ratio_text
from benchmark.factors import split
from benchmark.results import ResultSet

WORTHWHILE = 0.2
PINNED = ("static", "integer")


def advice(
    comparison: Comparison,
    causes: Sequence[Cause],
    gap: Gap | None,
    a: ResultSet,
    b: ResultSet,
    factors: Factors | None,
    extra: Estimate | None,
) -> list[str]:
    """`extra` is A's group with fixed threads over B: what B's placement adds to the thread count."""
    sentences = [_verdict(comparison)]
    if comparison.verdict is Verdict.INVALID:
        return sentences
    if gap is not None:
        sentences += _threads(comparison, gap, factors, extra)
    sentences += _quota(b, gap, comparison)
    if CauseCode.FREQUENCY in {cause.code for cause in causes}:
        sentences.append(
            "A part of the gap is the CPU's speed. On two machines set the same frequency governor and boost; on one machine "
            "see that no other work shares its cores. Then measure again."
        )
    gpu, nodes = b.environment.get("gpu_numa_node"), b.environment.get("cpu_numa_nodes")
    if isinstance(gpu, int) and gpu >= 0 and nodes is not None and numa_nodes(nodes) != {gpu}:
        sentences.append(
            f"CPUs of {comparison.label_b} are on NUMA node {nodes}, its GPU is at node {gpu}: keep both together with "
            f"Topology Manager (policy best-effort or single-numa-node)."
        )
    return sentences


def _verdict(comparison: Comparison) -> str:
    a, b, family = comparison.label_a, comparison.label_b, comparison.family
    decided = {
        Verdict.INVALID: "Do not act on these numbers: make the GPU side equal (card, clocks, heat), then measure again.",
        Verdict.BEATS: f"Take {b}: it is faster than {a} beyond the margin.",
        Verdict.WORSE: f"Keep {a}: {b} costs time. Undo the change if it is made.",
        Verdict.EQUIVALENT: f"Nothing is gained in speed: {a} and {b} are equal within {comparison.margin:.1%}. "
        f"Change only for another reason.",
    }
    if comparison.verdict in decided:
        return decided[comparison.verdict]
    if family is None:
        return "Measure again with cells that both sides can time."
    if family.low is None:
        return f"Measure at least {LOOKS[0]} rounds of fresh processes: without an interval no change is justified."
    later = next((look for look in LOOKS if look > family.rounds), None)
    if later is None:
        return f"{family.rounds} rounds did not decide: quiet the machine, or accept a wider margin than {comparison.margin:.1%}."
    return f"Measure on: the next look is at {later} rounds."


def _threads(comparison: Comparison, gap: Gap, factors: Factors | None, extra: Estimate | None) -> list[str]:
    """The cheap remedy, where it was measured to help; where the slower arm is crowded without that arm, how to measure."""
    crowded = crowding(gap.slow)
    share = factors.share_by_threads if factors is not None else None
    if share is None:
        if crowded is not None and gap.fixed is None:
            return [
                f"Measure {gap.slow.name} with OMP_NUM_THREADS={crowded[1]:.0f} too: it runs {crowded[0]} threads on "
                f"{crowded[1]:g} CPUs, and a thread count that fits may close a part of the gap without pinning."
            ]
        return []
    if share < WORTHWHILE:
        return [f"OMP_NUM_THREADS is no substitute here: the thread count closes {max(share, 0):.0%} of the gap."]
    limit = cpu_limit(gap.fixed) if gap.fixed is not None else None
    number = f"={limit:.0f}" if limit is not None else ""
    sentences = [
        f"The cheap remedy: set OMP_NUM_THREADS{number}, the CPU limit, in pods that cannot be pinned: "
        f"it closes {min(share, 1):.0%} of the gap without touching the node."
    ]
    if extra is not None:
        sentences.append(_extra(comparison, extra))
    return sentences


def _extra(comparison: Comparison, extra: Estimate) -> str:
    b = comparison.label_b
    ratio = ratio_text(extra)
    return {
        Verdict.BEATS: f"{b} gains {ratio} on top of the thread count: that is pinning's own part.",
        Verdict.EQUIVALENT: f"On top of the thread count {b} gains nothing ({ratio}): the thread count alone does it.",
        Verdict.WORSE: f"{b} is slower than the thread count alone ({ratio}): prefer that.",
    }.get(extra.verdict, f"What {b} gains on top of the thread count is not decided ({ratio}).")


def _quota(b: ResultSet, gap: Gap | None, comparison: Comparison) -> list[str]:
    """A quota that stayed on pinned CPUs. Kubernetes below 1.33 keeps it (kubernetes/kubernetes pull request 127525)."""
    quota, allowed = b.environment.get("quota_cpus"), b.environment.get("cpus_allowed")
    if not isinstance(quota, int | float):
        return []
    exclusive = isinstance(allowed, int | float) and allowed <= quota and b.environment.get("policy") == "static"
    if not exclusive and split(b.arm)[0] not in PINNED:
        return []
    sentence = (
        f"{comparison.label_b} still has a CFS quota of {quota:g} CPUs: Kubernetes below 1.33 keeps it under the static "
        f"policy, later versions drop it (DisableCPUQuotaWithExclusiveCPUs)."
    )
    arms: list[Arm] = [arm for arm in (gap.slow, gap.fast) if arm.name == b.label] if gap is not None else []
    if arms and is_throttled(arms[0]):
        throttled, periods = arms[0].rate("throttled_periods"), arms[0].rate("periods")
        how_often = f" in {throttled:.0f} of {periods:.0f} CFS periods" if throttled is not None and periods else ""
        sentence += f" It was throttled{how_often} all the same: set OMP_NUM_THREADS to the CPU limit there too."
    return [sentence]
