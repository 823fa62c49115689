# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentences of an experiment: what was found. Programs read its codes, never these texts."""

from __future__ import annotations

from . import terms
from .decide import decisive
from .experiment import Contrast, Experiment, Load, Question, Recommendation
from .figures import count, share
from .roles import COMPARED, STEPS


def sentence(experiment: Experiment) -> str:
    """What to do and how much it brings, in one line that needs no other."""
    why = experiment.invalid[0].text if experiment.invalid else effects(experiment)
    return f"{terms.lead(experiment)}: {why}"


def effects(experiment: Experiment) -> str:
    """How much the steps bring that the recommendation follows from. Only for a valid experiment."""
    found = answers(experiment)
    if not found:
        return f"no cell was timed in all of {', '.join(experiment.arms.values())}."
    about = terms.FAMILIES[found[0].headline.family].where
    said = "; ".join(_effect(experiment, contrast) for contrast in found)
    text = f"{said} ({about}, {count(experiment.rounds, 'round')})."
    if is_whole(experiment):
        text += f" {STEPS_UNKNOWN}"
    if not experiment.interleaved and any(contrast.headline.estimate.low is not None for contrast in found):
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
    reference = terms.arm(COMPARED[contrast.question][0], experiment.arms).compared
    text = terms.effect(contrast.headline.estimate, terms.question(contrast.question, experiment), reference)
    if contrast.question is Question.SIDES and contrast.load is Load.SOLO:
        return text
    return f"{terms.LOADS[contrast.load].where}, {text}"


STEPS_UNKNOWN = (
    "What part of it is the number of threads and what part exclusive CPUs was not measured: run "
    "benchmark-gpu-nodes.yml."
)


def is_whole(experiment: Experiment) -> bool:
    """Whether the recommendation is about both steps at once."""
    one_question = experiment.questions == (Question.WHOLE,)
    return one_question and experiment.recommendation in (Recommendation.CHANGE, Recommendation.KEEP)
