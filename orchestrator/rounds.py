# SPDX-License-Identifier: GPL-3.0-or-later
"""When rounds of a benchmark are enough, what they say so far, and how long the rest will take. Pure but for `estimate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark.analysis import Verdict
from benchmark.compare import INTERIM_ANALYSES, compare
from benchmark.readers import read_arms
from benchmark.results import InputError
from orchestrator.model import HostResult

ROUNDS, CONTRAST = "gpu_benchmark_rounds", "gpu_benchmark_contrast"
GROUPS = ("fractional", "integer")


def is_conducted(verb: str, variables: Mapping[str, Any]) -> bool:
    """Whether rounds are added until the verdict stands: two arms are measured side by side, interleaved."""
    return verb == "benchmark" and str(variables.get(CONTRAST, "")).lower() in ("true", "yes", "1", "on")


def looks(variables: Mapping[str, Any]) -> tuple[int, ...]:
    """After how many rounds the verdict is looked at; with a number of rounds asked for, no more than these."""
    most = int(variables.get(ROUNDS, INTERIM_ANALYSES[-1]))
    return (*(analysis for analysis in INTERIM_ANALYSES if analysis < most), most)


def undecided(hosts: Sequence[HostResult]) -> tuple[str, ...]:
    """The hosts for which more rounds may decide: measured without a problem, and UNDECIDED."""
    found = []
    for host in hosts:
        comparison: Mapping[str, Any] = host.facts.get("kubepin_comparison") or {}
        problems = (host.facts.get("kubepin_benchmark") or {}).get("problems")
        if comparison.get("verdict") == Verdict.UNDECIDED and not problems:
            found.append(host.host)
    return tuple(found)


@dataclass(frozen=True)
class Estimate:
    """Time of the fractional arm over that of the integer one, so far; the interval is there from the first look on."""

    ratio: float
    low: float | None
    high: float | None
    rounds: int
    verdict: str


def estimate(folder: Path) -> Estimate | None:
    """What the timings in a folder say so far; None before both arms have a round in common."""
    try:
        arms = read_arms([folder])
        a, b = [next(results for name, results in arms.items() if name.rpartition("-")[0] == group) for group in GROUPS]
        family = compare(a, b).family
    except (InputError, StopIteration, ValueError):
        return None
    if family is None:
        return None
    return Estimate(family.ratio, family.low, family.high, family.rounds, str(family.verdict))


def seconds_left(
    pods: Mapping[str, Sequence[float]], measured: Mapping[str, int], rounds: int, arms: int = len(GROUPS)
) -> float | None:
    """Predicted seconds until each host has measured its rounds; hosts measure at the same time.

    :param pods: host to the seconds of each pod of this attempt
    :param measured: host to the number of pods measured so far, those of earlier attempts among them
    :returns: None before the first pod of any host has ended
    """
    known = [seconds for own in pods.values() for seconds in own]
    if not known:
        return None
    return max(
        (max(rounds * arms - measured[host], 0) * fmean(own or known) for host, own in pods.items()), default=0.0
    )
