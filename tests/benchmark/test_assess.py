# SPDX-License-Identifier: GPL-3.0-or-later
"""An experiment: arms by role, two questions, loads, the recommendation, and what it brings."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from benchmark.analysis import AdviceCode, CauseCode, Verdict
from benchmark.assess import assess, assess_sides
from benchmark.experiment import ArmRole, Experiment, Family, InvalidCode, Load, Question, Recommendation
from benchmark.pod.cells import GRAPH_MODE, LOADER_MODES, Cell
from benchmark.results import Block, InputError, NoteCode, Process, ResultSet, Scalar, Timing

PIPELINE = tuple(Cell(model, "half", mode, 64) for model in ("resnet18", "resnet50") for mode in LOADER_MODES)
LAUNCH = Cell("resnet18", "half", "train", 64)
CONTROL = Cell("resnet50", "half", GRAPH_MODE, 64)
MEANS: Mapping[Cell, float] = {**dict.fromkeys(PIPELINE, 20.0), LAUNCH: 10.0, CONTROL: 5.0}
SHARED: Mapping[str, Scalar] = {"gpu": "H100", "host": "gpu-01", "cpu_count": 16, "cpus_allowed": 16, "quota_cpus": 4.0}
OWN: Mapping[str, Scalar] = {**SHARED, "cpus_allowed": 4, "quota_cpus": None}
ENVIRONMENTS: Mapping[str, Mapping[str, Scalar]] = {
    "none-auto": {**SHARED, "threads": 16},
    "none-4": {**SHARED, "threads": 4},
    "static-4": {**OWN, "threads": 4},
}
Speeds = Mapping[str, float]
"""How many times as fast as none-auto each arm is on the input pipeline."""


def results(
    arm: str,
    speed: float,
    rounds: int = 8,
    *,
    noise: float = 0.005,
    run: str = "r1",
    load: Load = Load.SOLO,
    tenants: int = 1,
    counters: Mapping[str, float] | None = None,
) -> ResultSet:
    draw = random.Random(f"{arm} {run} {load}")
    processes = []
    for number in range(1, rounds + 1):
        for tenant in range(tenants):
            timings = {}
            for cell, mean in MEANS.items():
                own = mean / speed if cell in PIPELINE else mean
                step = own * math.exp(draw.gauss(0, noise if cell != CONTROL else 0.001))
                timings[cell] = Timing("ok", (step,) * 60, blocks=(Block((step,) * 60, counters=counters or {}),))
            started = 1e9 + 100 * number + 40 * (list(ENVIRONMENTS).index(arm))
            processes.append(
                Process(number, 0, timings, tenant, tenants, load, ENVIRONMENTS[arm], started, started + 30)
            )
    return ResultSet(arm, tuple(processes), ENVIRONMENTS[arm], frozenset({run}), arm=arm)


def together(*parts: ResultSet) -> ResultSet:
    return replace(parts[0], processes=tuple(process for part in parts for process in part.processes))


def experiment(speeds: Speeds, rounds: int = 8, noise: float = 0.005) -> Experiment:
    return assess({"r1": {arm: results(arm, speed, rounds, noise=noise) for arm, speed in speeds.items()}})


THREADS_HELP = {"none-auto": 1.0, "none-4": 2.0, "static-4": 1.75}


def test_the_remedy_that_the_data_show_is_recommended() -> None:
    """As on four H100 with an idle node: the number of threads gains 2.0x, exclusive CPUs lose 12.5 % of that."""
    found = experiment(THREADS_HELP)
    assert found.recommendation is Recommendation.SET_THREADS
    assert found.arms == {ArmRole.TODAY: "none-auto", ArmRole.THREADS: "none-4", ArmRole.EXCLUSIVE: "static-4"}
    first, second = found.contrasts
    assert (first.question, second.question) == (Question.THREADS, Question.EXCLUSIVE)
    assert first.headline.family is Family.INPUT_PIPELINE
    assert first.headline.cells == PIPELINE
    assert first.headline.estimate.ratio == pytest.approx(2.0, rel=0.01)
    assert second.headline.estimate.verdict is Verdict.WORSE
    assert [family.family for family in first.families] == [Family.INPUT_PIPELINE, Family.LAUNCH, Family.CONTROL]
    assert sorted(first.headline.by_round) == list(range(1, 9))
    assert found.is_precise
    assert (found.rounds, found.expected_rounds) == (8, 8)
    assert found.control_proves
    assert found.label == "gpu-01"
    assert found.gpu_hours_gained == pytest.approx(12.0, abs=0.1)
    assert found.sentence.startswith("Set the number of threads. Idle node: threads set 2.0")
    assert "; exclusive CPUs slower than threads set, 0.8" in found.sentence
    assert [item.code for item in found.advice] == [AdviceCode.SET_THREADS, AdviceCode.MEASURE_FULL_NODE]
    assert "Set OMP_NUM_THREADS=4" in found.advice[0].text


@pytest.mark.parametrize(
    ("speeds", "recommendation", "hours"),
    [
        pytest.param({"none-auto": 1, "none-4": 1, "static-4": 1.5}, Recommendation.PIN, 8.0, id="pin"),
        pytest.param({"none-auto": 1, "none-4": 2, "static-4": 3}, Recommendation.BOTH, 16.0, id="both"),
        pytest.param({"none-auto": 1, "none-4": 1, "static-4": 1}, Recommendation.NEITHER, 0.0, id="neither"),
        pytest.param({"none-auto": 1, "static-4": 3}, Recommendation.CHANGE, 16.0, id="no-arm-with-threads"),
        pytest.param({"none-auto": 1, "none-4": 2}, Recommendation.SET_THREADS, 12.0, id="no-exclusive-arm"),
        pytest.param({"none-4": 1, "static-4": 2}, Recommendation.PIN, 12.0, id="no-arm-of-today"),
    ],
)
def test_what_a_recommendation_saves_in_a_day(
    speeds: Speeds, recommendation: Recommendation, hours: float | None
) -> None:
    found = experiment(speeds)
    assert found.recommendation is recommendation
    assert found.gpu_hours_gained == (None if hours is None else pytest.approx(hours, abs=0.15))


def test_before_the_first_analysis_nothing_is_recommended() -> None:
    found = experiment(THREADS_HELP, rounds=4)
    assert (found.recommendation, found.is_precise) == (Recommendation.MEASURE_MORE, False)
    assert (found.rounds, found.expected_rounds) == (4, 5)
    assert all(contrast.headline.estimate.low is None for contrast in found.contrasts)
    assert next(item.text for item in found.advice).startswith("Measure 5 rounds: so many are expected")


def test_two_rounds_allow_no_forecast() -> None:
    assert experiment(THREADS_HELP, rounds=2).expected_rounds is None


def test_a_decided_contrast_that_is_wide_is_not_precise() -> None:
    found = experiment({"none-auto": 1, "none-4": 3, "static-4": 9}, rounds=5, noise=0.15)
    assert found.recommendation is Recommendation.BOTH
    assert not found.is_precise
    assert found.expected_rounds is None or found.expected_rounds > 5
    assert AdviceCode.MEASURE_MORE in [item.code for item in found.advice]


def loads(exclusive: Mapping[Load, float]) -> Experiment:
    """`exclusive`: how many times as fast as with threads set the exclusive arm is, by load."""
    speeds = {load: {"none-auto": 1.0, "none-4": 2.0, "static-4": 2.0 * ratio} for load, ratio in exclusive.items()}
    tenants = {Load.SOLO: 1, Load.FULL: 4, Load.BUSY: 4}

    def part(arm: str, load: Load) -> ResultSet:
        """Each of several tenants is 1.25 times as slow as one alone."""
        number = tenants[load]
        return results(arm, speeds[load][arm] / (1 if number == 1 else 1.25), load=load, tenants=number)

    return assess({"r1": {arm: together(*(part(arm, load) for load in speeds)) for arm in ENVIRONMENTS}})


def test_exclusive_cpus_that_pay_with_busy_neighbours_only() -> None:
    found = loads({Load.SOLO: 0.85, Load.FULL: 1.0, Load.BUSY: 1.25})
    assert found.recommendation is Recommendation.PIN_IF_BUSY
    verdicts = {
        one.load: one.headline.estimate.verdict for one in found.contrasts if one.question is Question.EXCLUSIVE
    }
    assert verdicts == {Load.SOLO: Verdict.WORSE, Load.FULL: Verdict.EQUIVALENT, Load.BUSY: Verdict.BEATS}
    assert found.gpu_hours_gained == pytest.approx(24 * (1 - 1 / 2.5), abs=0.2)
    assert found.sentence.startswith(
        "Give GPU pods exclusive CPUs where neighbours keep the CPUs busy. Idle node: exclusive CPUs slower than threads set"
    )
    assert "Busy neighbours: exclusive CPUs 1.25 times as fast as threads set [" in found.sentence
    assert len(found.sentence.split()) <= 70
    assert NoteCode.IDLE_NODE_ONLY not in [note.code for note in found.notes]


def test_throughput_of_a_full_node() -> None:
    found = loads({Load.SOLO: 1.0, Load.FULL: 1.0})
    rates = {(one.role, one.load): one for one in found.throughputs}
    alone, full = rates[ArmRole.THREADS, Load.SOLO], rates[ArmRole.THREADS, Load.FULL]
    assert alone.images_per_s == pytest.approx(6400, rel=0.01)
    assert (alone.tenants, alone.worst_tenant, alone.loss) == (1, None, None)
    assert full.images_per_s == pytest.approx(4 * 6400 / 1.25, rel=0.01)
    assert full.tenants == 4
    assert full.loss == pytest.approx(0.2, abs=0.01)
    assert full.worst_tenant == pytest.approx(1.0, abs=0.01)
    assert full.p99_ms == pytest.approx(12.5, rel=0.05)
    assert set(full.by_round) == set(range(1, 9))
    assert sum(full.by_tenant[1]) == pytest.approx(full.by_round[1], rel=0.01)


def test_an_arm_that_misses_its_slots_costs_its_own_contrasts_only() -> None:
    def missed(process: Process) -> Process:
        timings = {**process.timings, **dict.fromkeys(PIPELINE, Timing("skipped", reason="not warm"))}
        return replace(process, timings=timings) if process.load == Load.BUSY else process

    speeds = {"none-auto": 1.0, "none-4": 2.0, "static-4": 3.0}
    arms = {
        arm: together(*(results(arm, speed, load=load, tenants=2) for load in (Load.FULL, Load.BUSY)))
        for arm, speed in speeds.items()
    }
    today = arms["none-auto"]
    arms["none-auto"] = replace(today, processes=tuple(map(missed, today.processes)))
    found = assess({"r1": arms})
    exclusive = found.contrast(Question.EXCLUSIVE, Load.BUSY)
    assert exclusive is not None
    assert exclusive.headline.family is Family.INPUT_PIPELINE
    assert (exclusive.headline.estimate.rounds, exclusive.headline.estimate.verdict) == (8, Verdict.BEATS)
    measured = [one.role for one in found.throughputs if one.load is Load.BUSY]
    assert measured == [ArmRole.THREADS, ArmRole.EXCLUSIVE]


def test_the_99th_percentile_needs_299_steps() -> None:
    assert experiment(THREADS_HELP, rounds=1).throughputs[0].p99_ms is None
    assert experiment(THREADS_HELP, rounds=2).throughputs[0].p99_ms is not None


def test_an_invalid_experiment_claims_nothing() -> None:
    arms = {arm: results(arm, speed) for arm, speed in THREADS_HELP.items()}
    shared = {**ENVIRONMENTS["static-4"], "cpus_allowed": 16, "quota_cpus": 4.0}
    processes = tuple(replace(process, environment=shared) for process in arms["static-4"].processes)
    found = assess({"r1": {**arms, "static-4": replace(arms["static-4"], processes=processes)}})
    assert found.recommendation is Recommendation.REPEAT
    assert [reason.code for reason in found.invalid] == [InvalidCode.ARM_NOT_AS_NAMED]
    assert (found.is_precise, found.gpu_hours_gained) == (False, None)
    assert all(contrast.causes == () for contrast in found.contrasts)
    assert found.sentence == f"Not a fair measurement: {found.invalid[0].text}"
    assert [item.code for item in found.advice] == [AdviceCode.REPEAT]


THROTTLED = {"periods": 100.0, "throttled_periods": 60.0, "wall_ms": 10000.0, "run_delay_ms": 5000.0}
FREE = {"periods": 100.0, "throttled_periods": 0.0, "wall_ms": 10000.0, "run_delay_ms": 10.0}


def test_causes_belong_to_decided_gaps_and_add_up() -> None:
    arms = {
        arm: results(arm, speed, counters=THROTTLED if arm == "none-auto" else FREE)
        for arm, speed in {"none-auto": 1.0, "none-4": 2.0, "static-4": 2.0}.items()
    }
    first, second = assess({"r1": arms}).contrasts
    assert [cause.code for cause in first.causes] == [CauseCode.OVERSUBSCRIPTION]
    assert first.causes[0].share == pytest.approx(1.0)
    assert any("480 of 4000 CFS" in text or "CFS periods throttled" in text for text in first.causes[0].evidence)
    assert second.causes == ()


def halves(shift: float, *, again: bool = False, exclusive: float = 1.0, rounds: int = 8) -> Experiment:
    """Threads measured before, exclusive CPUs after a switch: everything is `shift` times as fast after it."""
    runs = {
        "before": {arm: results(arm, speed, rounds, run="before") for arm, speed in (("none-auto", 1), ("none-4", 2))},
        "after": {"static-4": results("static-4", 2 * exclusive * shift, rounds, run="after")},
    }
    if again:
        runs["again"] = {
            arm: results(arm, speed * shift, rounds, run="again") for arm, speed in (("none-auto", 1), ("none-4", 2))
        }
    return assess(runs)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(1.0, Verdict.EQUIVALENT), (1.08, Verdict.EQUIVALENT), (1.3, Verdict.BEATS)]
)
def test_before_and_after_allow_no_claim_below_the_floor(shift: float, verdict: Verdict) -> None:
    found = halves(shift)
    threads, exclusive = found.contrasts
    assert (found.interleaved, found.margin) == (False, 0.10)
    assert exclusive.headline.estimate.verdict is verdict
    assert threads.headline.estimate.verdict is Verdict.BEATS
    assert "Not measured in turns: what else differed counts too." in found.sentence
    assert AdviceCode.MEASURE_ON_ONE_NODE in [item.code for item in found.advice]


def test_measuring_before_once_more_replaces_the_floor() -> None:
    quiet = halves(1.0, again=True, exclusive=1.08)
    assert quiet.margin == pytest.approx(0.05)
    assert quiet.contrasts[1].headline.estimate.verdict is Verdict.BEATS
    moved = halves(1.3, again=True)
    assert moved.margin == pytest.approx(0.3, abs=0.03)
    assert moved.contrasts[1].headline.estimate.verdict is not Verdict.BEATS
    assert NoteCode.SHIFT_MEASURED in [note.code for note in moved.notes]


def test_gpu_minutes_are_what_the_gpu_was_held() -> None:
    assert experiment(THREADS_HELP, rounds=8).gpu_minutes == pytest.approx(8 * 3 * 30 / 60)


def test_tenants_hold_a_gpu_each_and_a_process_with_several_loads_one() -> None:
    one = results("none-4", 2.0, tenants=4, load=Load.FULL)
    both = together(results("none-4", 2.0), one)
    arms = {"none-auto": results("none-auto", 1.0), "none-4": both}
    assert assess({"r1": arms}).gpu_minutes == pytest.approx(8 * 30 / 60 * (1 + 4))


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        pytest.param({"r1": ["none-auto"]}, "none-auto: only one of the arms of an experiment", id="one-arm"),
        pytest.param(
            {"r1": ["none-auto", "none-4"], "r2": ["none-auto", "none-4"]},
            "the runs r1, r2 have all arms",
            id="two-runs",
        ),
    ],
)
def test_what_is_no_experiment_is_refused(runs: Mapping[str, Sequence[str]], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        assess({run: {arm: results(arm, 1.0, run=run) for arm in arms} for run, arms in runs.items()})


def test_kubernetes_without_a_quota_for_exclusive_cpus_is_noted() -> None:
    assert NoteCode.NO_QUOTA in [note.code for note in experiment(THREADS_HELP).notes]


def switched(speed: float, rounds: int = 5) -> Experiment:
    """Before a switch as it is today, after it with exclusive CPUs; no arm tells their parts apart."""
    before, after = results("none-auto", 1.0, rounds, run="before"), results("static-4", speed, rounds, run="after")
    return assess_sides(before, after)


@pytest.mark.parametrize(
    ("speed", "recommendation", "codes", "said"),
    [
        pytest.param(
            3.2,
            Recommendation.CHANGE,
            [AdviceCode.TAKE_B, AdviceCode.MEASURE_STEPS],
            "Keep the switch. Idle node: 3.2",
            id="faster",
        ),
        pytest.param(
            0.5,
            Recommendation.KEEP,
            [AdviceCode.KEEP_A, AdviceCode.MEASURE_STEPS],
            "Undo the switch. Idle node: slower than before, 0.",
            id="slower",
        ),
        pytest.param(
            1.0,
            Recommendation.NEITHER,
            [AdviceCode.NO_CHANGE],
            "The switch makes no difference that matters. Idle node: about as fast as before, ",
            id="no-difference",
        ),
        pytest.param(
            1.1,
            Recommendation.MEASURE_MORE,
            [AdviceCode.MEASURE_MORE],
            "Not decided yet. Idle node: not decided, 1.",
            id="on-the-margin",
        ),
    ],
)
def test_a_switch_answers_its_own_question(
    speed: float, recommendation: Recommendation, codes: Sequence[AdviceCode], said: str
) -> None:
    found = switched(speed)
    assert (found.recommendation, found.interleaved, found.margin) == (recommendation, False, 0.10)
    assert [item.code for item in found.advice] == codes
    assert found.sentence.startswith(said)
    parts = "How much of it the number of threads alone brings was not measured."
    assert (parts in found.sentence) is (AdviceCode.MEASURE_STEPS in codes)
    assert "today" not in found.sentence
    assert found.verdict is (found.answer and found.answer.verdict)
    assert found.questions == (Question.WHOLE,)


def test_what_was_measured_before_a_switch_is_not_to_be_continued() -> None:
    (more,) = switched(1.1).advice
    assert more.code is AdviceCode.MEASURE_MORE
    assert more.text.startswith("Compare both on the switched node, in turns, with benchmark-gpu-nodes.yml")


def test_no_difference_hides_no_loss() -> None:
    """Wholly below 1, and within the margin of 10 %."""
    found = switched(0.96)
    assert found.recommendation is Recommendation.NEITHER
    assert "about as fast as before, 0.96 [0.9" in found.sentence


def test_two_sides_are_split_into_steps_by_the_arm_between() -> None:
    """The threads alone gain all of it: the switch is faster than before, and is not what is recommended."""
    arms = {arm: results(arm, speed, run="r2" if arm == "static-4" else "r1") for arm, speed in THREADS_HELP.items()}
    found = assess_sides(arms["none-auto"], arms["static-4"], [arms["none-4"]])
    assert found.questions == (Question.WHOLE, Question.THREADS, Question.EXCLUSIVE)
    assert (found.verdict, found.recommendation) == (Verdict.BEATS, Recommendation.SET_THREADS)
    assert found.sentence.startswith("Set the number of threads. ")


def test_arms_of_two_nodes_are_no_step() -> None:
    other = results("static-4", 2.0, run="r2")
    processes = tuple(
        replace(process, environment={**process.environment, "host": "gpu-02"}) for process in other.processes
    )
    for a, b in ((results("none-auto", 1.0), replace(other, processes=processes)), (other, results("none-auto", 1.0))):
        found = assess_sides(a, b)
        assert (found.asked, found.questions) == (Question.SIDES, (Question.SIDES,))
        assert found.arms == {ArmRole.A: a.label, ArmRole.B: b.label}
        assert "Not measured in turns: what else differed counts too." in found.sentence
        assert "before" not in found.sentence
