# SPDX-License-Identifier: GPL-3.0-or-later
"""What arms, questions, families and loads are called, and the phrases that are built from these terms.

The line, the page, the advice and the messages all take their words from here, so that a reader meets one word for one
thing. Programs act on the codes in `experiment`, never on these texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .analysis import Estimate, Verdict
from .experiment import ArmRole, Family, Load, Question, Recommendation
from .figures import UNKNOWN, count, share
from .statistics import INTERIM_ANALYSES


@dataclass(frozen=True)
class ArmTerm:
    """`name` stands alone, `short` within a sentence, `compared` after "as fast as". `detail` says what the arm is."""

    name: str
    short: str
    compared: str
    detail: str


@dataclass(frozen=True)
class QuestionTerm:
    """`doing` is the step as the subject of a sentence. `beyond` ends a question that builds upon another one."""

    doing: str
    beyond: str = ""

    @property
    def question(self) -> str:
        return f"What does {self.doing} bring{self.beyond}?"

    @property
    def remedy(self) -> str:
        """The heading of the causes that the step removes."""
        return f"What {self.doing} removes{self.beyond}"


@dataclass(frozen=True)
class FamilyTerm:
    """`clause` follows "where"."""

    name: str
    clause: str

    @property
    def where(self) -> str:
        return f"where {self.clause}"


@dataclass(frozen=True)
class LoadTerm:
    """`name` stands alone; `where` begins or ends a sentence."""

    name: str
    where: str


ARMS: Mapping[ArmRole, ArmTerm] = {
    ArmRole.TODAY: ArmTerm(
        "as it is today", "today", "today", "a CPU limit on shared CPUs, and as many threads as PyTorch finds"
    ),
    ArmRole.THREADS: ArmTerm(
        "threads set", "threads set", "with threads set", "the same CPU limit on shared CPUs, OMP_NUM_THREADS set to it"
    ),
    ArmRole.EXCLUSIVE: ArmTerm(
        "exclusive CPUs", "exclusive CPUs", "with exclusive CPUs", "CPUs that no other pod uses, and as many threads"
    ),
}
QUESTIONS: Mapping[Question, QuestionTerm] = {
    Question.WHOLE: QuestionTerm("using exclusive CPUs with as many threads"),
    Question.THREADS: QuestionTerm("setting the number of threads"),
    Question.EXCLUSIVE: QuestionTerm("using exclusive CPUs", " beyond that"),
}
FAMILIES: Mapping[Family, FamilyTerm] = {
    Family.INPUT_PIPELINE: FamilyTerm("input pipeline", "a loader feeds the GPU"),
    Family.LAUNCH: FamilyTerm("launching", "launching kernels limits the step"),
    Family.OTHER: FamilyTerm("other cells", "the GPU is the limit, more or less"),
    Family.CONTROL: FamilyTerm("control", "the CPU has no part, so it must stay at 1"),
}
LOADS: Mapping[Load, LoadTerm] = {
    Load.SOLO: LoadTerm("one tenant, the rest of the node idle", "on an otherwise idle node"),
    Load.FULL: LoadTerm("full node: a tenant on each GPU", "on a full node"),
    Load.BUSY: LoadTerm("full node with busy neighbours", "with busy neighbours"),
}
LEADS: Mapping[Recommendation, str] = {
    Recommendation.SET_THREADS: "Set the number of threads",
    Recommendation.PIN: "Give GPU pods exclusive CPUs",
    Recommendation.BOTH: "Set the number of threads, and give GPU pods exclusive CPUs",
    Recommendation.NEITHER: "Change nothing",
    Recommendation.PIN_IF_BUSY: "Give GPU pods exclusive CPUs where neighbours keep the CPUs busy",
    Recommendation.CHANGE: "Give GPU pods exclusive CPUs",
    Recommendation.KEEP: "Leave the node as it is today",
    Recommendation.MEASURE_MORE: "Not decided yet",
    Recommendation.REPEAT: "Not a fair measurement",
}
SWITCH_LEADS: Mapping[Recommendation, str] = {
    Recommendation.CHANGE: "Keep the switch",
    Recommendation.KEEP: "Take the switch back",
}
"""The leads of what was measured before and after a switch only."""
CONCLUSIONS: Mapping[Verdict, str] = {
    Verdict.BEATS: "faster",
    Verdict.WORSE: "slower",
    Verdict.EQUIVALENT: "no difference that matters",
    Verdict.UNDECIDED: "not decided yet",
    Verdict.INVALID: "not a fair comparison",
}


def described(role: ArmRole) -> str:
    """Such as "threads set: the same CPU limit on shared CPUs, OMP_NUM_THREADS set to it"."""
    return f"{ARMS[role].name}: {ARMS[role].detail}"


def sentence(text: str) -> str:
    """The text with a capital at its start."""
    return f"{text[:1].upper()}{text[1:]}"


def times(ratio: float) -> str:
    """Such as "1.85 times as fast"."""
    return f"{ratio:.2f} times as fast"


def spread(value: Estimate | None) -> str:
    """Such as "1.71 to 1.99"; "~" without an interval."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"{value.low:.2f} to {value.high:.2f}"


def effect(value: Estimate, doing: str, reference: str) -> str:
    """What `doing` does to the speed, in a sentence without its full stop.

    :param reference: what it is compared with, such as "today"
    """
    if value.low is None or value.high is None:
        few = f"{count(value.rounds, 'round')} without an interval"
        return f"{doing} may make it {times(value.ratio)} as {reference} ({few})"
    span = f"[{value.low:.2f}, {value.high:.2f}]"
    if value.verdict is Verdict.BEATS:
        return f"{doing} makes it {times(value.ratio)} as {reference} {span}"
    if value.verdict is Verdict.WORSE:
        turned = f"[{1 / value.high:.2f}, {1 / value.low:.2f}]"
        return f"{doing} makes it slower: a step takes {1 / value.ratio:.2f} times as long as {reference} {turned}"
    if value.verdict is Verdict.EQUIVALENT:
        return f"{doing} brings nothing: at most {share(max(value.high - 1, 0.0))} against {reference}"
    return f"what {doing} brings is not decided: {times(value.ratio)} as {reference} {span}"


def sureness(value: Estimate, faster: str, slower: str, margin: float) -> str:
    """The interval and what it allows to say, in a sentence.

    :param faster: the arm that the ratio is about
    :param slower: the arm that it is compared with, as it is called within a sentence
    """
    start, against = sentence(faster), f"as {slower}"
    if value.low is None or value.high is None:
        few = f"{count(value.rounds, 'round')} allow no interval, the first one comes after {INTERIM_ANALYSES[0]}"
        return f"{start}: {times(value.ratio)} {against}, but {few}."
    between = f"between {value.low:.2f} and {value.high:.2f} times as fast {against}"
    said = {
        Verdict.BEATS: f"at least {value.low:.2f} and at most {value.high:.2f} times as fast {against}",
        Verdict.WORSE: f"slower: {between}",
        Verdict.EQUIVALENT: f"no difference that matters: {between}, within the margin of {share(margin)}",
    }.get(
        value.verdict,
        f"not decided yet: anything {between} is possible",
    )
    return f"{start}: {said}."


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
