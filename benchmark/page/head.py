# SPDX-License-Identifier: GPL-3.0-or-later
"""The top of the page: what to do, how much it brings, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean

from markupsafe import Markup

from .. import sentences, terms
from ..analysis import Analysis, ArmCell, Estimate, Verdict
from ..decide import CROWDED
from ..experiment import DECISIVE, ArmRole, Experiment, Load, Question, Recommendation, Throughput
from ..figures import count, finite, gpu_minutes, number, share
from ..roles import COMPARED
from ..wording import headline
from . import charts

_TONES = {
    Recommendation.NEITHER: "equal",
    Recommendation.MEASURE_MORE: "unknown",
    Recommendation.REPEAT: "invalid",
}


@dataclass(frozen=True)
class Badge:
    """A word on the page's state, and what it means."""

    tone: str
    glyph: str
    text: str
    meaning: str = ""


BEFORE_AFTER = Badge("unknown", "⇄", "BEFORE/AFTER", "not measured in turns: what else changed in between counts too")


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
    """`heading` says what to do; of two sides, `sentence` how much it brings. `sure` says how sure each contrast is."""

    badges: tuple[Badge, ...]
    heading: str
    sentence: str
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
        terms.sureness(one.headline.estimate, terms.ARMS[after].short, terms.ARMS[before].compared, experiment.margin)
        for one in measured
        for before, after in [COMPARED[one.question]]
    ]
    return Head(
        badges=_badges(experiment),
        heading=f"{sentences.lead(experiment)}.",
        sentence="",
        rates=() if invalid else _rates(experiment, load),
        rates_caption=f"Images per second, {terms.LOADS[load].name}",
        gain="" if invalid else _gain(experiment.gpu_hours_gained),
        sure=() if invalid else tuple(sure),
        confidence="" if invalid else _confidence(estimates),
        reasons=tuple(item.text for item in experiment.invalid),
        actions=tuple(item.text for item in experiment.advice),
        facts=tuple(_facts(experiment, estimates)),
    )


def lead(experiment: Experiment) -> str:
    """The effects in a sentence; empty if the experiment is invalid."""
    text = "" if experiment.invalid else sentences.effects(experiment)
    return terms.sentence(text)


def told_load(experiment: Experiment) -> Load:
    """The load that the top of the page is about: the one that decides.

    If exclusive CPUs are recommended for busy nodes, it is the most crowded one.
    """
    order = (*CROWDED, Load.SOLO) if experiment.recommendation is Recommendation.PIN_IF_BUSY else DECISIVE
    return next((load for load in order if load in experiment.loads), Load.SOLO)


def _badges(experiment: Experiment) -> tuple[Badge, ...]:
    if experiment.invalid:
        first = Badge("invalid", "✕", "INVALID", "the arms differ in more than their CPUs")
    elif experiment.recommendation is Recommendation.MEASURE_MORE:
        first = Badge("unknown", "?", "NOT DECIDED", _outlook(experiment))
    else:
        first = Badge(_TONES.get(experiment.recommendation, "faster"), "✓", "DECIDED")
    if experiment.interleaved:
        return (first,)
    return first, BEFORE_AFTER


def _outlook(experiment: Experiment) -> str:
    if experiment.expected_rounds is None:
        return f"{count(experiment.rounds, 'round')} so far"
    return f"{count(experiment.rounds, 'round')} so far, about {experiment.expected_rounds} expected"


def _rates(experiment: Experiment, load: Load) -> tuple[Rate, ...]:
    found = {one.role: one for one in experiment.throughputs if one.load is load}
    longest = max((one.images_per_s for one in found.values()), default=0.0)
    return tuple(
        _rate(
            terms.ARMS[role].name,
            terms.ARMS[role].detail,
            found[role].images_per_s,
            longest,
            _against_today(experiment, load, found, role),
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


def _against_today(experiment: Experiment, load: Load, found: dict[ArmRole, Throughput], role: ArmRole) -> float | None:
    """The contrasts' own ratio where there is one, so that it agrees with its interval; else that of the rates."""
    if role is ArmRole.TODAY or ArmRole.TODAY not in found:
        return None
    path = [Question.THREADS] if role is ArmRole.THREADS else [Question.THREADS, Question.EXCLUSIVE]
    steps = [experiment.contrast(question, load) for question in path]
    known = [step.headline.estimate.ratio for step in steps if step is not None]
    if len(known) == len(path):
        return math.prod(known)
    return found[role].images_per_s / found[ArmRole.TODAY].images_per_s


def _gain(hours: float | None) -> str:
    """In words; `hours` of a day that a GPU saves."""
    if hours is None or not math.isfinite(hours):
        return ""
    if abs(hours) < 0.05:
        return "There are no GPU-hours to save."
    verb = "Saves" if hours > 0 else "Costs"
    return f"{verb} {abs(hours):.1f} GPU-hours a day for each GPU: 24 hours of work take {24 - hours:.1f}."


def _confidence(estimates: Sequence[Estimate]) -> str:
    known = [value.confidence for value in estimates if value.confidence is not None]
    return terms.explained(min(known)) if known else ""


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
    minutes = gpu_minutes(experiment.gpu_minutes)
    return [*facts, ("GPU time", minutes)] if minutes else facts


def _control(value: Estimate | None, proves: bool) -> str:
    if value is None:
        return "none"
    return f"{value.ratio:.3f}, {'as it must be' if proves else 'proves nothing yet'}"


# Two sides

_VERDICTS = {
    Verdict.BEATS: Badge("faster", "✓", "FASTER", "B is faster than A"),
    Verdict.WORSE: Badge("slower", "▼", "SLOWER", "B is slower than A"),
    Verdict.EQUIVALENT: Badge("equal", "=", "EQUAL", "no difference that matters"),
    Verdict.UNDECIDED: Badge("unknown", "?", "NOT DECIDED", "no conclusion yet"),
    Verdict.INVALID: Badge("invalid", "✕", "INVALID", "A and B differ in more than their CPUs"),
}


def of_analysis(analysis: Analysis) -> Head:
    """The top of the page of two sides: the first advice is what to do."""
    comparison = analysis.comparison
    family, invalid = comparison.family, comparison.verdict is Verdict.INVALID
    sentence = headline(analysis)
    advice = [item.text for item in analysis.advice]
    badge = _VERDICTS[comparison.verdict]
    return Head(
        badges=(badge,) if comparison.interleaved else (badge, BEFORE_AFTER),
        heading=advice[0] if advice else sentence,
        sentence=sentence if advice and not comparison.invalid else "",
        rates=() if invalid else _rates_of_sides(analysis),
        rates_caption="Images per second, geometric mean of the cells that the result is about",
        gain="",
        sure=(terms.sureness(family, "B", "A", comparison.margin),) if family and not invalid else (),
        confidence=_confidence([family]) if family and not invalid else "",
        reasons=tuple(item.text for item in comparison.invalid),
        actions=tuple(advice[1:]),
        facts=tuple(_facts_of_sides(analysis)),
    )


def _rates_of_sides(analysis: Analysis) -> tuple[Rate, ...]:
    comparison = analysis.comparison
    if comparison.headline is None:
        return ()
    entries = [entry for entry in analysis.cells if entry.result.cell in comparison.headline.cells]
    before, after = _mean_rate([entry.a for entry in entries]), _mean_rate([entry.b for entry in entries])
    if before is None or after is None:
        return ()
    longest = max(before, after)
    ratio = comparison.headline.estimate.ratio
    return (
        _rate(f"A: {comparison.label_a}", "before", before, longest, None, "today"),
        _rate(f"B: {comparison.label_b}", "after", after, longest, ratio, "exclusive"),
    )


def _mean_rate(arms: Sequence[ArmCell | None]) -> float | None:
    """The geometric mean in images/s; None where a cell has no rate."""
    rates = [arm.images_per_s for arm in arms if arm is not None and arm.images_per_s and finite(arm.images_per_s)]
    return math.exp(fmean(map(math.log, rates))) if rates and len(rates) == len(arms) else None


def _facts_of_sides(analysis: Analysis) -> list[tuple[str, str]]:
    comparison = analysis.comparison
    family = comparison.headline
    facts = []
    if family is not None:
        facts.append(("about", f"{terms.FAMILIES[family.family].name}, {count(len(family.cells), 'cell')}"))
        facts.append(("rounds", str(family.estimate.rounds)))
    facts.append(("margin", f"± {share(comparison.margin)}"))
    facts.append(("control", _control(comparison.control, comparison.control_proves)))
    on_cpu = analysis.same.get("device") == "cpu"
    unknown = "none: measured on a CPU" if on_cpu else "not recorded"
    facts.append(("GPU time", gpu_minutes(analysis.gpu_minutes) or unknown))
    starts = [block.started for block in analysis.blocks if block.started > 0]
    if starts:
        facts.append(("measured", datetime.fromtimestamp(min(starts), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")))
    return facts
