# SPDX-License-Identifier: GPL-3.0-or-later
"""The top of the page: what to do, how much it brings, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from markupsafe import Markup

from .. import sentences, terms
from ..analysis import Estimate
from ..decide import CROWDED
from ..experiment import DECISIVE, ArmRole, Experiment, Load, Question, Recommendation, Throughput
from ..figures import gpu_minutes, number, share
from ..pod.words import count
from ..roles import COMPARED, STEPS
from . import charts

_TONES = {
    Recommendation.NEITHER: "equal",
}


@dataclass(frozen=True)
class Badge:
    """A word on the page's state, and what it means."""

    tone: str
    glyph: str
    text: str
    meaning: str = ""


NOT_IN_TURNS = Badge("unknown", "⇄", "NOT IN TURNS", "what else differed between the arms counts too")


@dataclass(frozen=True)
class Rate:
    """One arm: `rate` in images/s, `times` against the first arm."""

    name: str
    detail: str
    rate: str
    times: str
    svg: Markup


@dataclass(frozen=True)
class Head:
    """`heading` says what to do. `sure` says how sure each contrast is."""

    badges: tuple[Badge, ...]
    heading: str
    rates: tuple[Rate, ...]
    rates_caption: str
    gain: str
    sure: tuple[str, ...]
    confidence: str
    reasons: tuple[str, ...]
    actions: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def tone(self) -> str:
        return self.badges[0].tone


def of_experiment(experiment: Experiment) -> Head:
    """The top of an experiment's page. An invalid experiment gets no gain and no sureness."""
    invalid = bool(experiment.invalid)
    load = told_load(experiment)
    measured = [one for question in Question if (one := experiment.contrast(question, load)) is not None]
    estimates = [one.headline.estimate for one in measured]
    sure = [
        terms.sureness(
            one.headline.estimate,
            terms.arm(after, experiment.arms),
            terms.arm(before, experiment.arms),
            one.margin,
        )
        for one in measured
        for before, after in [COMPARED[one.question]]
    ]
    return Head(
        badges=_badges(experiment),
        heading=f"{terms.lead(experiment)}.",
        rates=() if invalid else _rates(experiment, load),
        rates_caption=f"Images per second, {terms.LOADS[load].name}",
        gain="" if invalid else _gain(experiment.gpu_hours_gained),
        sure=() if invalid else tuple(sure),
        confidence="" if invalid else terms.explained(estimates, turns=experiment.interleaved),
        reasons=tuple(item.text for item in experiment.invalid),
        actions=tuple(item.text for item in experiment.advice),
        facts=tuple(_facts(experiment, estimates)),
    )


def lead(experiment: Experiment) -> str:
    """The effects in a sentence; empty if the experiment is invalid."""
    return "" if experiment.invalid else sentences.effects(experiment)


def told_load(experiment: Experiment) -> Load:
    """The load that the top of the page is about: the one that decides.

    If exclusive CPUs are recommended for busy nodes, it is the most crowded one.
    """
    order = (*CROWDED, Load.SOLO) if experiment.recommendation is Recommendation.PIN_IF_BUSY else DECISIVE
    return next((load for load in order if load in experiment.loads), Load.SOLO)


def _badges(experiment: Experiment) -> tuple[Badge, ...]:
    first = state(Recommendation.REPEAT if experiment.invalid else experiment.recommendation, _outlook(experiment))
    if experiment.interleaved:
        return (first,)
    return first, NOT_IN_TURNS


def state(recommendation: Recommendation, outlook: str) -> Badge:
    """Whether the measurement has decided anything.

    :param outlook: what is known of its length, for one that has not
    """
    if recommendation is Recommendation.REPEAT:
        return Badge("invalid", "✕", "INVALID", "the arms differ in more than their CPUs")
    if recommendation is Recommendation.MEASURE_MORE:
        return Badge("unknown", "?", "NOT DECIDED", outlook)
    return Badge(_TONES.get(recommendation, "faster"), "✓", "DECIDED")


def _outlook(experiment: Experiment) -> str:
    if experiment.expected_rounds is None:
        return f"{count(experiment.rounds, 'round')} so far"
    return f"{count(experiment.rounds, 'round')} so far, about {experiment.expected_rounds} expected"


def _rates(experiment: Experiment, load: Load) -> tuple[Rate, ...]:
    rates = {one.role: one for one in experiment.throughputs if one.load is load}
    found = {role: rates[role] for role in ArmRole if role in rates}
    longest = max((one.images_per_s for one in found.values()), default=0.0)
    return tuple(
        _rate(
            terms.arm(role, experiment.arms).name,
            terms.arm(role, experiment.arms).detail,
            found[role].images_per_s,
            longest,
            _against_first(experiment, load, found, role),
            role.value,
        )
        for role in ArmRole
        if role in found
    )


def _rate(name: str, detail: str, rate: float, longest: float, ratio: float | None, tone: str) -> Rate:
    text = number(rate)
    times = "" if ratio is None else terms.times(ratio)
    svg = charts.bar(rate / longest if longest > 0 else 0.0, tone, f"{name}: {text} images/s")
    return Rate(name, detail, text, times, svg)


def _against_first(
    experiment: Experiment, load: Load, found: Mapping[ArmRole, Throughput], role: ArmRole
) -> float | None:
    """The contrasts' own ratio where there is one, so that it agrees with its interval; else that of the rates."""
    first = next(iter(found))
    if role is first:
        return None
    ratios = {COMPARED[one.question]: one.headline.estimate.ratio for one in experiment.contrasts if one.load is load}
    steps = [ratios.get(COMPARED[question]) for question in STEPS]
    if (first, role) in ratios:
        return ratios[first, role]
    if (first, role) == COMPARED[Question.WHOLE] and steps[0] is not None and steps[1] is not None:
        return steps[0] * steps[1]
    return found[role].images_per_s / found[first].images_per_s


def _gain(hours: float | None) -> str:
    """In words; `hours` of a day that a GPU saves."""
    if hours is None or not math.isfinite(hours):
        return ""
    if abs(hours) < 0.05:
        return "There are no GPU-hours to save."
    verb = "Saves" if hours > 0 else "Costs"
    return f"{verb} about {abs(hours):.1f} GPU-hours a day for each GPU: 24 hours of work take about {24 - hours:.1f}."


def _facts(experiment: Experiment, estimates: Sequence[Estimate]) -> list[tuple[str, str]]:
    widths = [
        math.log(value.high / value.low) / 2
        for value in estimates
        if value.low is not None and value.high is not None and value.low > 0
    ]
    wanted = f"wanted: ± {share(experiment.precision)}"
    precise = f"± {share(math.expm1(max(widths)))} ({wanted})" if widths else f"no interval ({wanted})"
    facts = [
        ("node", experiment.label),
        ("rounds", str(experiment.rounds)),
        ("precision", precise),
        ("margin", f"± {share(experiment.margin)}"),
        ("control", _control(experiment.control, experiment.control_proves)),
    ]
    on_cpu = experiment.environment.get("device") == "cpu"
    facts.append(
        ("GPU time", gpu_minutes(experiment.gpu_minutes) or ("none: measured on a CPU" if on_cpu else "not recorded"))
    )
    if experiment.measured is not None:
        started = datetime.fromtimestamp(experiment.measured, timezone.utc)
        facts.append(("measured", started.strftime("%Y-%m-%d %H:%M UTC")))
    return facts


def _control(value: Estimate | None, proves: bool) -> str:
    if value is None:
        return "none"
    return f"{value.ratio:.3f}, {'as it must be' if proves else 'proves nothing yet'}"
