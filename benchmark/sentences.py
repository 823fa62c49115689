# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentences of an experiment: what was found, and what to do. Programs read its codes, never these texts."""

from __future__ import annotations

from collections.abc import Iterator

from . import terms
from .analysis import Advice, AdviceCode, Verdict
from .decide import decisive
from .experiment import ArmRole, Contrast, Experiment, Load, Question, Recommendation
from .figures import count, share
from .roles import COMPARED, STEPS, split
from .statistics import next_analysis


def sentence(experiment: Experiment) -> str:
    """What to do and how much it brings, in one line that needs no other."""
    why = experiment.invalid[0].text if experiment.invalid else effects(experiment)
    return f"{lead(experiment)}: {why}"


def lead(experiment: Experiment) -> str:
    """What to do, in a few words."""
    own = terms.SWITCH_LEADS if _is_switch(experiment) else {}
    return own.get(experiment.recommendation, terms.LEADS[experiment.recommendation])


def _is_switch(experiment: Experiment) -> bool:
    """Whether it says nothing but what a switch of the kubelet did to its node."""
    return experiment.questions == (Question.WHOLE,) and not experiment.interleaved


def effects(experiment: Experiment) -> str:
    """How much the steps bring that the recommendation follows from. Only for a valid experiment."""
    found = answers(experiment)
    if not found:
        return f"{', '.join(experiment.arms.values())} do not show which of the two remedies helps."
    about = terms.FAMILIES[found[0].headline.family].where
    said = "; ".join(_effect(experiment, contrast) for contrast in found)
    text = f"{said} ({about}, {count(experiment.rounds, 'round')})."
    if experiment.recommendation in (Recommendation.CHANGE, Recommendation.KEEP):
        text += f" {_STEPS}"
    if not experiment.interleaved:
        text += f" Measured before and after, so differences up to {share(experiment.margin)} do not count."
    return text


def answers(experiment: Experiment) -> list[Contrast]:
    """The contrasts that the recommendation follows from: those of the decisive load, and where loads disagree, all."""
    found = []
    for question in experiment.questions if len(experiment.questions) == 1 else STEPS:
        own = {one.load: one for one in experiment.contrasts if one.question is question}
        verdicts = {load: one.headline.estimate.verdict for load, one in own.items()}
        if len(set(verdicts.values())) > 1:
            found += list(own.values())
        elif (load := decisive(verdicts)) is not None:
            found.append(own[load])
    return found


def _effect(experiment: Experiment, contrast: Contrast) -> str:
    where = terms.LOADS[contrast.load].where
    doing = "the switch" if _is_switch(experiment) else terms.QUESTIONS[contrast.question].doing
    reference = terms.ARMS[COMPARED[contrast.question][0]].compared
    return f"{where}, {terms.effect(contrast.headline.estimate, doing, reference)}"


def advice(experiment: Experiment) -> Iterator[Advice]:
    """What to do, the most important first."""
    number = split(experiment.arms.get(ArmRole.THREADS, ""))[1]
    threads = f"OMP_NUM_THREADS={number}" if number else "OMP_NUM_THREADS to the CPU limit"
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
    if recommendation is Recommendation.CHANGE:
        yield _keep_switch() if _is_switch(experiment) else Advice(AdviceCode.PIN, _PIN)
    if recommendation is Recommendation.KEEP:
        yield Advice(AdviceCode.KEEP_A, _UNDO if _is_switch(experiment) else "Do not give these pods exclusive CPUs.")
    if recommendation is Recommendation.NEITHER:
        yield Advice(AdviceCode.NO_CHANGE, "This brings nothing here. Change only for another reason.")
    if recommendation in (Recommendation.CHANGE, Recommendation.KEEP):
        yield Advice(AdviceCode.MEASURE_STEPS, _STEPS)
    if recommendation is Recommendation.MEASURE_MORE or (experiment.interleaved and not experiment.is_precise):
        yield _more(experiment)
    if not experiment.interleaved and not _is_switch(experiment):
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


_PIN = "Use the CPU manager policy static, and request whole CPUs in pods of class Guaranteed."
_UNDO = "Take the switch back with rollback-gpu-nodes.yml: this work is slower with it."
_STEPS = (
    "What part of it is the number of threads and what part exclusive CPUs was not measured: run "
    "benchmark-gpu-nodes.yml."
)


def _keep_switch() -> Advice:
    return Advice(AdviceCode.TAKE_B, "Keep the switch, and request whole CPUs in GPU pods of class Guaranteed.")


def _threads_help(experiment: Experiment) -> bool:
    found = [one.headline.estimate.verdict for one in experiment.contrasts if one.question is Question.THREADS]
    return Verdict.BEATS in found and Verdict.WORSE not in found


def _more(experiment: Experiment) -> Advice:
    missing = [role for role in ArmRole if role not in experiment.arms]
    if missing and not experiment.contrasts:
        text = f"Measure {terms.ARMS[missing[0]].short} too: without that, nothing shows which remedy it is."
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
