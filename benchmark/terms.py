# SPDX-License-Identifier: GPL-3.0-or-later
"""What arms, questions, families and loads are called, and the phrases that are built from these terms.

The line, the page, the advice and the messages all take their words from here, so that a reader meets one word for one
thing. Programs act on the codes in `experiment`, never on these texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .analysis import Estimate, Verdict
from .experiment import ArmRole, Experiment, Family, Load, Question, Recommendation
from .figures import UNKNOWN, share
from .pod.words import count
from .results import ResultSet
from .statistics import INTERIM_ANALYSES


@dataclass(frozen=True)
class ArmTerm:
    """`name` stands alone, `short` within a sentence, `compared` after "as fast as". `detail` says what the arm is.

    `start` begins a sentence: a name that the user gave stays as it is. `where` says in which arm something was measured.
    """

    name: str
    short: str
    compared: str
    detail: str
    start: str
    where: str


@dataclass(frozen=True)
class QuestionTerm:
    """`gain` heads the causes that it removes, `loss` those of the time that it costs."""

    question: str
    gain: str
    loss: str

    @classmethod
    def of_step(cls, doing: str, beyond: str = "") -> QuestionTerm:
        """:param doing: the subject of its sentences
        :param beyond: how a question ends that builds upon another one
        """
        return cls(
            f"What does {doing} bring{beyond}?",
            f"What {doing} removes{beyond}",
            f"Why {doing} makes it slower",
        )


@dataclass(frozen=True)
class FamilyTerm:
    """`clause` follows "where"."""

    name: str
    clause: str


@dataclass(frozen=True)
class LoadTerm:
    """`name` stands alone; `short` begins a line, before a colon."""

    name: str
    short: str


_ARMS: Mapping[ArmRole, ArmTerm] = {
    ArmRole.TODAY: ArmTerm(
        "as it is today",
        "today",
        "today",
        "a CPU limit on shared CPUs, and as many threads as PyTorch finds",
        "Today",
        "today",
    ),
    ArmRole.THREADS: ArmTerm(
        "threads set",
        "threads set",
        "with threads set",
        "the same CPU limit on shared CPUs, OMP_NUM_THREADS set to it",
        "Threads set",
        "with threads set",
    ),
    ArmRole.EXCLUSIVE: ArmTerm(
        "exclusive CPUs",
        "exclusive CPUs",
        "with exclusive CPUs",
        "CPUs that no other pod uses, and as many threads",
        "Exclusive CPUs",
        "with exclusive CPUs",
    ),
}
_QUESTIONS: Mapping[Question, QuestionTerm] = {
    Question.WHOLE: QuestionTerm.of_step("using exclusive CPUs with as many threads"),
    Question.THREADS: QuestionTerm.of_step("setting the number of threads"),
    Question.EXCLUSIVE: QuestionTerm.of_step("using exclusive CPUs", " beyond that"),
}
_SWITCH = QuestionTerm.of_step("the switch")
FAMILIES: Mapping[Family, FamilyTerm] = {
    Family.INPUT_PIPELINE: FamilyTerm("input pipeline", "a loader feeds the GPU"),
    Family.LAUNCH: FamilyTerm("launching", "launching kernels limits the step"),
    Family.OTHER: FamilyTerm("other cells", "the GPU is the limit, more or less"),
    Family.CONTROL: FamilyTerm("control", "the CPU has no part, so it must stay at 1"),
}
LOADS: Mapping[Load, LoadTerm] = {
    Load.SOLO: LoadTerm("one tenant, the rest of the node idle", "Idle node"),
    Load.FULL: LoadTerm("full node: a tenant on each GPU", "Full node"),
    Load.BUSY: LoadTerm("full node with busy neighbours", "Busy neighbours"),
}
_LEADS: Mapping[Recommendation, str] = {
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
_SWITCH_LEADS: Mapping[Recommendation, str] = {
    Recommendation.CHANGE: "Keep the switch",
    Recommendation.KEEP: "Undo the switch",
    Recommendation.NEITHER: "The switch makes no difference that matters",
}
_SIDES_LEADS: Mapping[Recommendation, str] = {
    Recommendation.CHANGE: "Take {b}",
    Recommendation.KEEP: "Keep {a}",
}
CONCLUSIONS: Mapping[Verdict, str] = {
    Verdict.BEATS: "faster",
    Verdict.WORSE: "slower",
    Verdict.EQUIVALENT: "no difference that matters",
    Verdict.UNDECIDED: "not decided yet",
    Verdict.INVALID: "not a fair comparison",
}


def arm(role: ArmRole, arms: Mapping[ArmRole, str]) -> ArmTerm:
    """What an arm is called; a side that stands for nothing has its own name.

    :param arms: the names of an experiment's arms
    """
    return _ARMS.get(role) or ArmTerm(arms[role], arms[role], arms[role], "", arms[role], f"on {arms[role]}")


def as_shown(role: ArmRole, results: ResultSet) -> ResultSet:
    """An arm under the name that readers meet; a side keeps its own."""
    own = _ARMS.get(role)
    return results if own is None else replace(results, label=own.short, place=own.where)


def question(asked: Question, experiment: Experiment) -> QuestionTerm:
    """What a question of an experiment is called."""
    if asked is Question.SIDES:
        a, b = experiment.arms[ArmRole.A], experiment.arms[ArmRole.B]
        gap = f"The gap between {a} and {b}"
        return QuestionTerm(f"How fast is {b} against {a}?", gap, gap)
    return _SWITCH if asked is Question.WHOLE and experiment.is_switch else _QUESTIONS[asked]


def lead(experiment: Experiment) -> str:
    """What to do, in a few words."""
    found = experiment.recommendation
    if experiment.asked is Question.SIDES and found in _SIDES_LEADS:
        return _SIDES_LEADS[found].format(a=experiment.arms[ArmRole.A], b=experiment.arms[ArmRole.B])
    if experiment.is_switch and found in _SWITCH_LEADS:
        return _SWITCH_LEADS[found]
    return _LEADS[found]


def described(role: ArmRole) -> str:
    """Such as "threads set: the same CPU limit on shared CPUs, OMP_NUM_THREADS set to it"."""
    return f"{_ARMS[role].name}: {_ARMS[role].detail}"


def times(ratio: float) -> str:
    """Such as "1.85 times as fast"."""
    return f"{ratio:.2f} times as fast"


def spread(value: Estimate | None) -> str:
    """Such as "1.71 to 1.99"; "~" without an interval."""
    if value is None or value.low is None or value.high is None:
        return UNKNOWN
    return f"{value.low:.2f} to {value.high:.2f}"


def effect(value: Estimate, subject: str, reference: str) -> str:
    """What was found about the speed, as a short clause. Its numbers are those of the tables.

    :param subject: what the ratio is about, such as "threads set"; empty if the place says it
    :param reference: what it is compared with, such as "today"
    """
    if value.low is None or value.high is None:
        return f"{subject} about {times(value.ratio)} as {reference}, no interval yet".lstrip()
    span = f"[{value.low:.2f}, {value.high:.2f}]"
    said = {
        Verdict.BEATS: f"{times(value.ratio)} as {reference} {span}",
        Verdict.WORSE: f"slower than {reference}, {value.ratio:.2f} {span}",
        Verdict.EQUIVALENT: f"about as fast as {reference}, {value.ratio:.2f} {span}",
    }.get(value.verdict, f"not decided, {value.ratio:.2f} {span}")
    return f"{subject} {said}".lstrip()


def sureness(value: Estimate, faster: ArmTerm, slower: ArmTerm, margin: float) -> str:
    """The interval and what it allows to say, in a sentence.

    :param faster: the arm that the ratio is about
    :param slower: the arm that it is compared with
    """
    start, against = faster.start, f"as {slower.compared}"
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


def explained(estimates: Iterable[Estimate], *, turns: bool) -> str:
    """What the intervals mean, and why their confidence is not 95 %; empty without an interval.

    :param turns: whether the arms took turns. Of 100 halves without an effect, 77 to 8 intervals held the truth
        (docs/evidence/method.md)
    """
    known = [value.confidence for value in estimates if value.confidence is not None]
    if not known:
        return ""
    if not turns:
        return _SPREAD_ONLY
    confidence = min(known)
    looks = len(INTERIM_ANALYSES)
    *first, last = map(str, INTERIM_ANALYSES)
    return (
        f"An interval of {_percent(confidence)} misses the true value in {_percent(1 - confidence)} of measurements. "
        f"A measurement may stop after {', '.join(first)} or {last} rounds: its {looks} possible intervals are right "
        f"together in {_percent(1 - looks * (1 - confidence))}."
    )


_SPREAD_ONLY = (
    "The intervals hold the spread of the rounds only. The arms did not take turns, so what else differed between them "
    "comes on top: the true value may well lie outside."
)


def _percent(value: float) -> str:
    return f"{100 * value:.4g}%"
