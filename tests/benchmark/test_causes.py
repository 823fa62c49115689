# SPDX-License-Identifier: GPL-3.0-or-later
"""Causes, differences and advice: what the counters of four arms lead to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmark.analysis import AdviceCode, Arm, ArmCell, CauseCode, Gap, Role, RuledOut, Verdict
from benchmark.assess import assess_sides
from benchmark.causes import explain, ruled_out, unknown
from benchmark.experiment import Contrast, Experiment, Question
from benchmark.measures import arm_cell
from benchmark.pod.cells import Cell
from benchmark.readers import parse_arms
from benchmark.results import NoteCode, Process, ResultSet, Scalar, Timing

Lines = list[dict[str, Any]]
Change = Callable[[dict[str, Any]], None]


def sides(lines: Lines) -> dict[str, ResultSet]:
    return parse_arms({"f": "".join(json.dumps(line) + "\n" for line in lines)})


def evaluated(lines: Lines, a: str = "none-auto", b: str = "static-auto") -> Experiment:
    arms = sides(lines)
    return assess_sides(arms[a], arms[b], [arm for name, arm in arms.items() if name not in (a, b)])


def asked(found: Experiment) -> Contrast:
    """The contrast of both sides, whatever lies between them."""
    contrast = found.contrast(found.asked) if found.asked is not None else None
    assert contrast is not None
    return contrast


@pytest.fixture(scope="module")
def four(four_arms_file: Path) -> Experiment:
    """The four arms as they are: none-auto against static-auto."""
    return evaluated([json.loads(line) for line in four_arms_file.read_text().splitlines()])


def texts(result: Experiment) -> list[str]:
    """The advice as people read it."""
    return [item.text for item in result.advice]


def changed(lines: Lines, arm: str, kind: str, change: Change) -> Lines:
    """Applies `change` to the env or the counters of the arm's lines, in place."""
    for line in lines:
        if line["arm"].startswith(arm) and line["kind"] == kind and line.get("status") != "oom":
            change(line["env"] if kind == "process" else line)
    return lines


def slower(by_ms: float) -> Change:
    """Launching takes longer by this, except for the control."""

    def slow(block: dict[str, Any]) -> None:
        if not block["control"]:
            for key in ("iter_ms", "enqueue_ms"):
                block[key] = [value + by_ms for value in block[key]]
            block["counters"]["wall_ms"] = sum(block["iter_ms"])

    return slow


def test_the_number_of_threads_comes_first_and_throttling_is_how_it_works(four: Experiment) -> None:
    whole = asked(four)
    assert four.verdict is Verdict.BEATS
    assert four.questions == (Question.WHOLE, Question.THREADS, Question.EXCLUSIVE)
    first = whole.causes[0]
    assert first.code is CauseCode.OVERSUBSCRIPTION
    assert first.text.startswith("16 threads on 4 CPUs today; with 4 threads a step takes")
    assert first.share == pytest.approx(0.90, abs=0.02)
    assert sum(cause.share or 0 for cause in whole.causes) <= 1.0 + 1e-9
    assert [item.code for item in whole.ruled_out] == [CauseCode.FREQUENCY]
    assert [item.code for item in four.advice] == [
        AdviceCode.SET_THREADS,
        AdviceCode.MEASURE_MORE,
        AdviceCode.MEASURE_FULL_NODE,
    ]
    assert texts(four)[0].startswith("Set OMP_NUM_THREADS=4, the CPU limit, in the GPU pods.")


def test_exclusive_cpus_are_not_recommended_where_the_threads_alone_are_faster(four_arms: Lines) -> None:
    result = evaluated(changed(changed(four_arms, "static", "block", slower(2.0)), "none-auto", "block", slower(15.0)))
    assert result.verdict is Verdict.BEATS
    codes = [item.code for item in result.advice]
    assert codes[0] is AdviceCode.SET_THREADS
    assert not {AdviceCode.TAKE_B, AdviceCode.PIN} & set(codes)
    assert "exclusive CPUs slower than threads set" in result.sentence


def test_derived_cells_and_controls_are_not_in_the_family(four: Experiment) -> None:
    whole = asked(four)
    roles = {cell.cell.mode: cell.role for cell in whole.cells if cell.cell.model == "resnet18"}
    assert roles["inference-step"] is Role.DERIVED
    assert roles["inference-loader"] is Role.HEADLINE
    assert roles["train"] is Role.OTHER
    assert roles["inference-graph"] is Role.CONTROL
    assert [cell.mode for cell in whole.headline.cells] == ["inference-loader"]


def test_a_cell_that_ran_out_of_memory_has_no_times(four: Experiment) -> None:
    failed = next(cell for cell in asked(four).cells if cell.cell.model == "resnet152")
    assert failed.status == "oom"
    assert failed.reason == "today: out of memory; exclusive CPUs: out of memory"
    assert failed.a == ArmCell("oom")


def test_the_slower_side_is_explained_whichever_it_is(four_arms: Lines) -> None:
    result = evaluated(four_arms, "static-auto", "none-auto")
    assert (result.asked, result.verdict) == (Question.SIDES, Verdict.WORSE)
    assert asked(result).causes[0].code is CauseCode.OVERSUBSCRIPTION
    assert asked(result).causes[0].share == pytest.approx(0.90, abs=0.02)
    assert result.advice[0].code is AdviceCode.KEEP_A
    assert texts(result)[0] == "Keep static-auto: none-auto is slower. Undo the change if it is made already."


def test_equal_arms_have_no_gap_to_explain(four_arms: Lines) -> None:
    result = evaluated(four_arms, "static-auto", "static-4")
    assert result.verdict is Verdict.EQUIVALENT
    assert asked(result).causes == ()
    assert result.advice[0].code is AdviceCode.NO_CHANGE
    assert "static-4: about as fast as static-auto, " in result.sentence


def test_without_an_arm_between_the_parts_are_unknown(make_lines: Callable[..., Lines]) -> None:
    result = evaluated(make_lines(["none-auto", "static-auto"]))
    crowded = next(cause for cause in asked(result).causes if cause.code is CauseCode.OVERSUBSCRIPTION)
    assert (crowded.share, crowded.evidence) == (
        None,
        ("16 threads on 4 CPUs today", "no arm with a fixed number of threads shows their part"),
    )
    assert [item.code for item in result.advice][:2] == [AdviceCode.TAKE_B, AdviceCode.MEASURE_STEPS]


def test_sides_with_too_many_threads_are_to_be_measured_with_fewer(make_lines: Callable[..., Lines]) -> None:
    result = evaluated(make_lines(["none-auto", "static-auto"]), "static-auto", "none-auto")
    text = next(item.text for item in result.advice if item.code is AdviceCode.MEASURE_FIXED_THREADS)
    assert "16 threads on 4 CPUs on none-auto" in text


def test_the_part_of_exclusive_cpus_is_named(four_arms: Lines) -> None:
    result = evaluated(changed(four_arms, "none", "block", slower(3.0)))
    exclusive = result.contrast(Question.EXCLUSIVE)
    assert exclusive is not None
    assert exclusive.headline.estimate.verdict is Verdict.BEATS
    assert 0.3 < (asked(result).causes[0].share or 0) < 0.8


def test_an_invalid_comparison_has_no_cause(four_arms: Lines) -> None:
    def slow_control(block: dict[str, Any]) -> None:
        if block["control"]:
            block["iter_ms"] = [value * 1.05 for value in block["iter_ms"]]

    result = evaluated(changed(four_arms, "none-auto", "block", slow_control))
    assert result.verdict is Verdict.INVALID
    assert asked(result).causes == ()
    assert result.invalid[0].text.startswith("The negative control differs by 1.05")
    assert texts(result) == ["Do not act on these numbers: remove what differed, then measure again."]


@pytest.mark.parametrize(
    ("b", "environment", "said"),
    [
        pytest.param("static-auto", {"quota_cpus": 4.0}, True, id="pinned-with-a-quota"),
        pytest.param("static-auto", {"quota_cpus": None}, False, id="pinned-without"),
        pytest.param("none-4", {}, False, id="not-pinned"),
    ],
)
def test_a_quota_on_pinned_cpus_is_said(
    make_lines: Callable[..., Lines], b: str, environment: dict[str, Scalar], said: bool
) -> None:
    lines = changed(make_lines(["none-auto", b]), b, "process", lambda env: env.update(environment))
    assert (
        any(
            text.startswith("With exclusive CPUs, there still is a CFS quota of 4 CPUs: Kubernetes below 1.33")
            for text in texts(evaluated(lines, b=b))
        )
        is said
    )


def test_throttling_that_stays_under_static_is_said(make_lines: Callable[..., Lines]) -> None:
    def throttle(block: dict[str, Any]) -> None:
        block["counters"].update(periods=20, throttled_periods=2)

    lines = make_lines(["none-auto", "static-auto"])
    changed(lines, "static-auto", "process", lambda env: env.update(quota_cpus=4.0))
    advice = texts(evaluated(changed(lines, "static-auto", "block", throttle)))
    assert any("The pod was still throttled in" in text and "CFS periods" in text for text in advice)


def test_counters_that_are_missing_are_unknown(make_lines: Callable[..., Lines]) -> None:
    lines = make_lines(["none-auto", "static-auto"])
    found = asked(evaluated(changed(lines, "none", "block", lambda block: block.update(counters=None))))
    assert CauseCode.THROTTLING not in [cause.code for cause in found.causes]
    assert found.unknown == (
        "Not recorded today, so neither proved nor ruled out: throttling, waiting for a CPU, migrations, CPU speed.",
    )


def test_gpu_minutes_and_the_start(four: Experiment, make_lines: Callable[..., Lines]) -> None:
    assert four.gpu_minutes == pytest.approx(5 * 4 * 17 / 60, rel=0.02)
    assert four.measured == 1_700_000_000.0
    cpu = changed(make_lines(["none-4", "static-4"]), "", "process", lambda env: env.update(device="cpu", gpu=None))
    assert evaluated(cpu, "none-4", "static-4").gpu_minutes is None


def test_differences_say_what_is_by_design_and_what_spoils(make_lines: Callable[..., Lines]) -> None:
    lines = make_lines(["none-auto", "static-auto"])
    changed(lines, "static", "process", lambda env: env.update(gpu_uuid="GPU-2", kernel="6.9.0", note="x"))
    result = evaluated(lines)
    found = {difference.key: difference for difference in result.differences}
    assert [difference.key for difference in result.differences[:2]] == ["gpu_uuid", "kernel"]
    assert found["gpu_uuid"].red_flag == "another card: two cards of one model differ by 2 to 5 %"
    assert found["kernel"].red_flag == "another kernel, though the rounds were interleaved"
    assert (found["threads"].a, found["threads"].b, found["threads"].by_design) == (16, 4, True)
    assert (found["note"].a, found["note"].by_design, found["note"].red_flag) == (None, False, "")
    assert result.environment["gpu"] == "NVIDIA H200"
    assert "started" not in found | dict(result.environment)


def test_two_runs_may_have_two_kernels(make_lines: Callable[..., Lines]) -> None:
    lines = make_lines(["none-auto", "static-auto"], run_ids={"none": "r1-before", "static": "r1-after"})
    result = evaluated(changed(lines, "static", "process", lambda env: env.update(kernel="6.9.0")))
    assert next(d for d in result.differences if d.key == "kernel").red_flag == ""
    assert result.answer is not None
    assert result.answer.low is not None
    assert NoteCode.DIFFERENT_RUNS in [note.code for note in result.notes]


def gap(
    slow: Mapping[str, float],
    fast: Mapping[str, float],
    *,
    parts: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {}),
    environments: tuple[Mapping[str, Scalar], Mapping[str, Scalar]] = ({}, {}),
    fixed_ms: float | None = None,
) -> Gap:
    """15 ms a step on A, 10 ms on B, with these rates."""
    quiet = {
        "periods": 0.0,
        "throttled_periods": 0.0,
        "run_delay_share": 0.0,
        "migrations_per_s": 0.0,
        "canary_ms": 2.0,
    }
    return Gap(
        Arm("on A", ArmCell("ok", 100, 15.0, 15.0, parts_ms=parts[0], rates=quiet | dict(slow)), environments[0]),
        Arm("on B", ArmCell("ok", 100, 10.0, 10.0, parts_ms=parts[1], rates=quiet | dict(fast)), environments[1]),
        None if fixed_ms is None else Arm("on A-4", ArmCell("ok", 100, fixed_ms), {"threads": 4}),
    )


THROTTLED = {"periods": 200.0, "throttled_periods": 74.0}
CROWDED: tuple[Mapping[str, Scalar], Mapping[str, Scalar]] = (
    {"threads": 16, "cpus_allowed": 16, "quota_cpus": 4.0},
    {"threads": 4, "cpus_allowed": 4},
)


@pytest.mark.parametrize(
    ("case", "causes"),
    [
        pytest.param(
            gap(THROTTLED, {"periods": 200.0, "throttled_periods": 2.0}, parts=({"stall": 4.5}, {"stall": 0.5})),
            [("throttling", 0.8), ("unexplained", 0.2)],
            id="stalls-of-throttling",
        ),
        pytest.param(
            gap(THROTTLED | {"run_delay_share": 0.3}, {}, parts=({"stall": 0.0}, {"stall": 0.0})),
            [("throttling", 0.9), ("unexplained", 0.1)],
            id="throttled-in-every-long-step",
        ),
        pytest.param(
            gap(THROTTLED, THROTTLED, parts=({"stall": 4.5}, {"stall": 0.5})),
            [("unexplained", 1.0)],
            id="both-throttled",
        ),
        pytest.param(
            gap({"periods": 200.0, "throttled_periods": 1.0}, {}, parts=({"stall": 4.5}, {"stall": 0.5})),
            [("unexplained", 1.0)],
            id="a-period-in-two-hundred",
        ),
        pytest.param(
            gap({}, {}, environments=CROWDED, fixed_ms=11.0),
            [("oversubscription", 0.8), ("unexplained", 0.2)],
            id="threads-close-the-gap",
        ),
        pytest.param(
            gap({}, {}, environments=CROWDED, fixed_ms=14.0),
            [("oversubscription", 0.2), ("unexplained", 0.8)],
            id="threads-close-little",
        ),
        pytest.param(
            gap({}, {}, environments=CROWDED, fixed_ms=15.5), [("unexplained", 1.0)], id="threads-close-nothing"
        ),
        pytest.param(
            gap({}, {}, environments=CROWDED[::-1], fixed_ms=11.0), [("unexplained", 1.0)], id="the-faster-is-crowded"
        ),
        pytest.param(
            gap(
                THROTTLED | {"run_delay_share": 0.9},
                {},
                environments=CROWDED,
                fixed_ms=11.0,
            ),
            [("oversubscription", 0.8), ("throttling", 0.2)],
            id="throttling-gets-what-the-threads-leave",
        ),
        pytest.param(
            gap(THROTTLED | {"run_delay_share": 0.9}, {}, environments=CROWDED, fixed_ms=10.0),
            [("oversubscription", 1.0)],
            id="the-threads-leave-nothing",
        ),
        pytest.param(
            gap({"run_delay_share": 0.25}, {}), [("contention", 0.75), ("unexplained", 0.25)], id="others-on-the-cpus"
        ),
        pytest.param(
            gap(THROTTLED | {"run_delay_share": 0.4, "quiet_run_delay_share": 0.0}, {}),
            [("throttling", 1.0)],
            id="delay-of-throttled-blocks-is-no-contention",
        ),
        pytest.param(
            gap({"migrations_per_s": 80.0}, {}, parts=({"enqueue": 14.0}, {"enqueue": 9.0})),
            [("migration", None), ("unexplained", 1.0)],
            id="migrations-cost-is-unknown",
        ),
        pytest.param(
            gap({"migrations_per_s": 80.0, "canary_ms": 3.0}, {}, parts=({"enqueue": 14.0}, {"enqueue": 9.0})),
            [("frequency", 1.0)],
            id="a-slower-cpu-is-no-migration",
        ),
        pytest.param(
            gap(
                {},
                {},
                parts=({"h2d": 4.0}, {"h2d": 1.0}),
                environments=(
                    {"gpu_numa_node": 1, "cpu_numa_nodes": "0-1"},
                    {"gpu_numa_node": 1, "cpu_numa_nodes": "1"},
                ),
            ),
            [("numa", 0.6), ("unexplained", 0.4)],
            id="far-from-the-gpu",
        ),
        pytest.param(
            gap({"canary_ms": 2.2}, {}), [("frequency", 0.24), ("unexplained", 0.76)], id="a-little-slower-cpu"
        ),
    ],
)
def test_causes(case: Gap, causes: list[tuple[str, float | None]]) -> None:
    found = [(cause.code.value, cause.share and round(cause.share, 2)) for cause in explain(case)]
    assert found == causes


def test_an_equal_cpu_speed_is_ruled_out() -> None:
    speed = "CPU speed ruled out: a fixed piece of CPU work took 2.00 ms on A and 1.99 ms on B (1.01x)."
    assert ruled_out(gap(THROTTLED, {"canary_ms": 1.99})) == (RuledOut(CauseCode.FREQUENCY, speed),)


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ({"periods": 200.0}, "Throttling ruled out: 0 of 200 CFS periods were throttled on A."),
        ({}, "Throttling ruled out: no quota applied on A."),
    ],
)
def test_no_throttling_is_ruled_out(rates: dict[str, float], text: str) -> None:
    assert ruled_out(gap({"canary_ms": 2.2} | rates, {})) == (RuledOut(CauseCode.THROTTLING, text),)


def test_what_was_recorded_is_not_called_unknown() -> None:
    assert unknown(gap({}, {})) == []


def test_times_of_a_cell_over_all_rounds() -> None:
    cell = Cell("resnet18", "half", "inference", 64)
    steps = [10.0] * 99 + [90.0]

    def results(rounds: int) -> ResultSet:
        return ResultSet("x", tuple(Process(n, 0, {cell: Timing("ok", tuple(steps))}) for n in range(rounds)))

    found = arm_cell(results(3), cell)
    assert found is not None
    assert (found.steps, found.p50_ms, found.max_ms) == (300, 10.0, 90.0)
    assert found.p99_ms == pytest.approx(10.8)
    assert found.mean_ms == pytest.approx(10.8)
    assert found.images_per_s == pytest.approx(64000 / 10.8)
    assert found.parts_ms == {"stall": pytest.approx(0.8)}
    few = arm_cell(results(2), cell)
    assert few is not None
    assert few.p99_ms is None
    assert arm_cell(results(1), Cell("resnet34", "half", "train")) is None
