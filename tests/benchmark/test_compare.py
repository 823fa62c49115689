# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sides: which cells count, the verdict, the control, and the notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmark.analysis import GradientCode, Role, Verdict
from benchmark.assess import assess_sides
from benchmark.compare import select_cells, side
from benchmark.experiment import Contrast, Experiment, Family, InvalidCode
from benchmark.pod.cells import RESNETS, Cell
from benchmark.readers import read
from benchmark.results import InputError, Note, NoteCode, Process, ResultSet, Scalar, Timing
from benchmark.wording import gradient_conclusion

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


def compare(a: ResultSet, b: ResultSet, allow_different: Sequence[str] = ()) -> Experiment:
    return assess_sides(a, b, allow_different=allow_different)


def contrast(a: ResultSet, b: ResultSet) -> Contrast:
    """The only contrast of two sides."""
    (found,) = compare(a, b).contrasts
    return found


@pytest.mark.parametrize(
    ("ratio", "rounds", "control", "noise", "verdict"),
    [
        pytest.param(1.5, 5, 1.0, 1, Verdict.BEATS, id="faster"),
        pytest.param(1 / 1.5, 5, 1.0, 1, Verdict.WORSE, id="slower"),
        pytest.param(1.01, 5, 1.0, 1, Verdict.EQUIVALENT, id="within-the-margin"),
        pytest.param(1.05, 5, 1.0, 1, Verdict.UNDECIDED, id="on-the-margin"),
        pytest.param(1.5, 5, 1.05, 1, Verdict.INVALID, id="control-slower"),
        pytest.param(1.5, 5, 1 / 1.05, 1, Verdict.INVALID, id="control-faster"),
        pytest.param(1.5, 5, 1.01, 1, Verdict.BEATS, id="control-within-two-percent"),
        pytest.param(1.1, 5, 1.0, 90, Verdict.UNDECIDED, id="too-noisy"),
        pytest.param(1.5, 4, 1.0, 1, Verdict.UNDECIDED, id="before-the-first-analysis"),
        pytest.param(1.5, 4, 1.05, 1, Verdict.UNDECIDED, id="control-before-the-first-analysis"),
        pytest.param(1.5, 5, None, 1, Verdict.BEATS, id="no-control"),
    ],
)
def test_verdicts(ratio: float, rounds: int, control: float | None, noise: float, verdict: Verdict) -> None:
    assert compare(*sides(ratio, rounds, control, noise)).verdict is verdict


@pytest.mark.parametrize(
    ("control", "noise", "proves"),
    [
        pytest.param(1.0, 1, True, id="within-two-percent"),
        pytest.param(1.0, 40, False, id="too-noisy-to-prove-anything"),
        pytest.param(1.019, 2, False, id="on-the-edge"),
        pytest.param(None, 1, False, id="none"),
    ],
)
def test_a_control_proves_something_only_within_its_margin(control: float | None, noise: float, proves: bool) -> None:
    result = compare(*sides(1.5, 8, control, noise))
    assert result.control_proves is proves
    assert not result.invalid
    codes = {note.code for note in result.notes}
    assert (NoteCode.CONTROL_PROVES_NOTHING in codes) is (control is not None and not proves)


def test_a_cell_has_an_interval_and_makes_no_claim() -> None:
    value = contrast(*sides(1.5, 5)).cells[0].estimate
    assert value is not None
    assert value.low is not None
    assert value.verdict is Verdict.UNDECIDED


LOADER = Cell("resnet50", "half", "train-loader", 64)
LAUNCH = Cell("resnet18", "half", "train", 64)


def test_the_verdict_is_about_the_input_pipeline_whatever_was_measured() -> None:
    """A cell whose step is all launching gains most, and is not what the verdict is about."""
    bound = Timing("ok", (30.0,), enqueue_ms=29.0, wait_ms=1.0)
    a = arm("none", [{LAUNCH: bound, LOADER: 20.0, CELL: 10.0, CONTROL: 5.0}] * 5)
    b = arm("static", [{LAUNCH: 10.0, LOADER: 10.0, CELL: 10.0, CONTROL: 5.0}] * 5)
    result = compare(a, b)
    assert [found.family for found in result.contrasts[0].families] == [
        Family.INPUT_PIPELINE,
        Family.LAUNCH,
        Family.OTHER,
        Family.CONTROL,
    ]
    assert result.contrasts[0].headline.cells == (LOADER,)
    assert result.contrasts[0].headline.estimate.ratio == pytest.approx(2.0)
    assert {cell.cell: cell.role for cell in result.contrasts[0].cells} == {
        LAUNCH: Role.OTHER,
        LOADER: Role.HEADLINE,
        CELL: Role.OTHER,
        CONTROL: Role.CONTROL,
    }


@pytest.mark.parametrize(
    ("cells", "headline"),
    [
        ([LOADER, LAUNCH, CELL], Family.INPUT_PIPELINE),
        ([LAUNCH, CELL], Family.LAUNCH),
        ([CELL, CONTROL], Family.OTHER),
        ([CONTROL], None),
    ],
)
def test_without_a_family_the_verdict_is_about_the_next(cells: list[Cell], headline: Family | None) -> None:
    a = arm("none", [dict.fromkeys(cells, 10.0)])
    assert select_cells([side(a)]).headline is headline


def test_without_a_gpu_nothing_is_a_control() -> None:
    a = arm("none", [{CONTROL: 10.0}] * 5, {"device": "cpu"})
    assert select_cells([side(a)]).families == {Family.OTHER: (CONTROL,)}


def test_the_ratio_of_each_round_is_kept() -> None:
    a = arm("none", [{LOADER: 20.0}, {LOADER: 30.0}])
    result = compare(a, arm("static", [{LOADER: 10.0}] * 2))
    assert result.contrasts[0].headline.by_round == {1: pytest.approx(2.0), 2: pytest.approx(3.0)}


def test_processes_of_one_round_count_as_one() -> None:
    a = ResultSet("a", tuple(Process(1, n, {CELL: Timing("ok", (ms,))}) for n, ms in enumerate((10.0, 40.0))))
    b = ResultSet("b", (Process(1, 0, {CELL: Timing("ok", (10.0,))}),))
    value = contrast(a, b).cells[0].estimate
    assert value is not None
    assert value.ratio == pytest.approx(2.0)
    assert value.rounds == 1


def test_tenants_of_one_round_count_as_one() -> None:
    """Two tenants do 1/10 + 1/40 steps per ms together, so a step of both takes 8 ms."""

    def tenants(*means: float) -> ResultSet:
        return ResultSet(
            "a", tuple(Process(1, 0, {CELL: Timing("ok", (ms,))}, n, len(means)) for n, ms in enumerate(means))
        )

    value = contrast(tenants(10.0, 40.0), tenants(8.0, 8.0)).cells[0].estimate
    assert value is not None
    assert value.ratio == pytest.approx(2.0)
    assert value.rounds == 1


def test_a_round_in_which_a_tenant_is_missing_does_not_count() -> None:
    whole = [Process(1, 0, {CELL: Timing("ok", (10.0,))}, tenant, 2) for tenant in (0, 1)]
    a = ResultSet("a", tuple(whole[:1]))
    assert compare(a, ResultSet("b", tuple(whole))).contrasts == ()


OTHER_LOADER = Cell("resnet18", "half", "train-loader", 64)
WHOLE: dict[Cell, float | Timing] = {LOADER: 10.0, OTHER_LOADER: 20.0}


def test_a_killed_process_costs_its_round_and_no_cell() -> None:
    result = compare(arm("a", [WHOLE] * 5 + [{LOADER: 99.0}] * 2), arm("b", [WHOLE] * 7))
    assert result.contrasts[0].headline.cells == (LOADER, OTHER_LOADER)
    assert result.contrasts[0].headline.estimate.ratio == pytest.approx(1.0)
    assert result.contrasts[0].headline.estimate.rounds == 5
    text = "round 6, 7 lacks a cell in one of the arms: it does not count for that family"
    assert Note(NoteCode.INCOMPLETE_ROUNDS, text) in result.notes


@pytest.mark.parametrize("status", ["oom", "skipped"])
def test_a_cell_that_fails_once_costs_that_round(status: str) -> None:
    failed = {**WHOLE, OTHER_LOADER: Timing("oom" if status == "oom" else "skipped")}
    result = compare(arm("a", [*[WHOLE] * 5, failed]), arm("b", [WHOLE] * 6))
    assert result.contrasts[0].headline.cells == (LOADER, OTHER_LOADER)
    assert result.contrasts[0].headline.estimate.rounds == 5


@pytest.mark.parametrize("status", ["oom", "skipped"])
def test_a_cell_that_fails_more_often_leaves_its_family_in_all_rounds(status: str) -> None:
    failed = {**WHOLE, OTHER_LOADER: Timing("oom" if status == "oom" else "skipped")}
    result = compare(arm("a", [WHOLE] * 7), arm("b", [*[WHOLE] * 5, failed, failed]))
    assert result.contrasts[0].headline.cells == (LOADER,)
    assert result.contrasts[0].headline.estimate.rounds == 7
    text = f"not timed in more than one round on a or on b, left out of all rounds: {OTHER_LOADER}"
    assert Note(NoteCode.CELLS_FAILED, text) in result.notes


def test_a_cell_that_ran_out_of_memory_is_said() -> None:
    large = Cell("resnet152", "half", "train", 64)
    a = arm("none", [{CELL: 10.0, large: 20.0}] * 5)
    b = arm("static", [{CELL: 10.0, large: Timing("oom")}] * 5)
    result = contrast(a, b).cells[1]
    assert (result.estimate, result.status, result.reason) == (None, "oom", "static: out of memory")


def test_without_a_timed_cell_nothing_is_decided() -> None:
    a = arm("none", [{CELL: Timing("oom")}])
    found = compare(a, a)
    assert found.verdict is Verdict.UNDECIDED
    assert found.sentence == "Not decided yet. No cell was timed in every arm: none, none."
    assert [item.text for item in found.advice] == ["Measure again with cells that all arms can time."]


def on_cards(label: str, rounds: Sequence[tuple[str, Mapping[Cell, float]]]) -> ResultSet:
    processes = tuple(
        Process(n, 0, {c: Timing("ok", (ms,)) for c, ms in cells.items()}, environment={**GPU, "gpu_uuid": card})
        for n, (card, cells) in enumerate(rounds, 1)
    )
    return ResultSet(label, processes, GPU, frozenset({"r1"}))


def test_where_the_card_differs_the_controls_difference_is_taken_out() -> None:
    """Card 2 is 5 % slower; nothing else differs."""
    fast, slow = {LOADER: 10.0, CONTROL: 4.0}, {LOADER: 10.5, CONTROL: 4.2}
    a = on_cards("a", [("1", fast), ("2", slow), ("1", fast), ("1", fast), ("1", fast), ("1", fast)])
    b = on_cards("b", [("1", fast), ("1", fast), ("2", slow), ("1", fast), ("1", fast), ("1", fast)])
    result = compare(a, b)
    assert list(result.contrasts[0].headline.by_round.values()) == pytest.approx([1.0] * 6)
    assert result.control is not None
    assert result.control.ratio == pytest.approx(1.0)
    assert result.control.rounds == 4
    assert NoteCode.CARD_TAKEN_OUT in [note.code for note in result.notes]
    assert not any(note.red_flag for note in result.notes if note.code is not NoteCode.SAME_NUMBERS)


def test_another_card_without_a_control_is_a_red_flag() -> None:
    result = compare(on_cards("a", [("1", {LOADER: 10.0})]), on_cards("b", [("2", {LOADER: 11.0})]))
    assert result.contrasts[0].headline.estimate.ratio == pytest.approx(10 / 11)
    assert [note.code for note in result.notes if note.red_flag] == [NoteCode.GPU_CARDS_DIFFER]


@pytest.mark.parametrize("factor", [1000.0, 0.001, 21.0])
def test_a_ratio_that_no_cpu_explains_is_refused(factor: float) -> None:
    with pytest.raises(InputError) as refused:
        compare(arm("none", [{CELL: 10.0 * factor}]), arm("static", [{CELL: 10.0}]))
    assert refused.value.problems == [
        f"resnet18 half inference batch 64: a step takes {factor:.3g} times as long on none as on static: expected 0.05 to 20. "
        "Convert both to ms, or compare runs of the same program."
    ]


def test_a_cpu_that_computes_may_be_as_much_slower() -> None:
    on_cpu = {"gpu": None, "device": "cpu"}
    result = compare(arm("none", [{CELL: 210.0}] * 6, on_cpu), arm("static", [{CELL: 10.0}] * 6, on_cpu))
    assert result.contrasts[0].headline.estimate.ratio == pytest.approx(21.0)


def test_another_unit_is_refused_on_a_cpu_too() -> None:
    on_cpu = {"gpu": None, "device": "cpu"}
    with pytest.raises(InputError, match=r"1e\+03 times as long on none as on static: expected 0.002 to 500"):
        compare(arm("none", [{CELL: 10000.0}], on_cpu), arm("static", [{CELL: 10.0}], on_cpu))


def test_another_model_of_gpu_may_be_as_much_faster_and_is_invalid() -> None:
    other = {"gpu": "NVIDIA TITAN Xp"}
    result = compare(arm("old", [{CELL: 310.0}], other), arm("new", [{CELL: 10.0}]))
    assert result.verdict is Verdict.INVALID


def shifted(ratio: float, run_id: str) -> Experiment:
    a, b = sides(ratio, 5)
    return compare(a, ResultSet(b.label, b.processes, b.environment, frozenset({run_id})))


@pytest.mark.parametrize(
    ("ratio", "run_id", "verdict", "margin"),
    [
        pytest.param(1.08, "r1", Verdict.BEATS, 0.05, id="interleaved"),
        pytest.param(1.08, "r2", Verdict.EQUIVALENT, 0.10, id="no-more-than-drift"),
        pytest.param(1.5, "r2", Verdict.BEATS, 0.10, id="more-than-drift"),
    ],
)
def test_before_and_after_have_a_wider_margin(ratio: float, run_id: str, verdict: Verdict, margin: float) -> None:
    result = shifted(ratio, run_id)
    assert (result.verdict, result.margin, result.interleaved) == (verdict, margin, run_id == "r1")


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
            "steps of one run are not replicates: an interval needs 5 rounds of fresh processes",
            id="one-run",
        ),
        pytest.param(
            arm("x", [TIMES] * 2),
            arm("y", [OTHER] * 2),
            NoteCode.FEW_ROUNDS,
            "2 rounds: the first interim analysis is after 5",
            id="two",
        ),
        pytest.param(
            arm("x", [TIMES] * 5),
            arm("y", [OTHER] * 5, run_id="r2"),
            NoteCode.DIFFERENT_RUNS,
            "not measured in turns: rounds are paired by number, and what else differed counts too, so the margin is wider",
            id="two-runs",
        ),
        pytest.param(
            arm("x", [TIMES] * 5),
            arm("y", [OTHER] * 5),
            NoteCode.NO_CONTROL,
            "no negative control: nothing shows that the sides differ in the CPU only",
            id="no-control",
        ),
        pytest.param(
            arm("x", [TIMES | {CONTROL: 1.0}]),
            arm("y", [OTHER]),
            NoteCode.CELLS_LEFT_OUT,
            "not in every arm, left out on x: resnet18 double inference batch 64",
            id="lone-cell",
        ),
    ],
)
def test_what_a_reader_has_to_know_is_noted(a: ResultSet, b: ResultSet, code: NoteCode, text: str) -> None:
    assert Note(code, text) in compare(a, b).notes


def test_red_flags_are_what_makes_a_comparison_doubtful() -> None:
    assert {code for code in NoteCode if Note(code, "").red_flag} == {
        NoteCode.CONTROL_DIFFERS,
        NoteCode.GPU_CARDS_DIFFER,
        NoteCode.SAME_NUMBERS,
    }


def resnets(ratios: Sequence[float], run_id: str = "r1", rounds: int = 1) -> Experiment:
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
            [1.2 - 0.02 * n for n in range(9)],
            "r2",
            5,
            GradientCode.FLAT,
            id="no-more-than-drift",
        ),
        pytest.param(
            [1.2 - 0.02 * n for n in range(9)],
            "r1",
            5,
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
    assert resnets(ratios, run_id, rounds).contrasts[0].gradient_code is code


@pytest.mark.parametrize(
    ("ratios", "conclusion"),
    [
        (
            FALLING,
            "The gap grows as models shrink (half inference): "
            "small models suffer most, as if launching kernels had to wait for the CPU.",
        ),
        (
            FALLING[::-1],
            "The gap does not grow as models shrink, as it would if launching kernels had to wait for the CPU.",
        ),
        ([1.5] * 4, "No gradient: no precision and mode has 5 cells that differ."),
    ],
)
def test_the_gradient_in_words(ratios: list[float], conclusion: str) -> None:
    (found,) = resnets(ratios).contrasts
    assert gradient_conclusion(found.gradient, found.gradient_code) == conclusion


def test_the_seeds_conclusion(amd: Path, intel: Path) -> None:
    result = compare(read(str(amd)), read(str(intel)))
    ratios = {str(cell.cell): round(cell.estimate.ratio, 2) for cell in result.contrasts[0].cells if cell.estimate}
    assert len(ratios) == 18
    assert ratios["resnet18 half train"] == 1.83
    assert ratios["resnet18 half inference"] == 2.06
    assert ratios["resnet152 half train"] == 1.09
    assert ratios["resnet152 half inference"] == 1.30
    assert result.verdict is Verdict.UNDECIDED
    assert result.sentence == (
        "Not decided yet. intel-rtx3090: about 1.35 times as fast as amd-epyc7773x-rtx3090, no interval yet. "
        "1 round where a loader feeds the GPU."
    )
    assert [item.text for item in result.advice] == ["Continue measuring: the next analysis is after 5 rounds."]


def test_another_gpu_is_no_comparison_unless_it_is_allowed() -> None:
    a, b = arm("x", [TIMES] * 5, {"gpu": "RTX 3090"}), arm("y", [OTHER] * 5, {"gpu": "RTX 4090"})
    result = compare(a, b)
    assert result.verdict is Verdict.INVALID
    assert [reason.code for reason in result.invalid] == [InvalidCode.GPU_DIFFERS]
    assert result.sentence == (
        "Not a fair measurement: gpu differs: RTX 3090 on x, RTX 4090 on y. Measure both with the same, or allow it by name "
        "(--allow-different gpu)."
    )
    assert compare(a, b, allow_different=["gpu"]).verdict is Verdict.WORSE
