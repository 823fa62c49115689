# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do, from the recommendation, the causes and the environments. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from . import terms
from .analysis import Advice, AdviceCode, CauseCode, Verdict
from .causes import THROTTLED_PERIODS, numa_nodes
from .experiment import ArmRole, Experiment, Load, Question, Recommendation
from .figures import share
from .pod.words import count
from .roles import cpu_count, number, split
from .sentences import is_whole
from .statistics import next_analysis


def advice(experiment: Experiment) -> Iterator[Advice]:
    """What to do, the most important first."""
    fixed = split(experiment.arms.get(ArmRole.THREADS, ""))[1]
    threads = f"OMP_NUM_THREADS={fixed}" if fixed else "OMP_NUM_THREADS to the CPU limit"
    recommendation = experiment.recommendation
    if recommendation is Recommendation.REPEAT:
        yield Advice(AdviceCode.REPEAT, "Do not act on these numbers: remove what differed, then measure again.")
        return
    if recommendation in (Recommendation.SET_THREADS, Recommendation.BOTH):
        yield Advice(AdviceCode.SET_THREADS, f"Set {threads}, the CPU limit, in the GPU pods. The node stays as it is.")
    if recommendation in (Recommendation.PIN, Recommendation.BOTH):
        yield Advice(AdviceCode.PIN, _PIN)
    if recommendation is Recommendation.PIN_IF_BUSY:
        yield Advice(
            AdviceCode.PIN_IF_BUSY,
            "Use the CPU manager policy static on nodes whose CPUs others keep busy, with whole CPUs in pods of class "
            f"Guaranteed.{f' Elsewhere, set {threads}.' if _threads_help(experiment) else ''}",
        )
    if recommendation in (Recommendation.CHANGE, Recommendation.KEEP):
        yield _whole(experiment)
    if recommendation is Recommendation.NEITHER:
        yield Advice(AdviceCode.NO_CHANGE, _SWITCH_NEUTRAL if experiment.is_switch else _NO_CHANGE)
    if is_whole(experiment):
        yield Advice(AdviceCode.MEASURE_STEPS, _MEASURE_STEPS)
    if recommendation is Recommendation.MEASURE_MORE or (experiment.interleaved and not experiment.is_precise):
        yield _more(experiment)
    is_final = experiment.is_switch or recommendation is Recommendation.MEASURE_MORE
    if not experiment.interleaved and not is_final and experiment.asked is not Question.SIDES:
        yield Advice(
            AdviceCode.MEASURE_ON_ONE_NODE,
            "Measure the contrast on one node without a switch of the kubelet (benchmark-gpu-nodes.yml): its arms take "
            "turns, so what changes with time does not count.",
        )
    loads = {contrast.load for contrast in experiment.contrasts}
    if loads == {Load.SOLO} and Question.EXCLUSIVE in experiment.questions:
        yield Advice(
            AdviceCode.MEASURE_FULL_NODE,
            "Measure a full node too: on an idle one, pods without exclusive CPUs use those of others.",
        )

    yield from _environment(experiment)


_NO_CHANGE = "This brings nothing here. Change only for another reason."
_SWITCH_NEUTRAL = (
    "For this work it does not matter whether the switch stays. To take it back: rollback-gpu-nodes.yml "
    "(kubepin rollback)."
)
_MEASURE_STEPS = (
    "Measure what part of it is the number of threads, which needs no exclusive CPUs: benchmark-gpu-nodes.yml "
    "(kubepin benchmark)."
)
_PIN = "Use the CPU manager policy static, and request whole CPUs in pods of class Guaranteed."


def _whole(experiment: Experiment) -> Advice:
    """Take the other side or keep the first one; of the whole way, with the words of what was measured."""
    is_better = experiment.recommendation is Recommendation.CHANGE
    if experiment.asked is Question.SIDES:
        a, b = experiment.arms[ArmRole.A], experiment.arms[ArmRole.B]
        text = (
            f"Take {b}: it is faster."
            if is_better
            else f"Keep {a}: {b} is slower. Undo the change if it is made already."
        )
    elif experiment.is_switch and is_better:
        text = "Keep the switch, and request whole CPUs in GPU pods of class Guaranteed."
    elif experiment.is_switch:
        text = "Undo the switch with rollback-gpu-nodes.yml (kubepin rollback): this work is slower with it."
    else:
        text = _PIN if is_better else "Do not give these pods exclusive CPUs."
    return Advice(AdviceCode.TAKE_B if is_better else AdviceCode.KEEP_A, text)


def _environment(experiment: Experiment) -> Iterator[Advice]:
    """What the causes and the environment of the last arm ask for besides."""
    causes = {cause.code: cause for contrast in experiment.contrasts for cause in contrast.causes}
    crowded = causes.get(CauseCode.OVERSUBSCRIPTION)
    if crowded is not None and crowded.share is None and experiment.asked is Question.SIDES:
        yield Advice(
            AdviceCode.MEASURE_FIXED_THREADS,
            f"Measure it with OMP_NUM_THREADS set to the CPU limit too ({crowded.text}): a fitting number of threads may "
            "close part of the gap without exclusive CPUs.",
        )
    yield from _quota(experiment)
    if CauseCode.FREQUENCY in causes:
        yield Advice(
            AdviceCode.ALIGN_CPU_SPEED,
            "Part of the gap is CPU speed. On two machines, set the same frequency governor and boost. On one machine, "
            "make sure that no other work shares its cores. Then measure again.",
        )
    last = experiment.ends[1]
    environment = experiment.environments.get(last, {})
    gpu, nodes = number(environment, "gpu_numa_node"), environment.get("cpu_numa_nodes")
    if gpu is not None and gpu >= 0 and nodes is not None and numa_nodes(nodes) != {int(gpu)}:
        yield Advice(
            AdviceCode.ALIGN_NUMA,
            f"{_start(experiment, last)}, the CPUs are on NUMA node {nodes} and the GPU is at node {gpu:.0f}: keep them "
            "together with Topology Manager (policy best-effort or single-numa-node).",
        )


def _quota(experiment: Experiment) -> Iterator[Advice]:
    """A quota that stayed on exclusive CPUs. Kubernetes below 1.33 keeps it (pull request 127525 of Kubernetes)."""
    last = experiment.ends[1]
    environment = experiment.environments.get(last, {})
    quota, cpus = number(environment, "quota_cpus"), cpu_count(environment)
    own_cpus = cpus is not None and quota is not None and cpus <= quota and environment.get("policy") == "static"
    if quota is None or not (own_cpus or last is ArmRole.EXCLUSIVE):
        return
    text = (
        f"{_start(experiment, last)}, there still is a CFS quota of {count(quota, 'CPU')}: Kubernetes below 1.33 keeps it under "
        "the static policy, later versions drop it (DisableCPUQuotaWithExclusiveCPUs)."
    )
    rates = [cell.b.rates for contrast in experiment.contrasts[:1] for cell in contrast.cells if cell.b is not None]
    periods, throttled = (math.fsum(own.get(key, 0.0) for own in rates) for key in ("periods", "throttled_periods"))
    if periods and throttled > THROTTLED_PERIODS * periods:
        text += (
            f" The pod was still throttled in {throttled:.0f} of {count(round(periods), 'CFS period')}: set OMP_NUM_THREADS to the CPU "
            "limit there too."
        )
    yield Advice(AdviceCode.QUOTA_REMAINS, text)


def _start(experiment: Experiment, role: ArmRole) -> str:
    """Where something was measured, at the start of a sentence."""
    where = terms.arm(role, experiment.arms).where
    return where[0].upper() + where[1:]


def _threads_help(experiment: Experiment) -> bool:
    found = [one.headline.estimate.verdict for one in experiment.contrasts if one.question is Question.THREADS]
    return Verdict.BEATS in found and Verdict.WORSE not in found


def _more(experiment: Experiment) -> Advice:
    if not experiment.contrasts:
        text = "Measure again with cells that all arms can time."
    elif not experiment.interleaved and experiment.asked is not Question.SIDES:
        text = (
            "Compare both on the switched node, in turns, with benchmark-gpu-nodes.yml (kubepin benchmark): what was "
            "measured before a switch cannot be continued after it."
        )
    elif experiment.expected_rounds is not None and experiment.expected_rounds > experiment.rounds:
        text = (
            f"Measure {experiment.expected_rounds} rounds: so many are expected to decide this within "
            f"{share(experiment.precision)}."
        )
    elif (following := next_analysis(experiment.rounds)) is not None:
        text = f"Continue measuring: the next analysis is after {following} rounds."
    else:
        text = (
            f"{experiment.rounds} rounds did not decide this within {share(experiment.precision)}: quiet the "
            f"machine, or accept a wider margin than {share(experiment.margin)}."
        )
    return Advice(AdviceCode.MEASURE_MORE, text)
