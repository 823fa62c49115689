# SPDX-License-Identifier: GPL-3.0-or-later
"""The statistic, the verdicts and the notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmark.analysis import Comparison, GradientCode, Role, Verdict
from benchmark.compare import compare, estimate, holm, newest_analysis
from benchmark.pod.cells import RESNETS, Cell
from benchmark.readers import read
from benchmark.results import InputError, Note, NoteCode, Process, ResultSet, Scalar, Timing
from benchmark.wording import gradient_conclusion, verdict_line

CELL = Cell("resnet18", "half", "inference", 64)
CONTROL = Cell("resnet18", "double", "inference", 64)
GPU = {"gpu": "NVIDIA H200"}
JITTER = (0.001, -0.001, 0.0005, -0.0005, 0.001, -0.001, 0.0, 0.0005, -0.0005, 0.001, -0.001, 0.0)


def arm(
    label: str,
    rounds: Sequence[Mapping[Cell, float | Timing]],
    environment: Mapping[str, Scalar] = GPU,
    run_id: str = "r1",
) -> ResultSet:
    """A side with one process a round; a number is the cell's mean in ms."""
    processes = tuple(
        Process(n, 0, {c: t if isinstance(t, Timing) else Timing("ok", (t,)) for c, t in cells.items()})
        for n, cells in enumerate(rounds, 1)
    )
    return ResultSet(label, processes, environment, frozenset({run_id}))


def sides(ratio: float, rounds: int, control: float | None = None, noise: float = 1.0) -> tuple[ResultSet, ResultSet]:
    """Sides whose cell and control differ by these ratios, give or take a jitter of `noise` tenths of a percent."""

    def cells(cell_ms: float, control_ms: float) -> dict[Cell, float | Timing]:
        return {CELL: cell_ms} if control is None else {CELL: cell_ms, CONTROL: control_ms}

    jitter = [math.exp(value * noise) for value in JITTER[:rounds]]
    a = arm("none", [cells(10 * ratio * j, 100 * (control or 1) * j) for j in jitter])
    return a, arm("static", [cells(10.0, 100.0) for _ in jitter])


@pytest.mark.parametrize(
    ("rounds", "analysis"), [(0, None), (2, None), (3, 3), (4, 3), (5, 5), (8, 8), (11, 8), (12, 12), (40, 12)]
)
def test_decisions_fall_at_interim_analyses_only(rounds: int, analysis: int | None) -> None:
    assert newest_analysis(rounds) == analysis


@pytest.mark.parametrize(
    ("ratio", "rounds", "control", "noise", "verdict"),
    [
        pytest.param(1.5, 5, 1.0, 1, Verdict.BEATS, id="faster"),
        pytest.param(1 / 1.5, 5, 1.0, 1, Verdict.WORSE, id="slower"),
        pytest.param(1.01, 5, 1.0, 1, Verdict.EQUIVALENT, id="within-the-margin"),
        pytest.param(1.03, 5, 1.0, 1, Verdict.UNDECIDED, id="on-the-margin"),
        pytest.param(1.5, 5, 1.05, 1, Verdict.INVALID, id="control-slower"),
        pytest.param(1.5, 5, 1 / 1.05, 1, Verdict.INVALID, id="control-faster"),
        pytest.param(1.5, 5, 1.005, 1, Verdict.BEATS, id="control-within-one-percent"),
        pytest.param(1.1, 3, 1.0, 90, Verdict.UNDECIDED, id="too-noisy"),
        pytest.param(1.5, 2, 1.0, 1, Verdict.UNDECIDED, id="before-the-first-analysis"),
        pytest.param(1.5, 2, 1.05, 1, Verdict.UNDECIDED, id="control-before-the-first-analysis"),
        pytest.param(1.5, 3, None, 1, Verdict.BEATS, id="no-control"),
    ],
)
def test_verdicts(ratio: float, rounds: int, control: float | None, noise: float, verdict: Verdict) -> None:
    result = compare(*sides(ratio, rounds, control, noise))
    assert result.verdict is verdict
    assert result.cells[0].verdict is verdict


def test_the_interval_is_students_t_at_a_quarter_of_alpha() -> None:
    # Mean 0.2, standard error 0.1 / sqrt(3); t for 1 - 0.0125 / 2 and 2 degrees of freedom is 8.8602.
    value = estimate([0.1, 0.2, 0.3], 0.03)
    assert value.low is not None
    assert value.high is not None
    assert (math.log(value.low), math.log(value.high)) == pytest.approx((-0.31155, 0.71155), abs=1e-4)
    assert value.confidence == 0.9875


def test_rounds_after_an_interim_analysis_wait_for_the_next() -> None:
    assert estimate([0.1, 0.1, 0.1, 9.0], 0.03).ratio == pytest.approx(math.exp(0.1))


@pytest.mark.parametrize(
    ("d", "verdict"), [([0.0] * 3, Verdict.EQUIVALENT), ([0.5] * 3, Verdict.BEATS), ([-0.5] * 3, Verdict.WORSE)]
)
def test_rounds_without_any_scatter(d: list[float], verdict: Verdict) -> None:
    assert estimate(d, 0.03).verdict is verdict


def test_holm_steps_down() -> None:
    assert holm([0.03, 0.001, 0.02, 0.9], 0.05) == [False, True, False, False]
    assert holm([0.01, 0.001, 0.02, 0.03], 0.05) == [True, True, True, True]
    assert holm([], 0.05) == []


def test_many_noisy_cells_do_not_make_a_claim_of_one() -> None:
    cells = [Cell(f"model{n}", "half", "train") for n in range(20)]
    d = [0.06, 0.075, 0.0525]
    a = arm("a", [{c: 10 * math.exp(value) if c is cells[0] else 10 + n for c in cells} for n, value in enumerate(d)])
    b = arm("b", [dict.fromkeys(cells, 10.0) for _ in d])
    assert estimate(d, 0.01).verdict is Verdict.UNDECIDED
    loose = compare(a, b, margin=0.01, alpha=0.4)
    assert estimate(d, 0.01, alpha=0.4).verdict is Verdict.BEATS
    assert loose.cells[0].verdict is Verdict.UNDECIDED


def test_the_family_is_the_launch_bound_cells() -> None:
    bound = Timing("ok", (20.0,), enqueue_ms=19.0, wait_ms=1.0)
    large = Cell("resnet152", "half", "train", 64)
    free = Timing("ok", (100.0,), enqueue_ms=20.0, wait_ms=80.0)
    a = arm("none", [{CELL: bound, large: free}] * 3)
    b = arm("static", [{CELL: Timing("ok", (10.0,)), large: free}] * 3)
    result = compare(a, b)
    assert result.family is not None
    assert result.family.ratio == pytest.approx(2.0)
    assert result.family_basis == "1 launch-bound cell"
    assert [cell.role for cell in result.cells] == [Role.LAUNCH_BOUND, Role.OTHER]
    assert verdict_line(result).startswith(
        "BEATS: static is faster than none: none takes 2.000x [2.000, 2.000] the time"
    )


def test_processes_of_one_round_count_as_one() -> None:
    a = ResultSet("a", tuple(Process(1, n, {CELL: Timing("ok", (ms,))}) for n, ms in enumerate((10.0, 40.0))))
    b = ResultSet("b", (Process(1, 0, {CELL: Timing("ok", (10.0,))}),))
    value = compare(a, b).cells[0].estimate
    assert value is not None
    assert value.ratio == pytest.approx(2.0)
    assert value.rounds == 1


def test_a_killed_round_is_left_out_of_the_family_only() -> None:
    other = Cell("resnet34", "half", "inference", 64)
    whole = {CELL: 10.0, other: 20.0}
    result = compare(arm("a", [whole, whole, whole, {CELL: 99.0}]), arm("b", [whole] * 4))
    assert result.verdict is Verdict.EQUIVALENT
    text = "not in every round: resnet34 half inference batch 64; family and control use complete rounds only"
    assert Note(NoteCode.INCOMPLETE_ROUNDS, text) in result.notes


def test_a_cell_that_ran_out_of_memory_is_said() -> None:
    large = Cell("resnet152", "half", "train", 64)
    a = arm("none", [{CELL: 10.0, large: 20.0}] * 3)
    b = arm("static", [{CELL: 10.0, large: Timing("oom")}] * 3)
    result = compare(a, b).cells[1]
    assert (result.estimate, result.verdict, result.status) == (None, Verdict.UNDECIDED, "oom")
    assert result.reason == "static: out of memory"


def test_without_a_timed_cell_nothing_is_decided() -> None:
    a = arm("none", [{CELL: Timing("oom")}])
    assert verdict_line(compare(a, a)) == "UNDECIDED: no cell was timed on both sides of none and none."


def test_no_common_cell_names_both_sides() -> None:
    with pytest.raises(InputError) as error:
        compare(arm("none", [{CELL: 1.0}]), arm("static", [{CONTROL: 1.0}]))
    assert error.value.problems == [
        "no common cell: none has resnet18 half inference batch 64; static has resnet18 double inference batch 64. "
        "Expected at least one cell on both sides. Compare runs of the same matrix."
    ]


TIMES = {CELL: 10.0}
OTHER = {CELL: 11.0}


@pytest.mark.parametrize(
    ("a", "b", "code", "text"),
    [
        pytest.param(
            arm("x", [TIMES], {"gpu": "RTX 3090"}),
            arm("y", [OTHER], {"gpu": "RTX 4090"}),
            NoteCode.GPUS_DIFFER,
            "the GPUs differ: x has RTX 3090, y has RTX 4090",
            id="mixed-gpus",
        ),
        pytest.param(
            arm("x", [TIMES], {"gpu_uuid": "GPU-1"}),
            arm("y", [OTHER], {"gpu_uuid": "GPU-2"}),
            NoteCode.GPU_CARDS_DIFFER,
            "the GPU cards differ: x has GPU-1, y has GPU-2",
            id="two-cards",
        ),
        pytest.param(
            arm("x", [TIMES] * 3),
            arm("y", [TIMES] * 3),
            NoteCode.SAME_NUMBERS,
            "both sides contain the same numbers: is it the same run twice?",
            id="same-numbers",
        ),
        pytest.param(
            arm("x", [{CONTROL: 110.0}]),
            arm("y", [{CONTROL: 100.0}]),
            NoteCode.CONTROL_DIFFERS,
            "the control's ratio is 1.100x: more than the CPU differs",
            id="control-without-interval",
        ),
        pytest.param(
            arm("x", [TIMES]),
            arm("y", [OTHER]),
            NoteCode.ONE_RUN,
            "steps of one run are not replicates: an interval needs 3 rounds of fresh processes",
            id="one-run",
        ),
        pytest.param(
            arm("x", [TIMES] * 2),
            arm("y", [OTHER] * 2),
            NoteCode.FEW_ROUNDS,
            "2 rounds: the first interim analysis is after 3",
            id="two",
        ),
        pytest.param(
            arm("x", [TIMES] * 4),
            arm("y", [OTHER] * 4),
            NoteCode.ROUNDS_UNUSED,
            "4 rounds: 3 are used, because interim analyses are after 3, 5, 8, 12 rounds",
            id="between-interim-analyses",
        ),
        pytest.param(
            arm("x", [TIMES] * 3),
            arm("y", [OTHER] * 3, run_id="r2"),
            NoteCode.DIFFERENT_RUNS,
            "the sides come from different runs: rounds are paired by number, and drift does not cancel out",
            id="two-runs",
        ),
        pytest.param(
            arm("x", [TIMES] * 3),
            arm("y", [OTHER] * 3),
            NoteCode.NO_CONTROL,
            "no negative control: nothing shows that the sides differ in the CPU only",
            id="no-control",
        ),
        pytest.param(
            arm("x", [TIMES | {CONTROL: 1.0}]),
            arm("y", [OTHER]),
            NoteCode.CELLS_LEFT_OUT,
            "only in x, left out: resnet18 double inference batch 64",
            id="lone-cell",
        ),
        pytest.param(
            arm("x", [TIMES], {"torch": "1.9", "cuda": "11"}),
            arm("y", [OTHER], {"torch": "2.5", "cuda": "11"}),
            NoteCode.ENVIRONMENTS_DIFFER,
            "the environments differ (x / y): torch 1.9 / 2.5",
            id="versions",
        ),
    ],
)
def test_what_a_reader_has_to_know_is_noted(a: ResultSet, b: ResultSet, code: NoteCode, text: str) -> None:
    assert Note(code, text) in compare(a, b).notes


def test_red_flags_are_what_makes_a_comparison_doubtful() -> None:
    assert {code for code in NoteCode if Note(code, "").red_flag} == {
        NoteCode.CONTROL_DIFFERS,
        NoteCode.GPU_CARDS_DIFFER,
        NoteCode.GPUS_DIFFER,
        NoteCode.SAME_NUMBERS,
        NoteCode.SEVERAL_GPU_CARDS,
    }


def resnets(ratios: Sequence[float], run_id: str = "r1", rounds: int = 1) -> Comparison:
    """The nine models, each ten ms slower than the one before, with these ratios."""
    cells = [Cell(model, "half", "inference", 64) for model in RESNETS]
    sizes = {cell: 10.0 * number for number, cell in enumerate(cells, 1)}
    slower: dict[Cell, float | Timing] = {cell: sizes[cell] * r for cell, r in zip(cells, ratios)}
    return compare(arm("a", [slower] * rounds), arm("b", [sizes] * rounds, run_id=run_id))


FALLING = [2.0 - 0.1 * n for n in range(9)]


@pytest.mark.parametrize(
    ("ratios", "run_id", "rounds", "code"),
    [
        pytest.param(
            FALLING,
            "r1",
            1,
            GradientCode.GROWS,
            id="grows",
        ),
        pytest.param(
            [1 / ratio for ratio in FALLING],
            "r1",
            1,
            GradientCode.GROWS,
            id="grows-with-the-sides-swapped",
        ),
        pytest.param(
            FALLING[::-1],
            "r1",
            1,
            GradientCode.FLAT,
            id="grows-with-size",
        ),
        pytest.param(
            [1.1 - 0.01 * n for n in range(9)],
            "r2",
            3,
            GradientCode.FLAT,
            id="no-more-than-drift",
        ),
        pytest.param(
            [1.1 - 0.01 * n for n in range(9)],
            "r1",
            3,
            GradientCode.GROWS,
            id="beyond-the-margin-in-interleaved-rounds",
        ),
        pytest.param(
            [1.5] * 4,
            "r1",
            1,
            GradientCode.NONE,
            id="too-few-models",
        ),
    ],
)
def test_the_gradient(ratios: list[float], run_id: str, rounds: int, code: GradientCode) -> None:
    assert resnets(ratios, run_id, rounds).gradient_code is code


@pytest.mark.parametrize(
    ("ratios", "conclusion"),
    [
        (
            FALLING,
            "The gap grows as models shrink (half inference): "
            "this points to the CPU side (launch-bound cells suffer most).",
        ),
        (
            FALLING[::-1],
            "The gap does not grow as models shrink, as it would if launching kernels had to wait for the CPU.",
        ),
        ([1.5] * 4, "No gradient: no precision and mode has 5 cells that differ."),
    ],
)
def test_the_gradient_in_words(ratios: list[float], conclusion: str) -> None:
    assert gradient_conclusion(resnets(ratios)) == conclusion


def test_the_seeds_conclusion(amd: Path, intel: Path) -> None:
    result = compare(read(str(amd)), read(str(intel)))
    ratios = {str(cell.cell): round(cell.estimate.ratio, 2) for cell in result.cells if cell.estimate}
    assert len(ratios) == 18
    assert ratios["resnet18 half train"] == 1.83
    assert ratios["resnet18 half inference"] == 2.06
    assert ratios["resnet152 half train"] == 1.09
    assert ratios["resnet152 half inference"] == 1.30
    assert result.verdict is Verdict.UNDECIDED
    assert verdict_line(result) == (
        "UNDECIDED: amd-epyc7773x-rtx3090 takes 1.04x to 2.06x the time of intel-rtx3090 over 18 cells, "
        "but one run gives no interval."
    )
    assert gradient_conclusion(result) == (
        "The gap grows as models shrink (half train, half inference): "
        "this points to the CPU side (launch-bound cells suffer most)."
    )
    assert {NoteCode.GPUS_DIFFER, NoteCode.GPU_CARDS_DIFFER}.isdisjoint(note.code for note in result.notes)
