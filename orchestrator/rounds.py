# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of a benchmark: when to analyse them, their interim result, and the time left. Pure, except `estimate`."""

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


def adds_rounds(verb: str, variables: Mapping[str, Any]) -> bool:
    """Whether rounds are added until there is a verdict. That needs a contrast: two interleaved arms."""
    return verb == "benchmark" and str(variables.get(CONTRAST, "")).lower() in ("true", "yes", "1", "on")


def interim_analyses(variables: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of rounds after which to analyse; `gpu_benchmark_rounds` limits them."""
    most = int(variables.get(ROUNDS, INTERIM_ANALYSES[-1]))
    return (*(rounds for rounds in INTERIM_ANALYSES if rounds < most), most)


def undecided(hosts: Sequence[HostResult]) -> tuple[str, ...]:
    """The hosts that more rounds may decide: UNDECIDED, and measured without problems."""
    found = []
    for host in hosts:
        problems = host.fact("kubepin_benchmark").get("problems")
        if host.fact("kubepin_comparison").get("verdict") == Verdict.UNDECIDED and not problems:
            found.append(host.host)
    return tuple(found)


@dataclass(frozen=True)
class InterimEstimate:
    """The time of the fractional arm divided by that of the integer arm. Without an interval before the first analysis."""

    ratio: float
    low: float | None
    high: float | None
    rounds: int
    verdict: str


def estimate(folder: Path) -> InterimEstimate | None:
    """The estimate from the timings in a folder; None until both arms share a round, or if timings are unusable."""
    try:
        arms = read_arms([folder])
        a, b = [next(results for name, results in arms.items() if name.rpartition("-")[0] == group) for group in GROUPS]
        family = compare(a, b).family
    except (InputError, OSError, StopIteration, ArithmeticError, ValueError, RecursionError):
        return None
    if family is None:
        return None
    return InterimEstimate(family.ratio, family.low, family.high, family.rounds, str(family.verdict))


def seconds_left(
    pods: Mapping[str, Sequence[float]], measured: Mapping[str, int], rounds: int, arms: int = len(GROUPS)
) -> float | None:
    """The predicted seconds until all hosts, which measure in parallel, have measured their rounds.

    :param pods: host to the seconds of each pod of this attempt
    :param measured: host to the number of pods measured so far, earlier attempts included
    :returns: None until the first pod has finished
    """
    known = [seconds for own in pods.values() for seconds in own]
    if not known:
        return None
    return max(
        (max(rounds * arms - measured[host], 0) * fmean(own or known) for host, own in pods.items()), default=0.0
    )
