# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentences of an experiment: what was found, and what to do. Programs read its codes, never these texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .analysis import Advice, AdviceCode, Estimate, Verdict
from .decide import decisive
from .experiment import ArmRole, Contrast, Experiment, Family, Load, Question, Recommendation
from .roles import STEPS, split
from .statistics import next_analysis
from .wording import count, share

LEADS: Mapping[Recommendation, str] = {
    Recommendation.SET_THREADS: "Set the number of threads",
    Recommendation.PIN: "Give GPU pods exclusive CPUs",
    Recommendation.BOTH: "Set the number of threads, and give GPU pods exclusive CPUs",
    Recommendation.NEITHER: "Change nothing",
    Recommendation.PIN_IF_BUSY: "Give GPU pods exclusive CPUs where neighbours keep the CPUs busy",
    Recommendation.MEASURE_MORE: "Not decided yet",
    Recommendation.REPEAT: "Not a fair measurement",
}
_SUBJECTS: Mapping[Question, str] = {
    Question.THREADS: "setting the number of threads",
    Question.EXCLUSIVE: "having exclusive CPUs",
}
_REFERENCES: Mapping[ArmRole, str] = {ArmRole.TODAY: "today", ArmRole.THREADS: "the same threads on shared CPUs"}
_FAMILIES: Mapping[Family, str] = {
    Family.INPUT_PIPELINE: "where a loader feeds the GPU",
    Family.LAUNCH: "where launching kernels limits the step",
    Family.OTHER: "on cells that the GPU limits, more or less",
}
_LOADS: Mapping[Load, str] = {
    Load.SOLO: "on an otherwise idle node",
    Load.FULL: "on a full node",
    Load.BUSY: "with busy neighbours",
}


def sentence(experiment: Experiment) -> str:
    """What to do and how much it brings, in one line that needs no other."""
    why = experiment.invalid[0].text if experiment.invalid else effects(experiment)
    return f"{LEADS[experiment.recommendation]}: {why}"


def effects(experiment: Experiment) -> str:
    """How much the steps bring that the recommendation follows from. Only for a valid experiment."""
    told = [_effect(contrast) for contrast in _told(experiment)]
    if not told:
        return f"{', '.join(experiment.arms.values())} do not show which of the two remedies helps."
    about = _FAMILIES[experiment.contrasts[0].headline.family]
    text = f"{'; '.join(told)} ({about}, {count(experiment.rounds, 'round')})."
    if not experiment.interleaved:
        text += f" Measured before and after, so differences up to {share(experiment.margin)} do not count."
    return text


def _told(experiment: Experiment) -> list[Contrast]:
    """The contrasts that the recommendation follows from: those of the decisive load, and where loads disagree, all."""
    found = []
    for question in Question:
        own = {one.load: one for one in experiment.contrasts if one.question is question}
        verdicts = {load: one.headline.estimate.verdict for load, one in own.items()}
        if len(set(verdicts.values())) > 1:
            found += list(own.values())
        elif (load := decisive(verdicts)) is not None:
            found.append(own[load])
    return found


def _effect(contrast: Contrast) -> str:
    value, where = contrast.headline.estimate, _LOADS[contrast.load]
    return f"{where}, {_SUBJECTS[contrast.question]} {_said(value, _REFERENCES[STEPS[contrast.question][0]])}"


def _said(value: Estimate, reference: str) -> str:
    if value.low is None or value.high is None:
        few = f"{count(value.rounds, 'round')} without an interval"
        return f"may make it {value.ratio:.2f} times as fast as {reference} ({few})"
    span = f"[{value.low:.2f}, {value.high:.2f}]"
    if value.verdict is Verdict.BEATS:
        return f"makes it {value.ratio:.2f} times as fast as {reference} {span}"
    if value.verdict is Verdict.WORSE:
        turned = f"[{1 / value.high:.2f}, {1 / value.low:.2f}]"
        return f"makes it slower: a step takes {1 / value.ratio:.2f} times as long as with {reference} {turned}"
    if value.verdict is Verdict.EQUIVALENT:
        return f"brings nothing: at most {share(max(value.high - 1, 0.0))} against {reference}"
    return f"is not decided: {value.ratio:.2f} times as fast as {reference} {span}"


def advice(experiment: Experiment) -> Iterator[Advice]:
    """What to do, the most important first."""
    number = split(experiment.arms.get(ArmRole.THREADS, ""))[1]
    threads = f"OMP_NUM_THREADS={number}" if number else "OMP_NUM_THREADS to the CPU limit"
    recommendation = experiment.recommendation
    if recommendation in (Recommendation.SET_THREADS, Recommendation.BOTH):
        yield Advice(AdviceCode.SET_THREADS, f"Set {threads}, the CPU limit, in the GPU pods. The node stays as it is.")
    if recommendation in (Recommendation.PIN, Recommendation.BOTH):
        yield Advice(
            AdviceCode.PIN, "Use the CPU manager policy static, and request whole CPUs in pods of class Guaranteed."
        )
    if recommendation is Recommendation.PIN_IF_BUSY:
        yield Advice(
            AdviceCode.PIN_IF_BUSY,
            "Use the CPU manager policy static on nodes whose CPUs others keep busy, with whole CPUs in pods of class "
            f"Guaranteed.{f' Elsewhere, set {threads}.' if _threads_help(experiment) else ''}",
        )
    if recommendation is Recommendation.NEITHER:
        yield Advice(AdviceCode.NO_CHANGE, "Neither remedy brings anything here. Change only for another reason.")
    if recommendation is Recommendation.REPEAT:
        yield Advice(AdviceCode.REPEAT, "Do not act on these numbers: remove what differed, then measure again.")
        return
    if not experiment.is_precise:
        yield _more(experiment)
    if not experiment.interleaved:
        yield Advice(
            AdviceCode.MEASURE_ON_ONE_NODE,
            "Measure the contrast on one node without a switch of the kubelet (gpu_benchmark_contrast): its arms take "
            "turns, so what changes with time does not count.",
        )
    loads = {contrast.load for contrast in experiment.contrasts}
    if loads == {Load.SOLO} and Question.EXCLUSIVE in {contrast.question for contrast in experiment.contrasts}:
        yield Advice(
            AdviceCode.MEASURE_FULL_NODE,
            "Measure a full node too: on an idle one, pods without exclusive CPUs use those of others.",
        )


def _threads_help(experiment: Experiment) -> bool:
    found = [one.headline.estimate.verdict for one in experiment.contrasts if one.question is Question.THREADS]
    return Verdict.BEATS in found and Verdict.WORSE not in found


def _more(experiment: Experiment) -> Advice:
    missing = [role for role in ArmRole if role not in experiment.arms]
    if missing and not experiment.contrasts:
        names = {
            ArmRole.TODAY: "as it is today",
            ArmRole.THREADS: "with the number of threads set",
            ArmRole.EXCLUSIVE: "with exclusive CPUs",
        }
        text = f"Measure the node {names[missing[0]]} too: without that, nothing shows which remedy it is."
    elif experiment.expected_rounds is not None and experiment.expected_rounds > experiment.rounds:
        text = (
            f"Measure {experiment.expected_rounds} rounds: so many are expected to decide both questions within "
            f"{share(experiment.precision)}."
        )
    elif (following := next_analysis(experiment.rounds)) is not None:
        text = f"Continue measuring: the next analysis is after {following} rounds."
    else:
        text = (
            f"{experiment.rounds} rounds did not decide both questions within {share(experiment.precision)}: quiet the "
            f"machine, or accept a wider margin than {share(experiment.margin)}."
        )
    return Advice(AdviceCode.MEASURE_MORE, text)
