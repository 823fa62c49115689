# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's words for what an experiment measures, for a reader who knows neither arms nor intervals."""

from __future__ import annotations

from collections.abc import Mapping

from ..analysis import Estimate, Verdict
from ..experiment import ArmRole, Family, Load, Question
from ..statistics import INTERIM_ANALYSES
from ..wording import UNKNOWN, count, share

ARMS: Mapping[ArmRole, str] = {
    ArmRole.TODAY: "as it is today",
    ArmRole.THREADS: "threads set",
    ArmRole.EXCLUSIVE: "exclusive CPUs",
}
SHORT: Mapping[ArmRole, str] = {**ARMS, ArmRole.TODAY: "today"}
"""The arms' names within a sentence."""
ARM_DETAILS: Mapping[ArmRole, str] = {
    ArmRole.TODAY: "a CPU limit, and as many threads as PyTorch finds",
    ArmRole.THREADS: "the same CPU limit, OMP_NUM_THREADS set to it",
    ArmRole.EXCLUSIVE: "CPUs that no other pod uses, as many threads",
}
QUESTIONS: Mapping[Question, str] = {
    Question.THREADS: "What does setting the number of threads bring?",
    Question.EXCLUSIVE: "What do exclusive CPUs bring beyond that?",
}
REMEDIES: Mapping[Question, str] = {
    Question.THREADS: "What setting the number of threads removes",
    Question.EXCLUSIVE: "What exclusive CPUs remove beyond that",
}
FAMILIES: Mapping[Family, str] = {
    Family.INPUT_PIPELINE: "input pipeline",
    Family.LAUNCH: "launching",
    Family.OTHER: "other cells",
    Family.CONTROL: "control",
}
FAMILY_DETAILS: Mapping[Family, str] = {
    Family.INPUT_PIPELINE: "loader workers feed the GPU",
    Family.LAUNCH: "steps so short that launching kernels limits them",
    Family.OTHER: "the GPU is the limit, more or less",
    Family.CONTROL: "must stay at 1: the CPU has no part in it",
}
LOADS: Mapping[Load, str] = {
    Load.SOLO: "one tenant, the rest of the node idle",
    Load.FULL: "full node: a tenant on each GPU",
    Load.BUSY: "full node with busy neighbours",
}
CONCLUSIONS: Mapping[Verdict, str] = {
    Verdict.BEATS: "faster",
    Verdict.WORSE: "slower",
    Verdict.EQUIVALENT: "no difference that matters",
    Verdict.UNDECIDED: "not decided yet",
    Verdict.INVALID: "not a fair comparison",
}


def times(ratio: float) -> str:
    """Such as "1.85 times as fast"."""
    return f"{ratio:.2f} times as fast"


def spread(value: Estimate | None) -> str:
    """Such as "1.71 to 1.99"; "~" without an interval."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"{value.low:.2f} to {value.high:.2f}"


def sureness(value: Estimate, faster: str, slower: str, margin: float) -> str:
    """The interval and what it allows to say, in a sentence."""
    against = f"as {slower}"
    if value.low is None or value.high is None:
        few = f"{count(value.rounds, 'round')} allow no interval, the first one comes after {INTERIM_ANALYSES[0]}"
        return f"{faster[:1].upper()}{faster[1:]}: {times(value.ratio)} {against}, but {few}."
    said = {
        Verdict.BEATS: f"at least {value.low:.2f} and at most {value.high:.2f} times as fast {against}",
        Verdict.WORSE: f"slower: between {value.low:.2f} and {value.high:.2f} times as fast {against}",
        Verdict.EQUIVALENT: (
            f"no difference that matters: between {value.low:.2f} and {value.high:.2f} times as fast {against}, "
            f"within the margin of {share(margin)}"
        ),
    }.get(
        value.verdict,
        f"not decided yet: anything between {value.low:.2f} and {value.high:.2f} times as fast {against} is possible",
    )
    return f"{faster[:1].upper()}{faster[1:]}: {said}."


def explained(confidence: float) -> str:
    """What the confidence of an interval means, and why it is not 95 %."""
    looks = len(INTERIM_ANALYSES)
    *first, last = map(str, INTERIM_ANALYSES)
    return (
        f"An interval of {_percent(confidence)} misses the true value in {_percent(1 - confidence)} of measurements. "
        f"A measurement may stop after {', '.join(first)} or {last} rounds: its {looks} possible intervals are right "
        f"together in {_percent(1 - looks * (1 - confidence))}."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.4g}%"
