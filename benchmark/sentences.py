# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentences of an experiment: what was found. Programs read its codes, never these texts."""

from __future__ import annotations

from collections.abc import Sequence

from . import terms
from .decide import decisive
from .experiment import Contrast, Experiment, Load, Question, Recommendation
from .pod.words import count
from .roles import COMPARED, STEPS


def sentence(experiment: Experiment) -> str:
    """What to do, and how much it brings under each load, in one line that needs no other."""
    lead = terms.lead(experiment)
    return f"{lead}: {experiment.invalid[0].text}" if experiment.invalid else f"{lead}. {effects(experiment)}"


def effects(experiment: Experiment) -> str:
    """How much the steps bring that the recommendation follows from. Only for a valid experiment."""
    found = answers(experiment)
    if not found:
        arms = ", ".join(terms.arm(role, experiment.arms).name for role in experiment.arms)
        return f"No cell was timed in every arm: {arms}."
    by_load = {load: [one for one in found if one.load is load] for load in Load}
    said = [_under(experiment, load, contrasts) for load, contrasts in by_load.items() if contrasts]
    said.append(f"{count(experiment.rounds, 'round')} where {terms.FAMILIES[found[0].headline.family].clause}.")
    if is_whole(experiment):
        said.append(PARTS_UNKNOWN)
    if not experiment.interleaved and any(contrast.headline.estimate.low is not None for contrast in found):
        said.append(NOT_IN_TURNS)
    return " ".join(said)


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


def _under(experiment: Experiment, load: Load, contrasts: Sequence[Contrast]) -> str:
    """What was found under a load, a short clause for each contrast."""
    said = "; ".join(_effect(experiment, contrast) for contrast in contrasts)
    if load is Load.SOLO and experiment.questions == (Question.SIDES,):
        return f"{said}."
    return f"{terms.LOADS[load].short}: {said}."


def _effect(experiment: Experiment, contrast: Contrast) -> str:
    before, after = (terms.arm(role, experiment.arms).short for role in COMPARED[contrast.question])
    if contrast.question is Question.SIDES:
        after = f"{after}:"
    elif experiment.is_switch:
        before, after = "before", ""
    return terms.effect(contrast.headline.estimate, after, before)


PARTS_UNKNOWN = "How much of it the number of threads alone brings was not measured."
NOT_IN_TURNS = "Not measured in turns: what else differed counts too."


def is_whole(experiment: Experiment) -> bool:
    """Whether the recommendation is about both steps at once."""
    one_question = experiment.questions == (Question.WHOLE,)
    return one_question and experiment.recommendation in (Recommendation.CHANGE, Recommendation.KEEP)
