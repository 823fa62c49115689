# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON lines: what is read, and what is refused in which words."""

from __future__ import annotations

import json

import pytest

from benchmark.pod.cells import Cell
from benchmark.readers import parse_arms, parse_json_lines
from benchmark.results import Note, NoteCode
from tests.benchmark.readers.samples import (
    BLOCK,
    CELL,
    COMMON,
    END_LINE,
    PROCESS,
    block_without,
    lines,
    measured,
    refused,
)


def test_json_lines() -> None:
    more = BLOCK | {
        "visit": 1,
        "iter_ms": [4.0],
        "reason": None,
        "enqueue_ms": [3.5],
        "wait_ms": [0.5],
        "control": True,
    }
    text = lines(PROCESS, more, BLOCK, BLOCK | {"round": 2}, PROCESS | {"round": 2, "env": {"threads": 128}})
    result = parse_json_lines({"f": text + '{"schema": 1, "ki'}, "x")
    timing = result.processes[0].timings[CELL]
    assert [(process.round, process.index) for process in result.processes] == [(1, 0), (2, 0)]
    assert (timing.iter_ms, timing.mean_ms, timing.control) == ((3.0, 5.0, 4.0), 4.0, True)
    assert (timing.enqueue_ms, timing.wait_ms) == (3.5, 0.5)
    assert result.environment == {"gpu": "NVIDIA H200", "threads": "12, 128"}
    assert result.notes == (
        Note(NoteCode.LAST_LINE_CUT, "f:6: the last line is incomplete and was ignored"),
        Note(NoteCode.PROCESSES_ENDED_EARLY, "x: processes that ended early: 2 of 2; their complete blocks count"),
    )


@pytest.mark.parametrize("status", ["oom", "skipped"])
def test_a_block_that_failed_makes_the_cell_fail(status: str) -> None:
    result = parse_json_lines({"f": measured(BLOCK, block_without("iter_ms") | {"status": status, "visit": 1})}, "x")
    assert result.processes[0].timings[CELL].status == status


LOADER = BLOCK | {
    "mode": "train-loader",
    "iter_ms": [10.0, 12.0],
    "data_ms": [4.0, 5.0],
    "h2d_ms": [1.0, 1.5],
    "enqueue_ms": [3.0, 3.5],
    "wait_ms": [2.0, 2.0],
}


def test_the_fields_of_a_block() -> None:
    counters = {"periods": 20, "throttled_periods": 8, "cpu_mhz": None}
    block = LOADER | {"started": 1.7e9, "order": 3, "counters": counters}
    found = parse_json_lines({"f": lines(PROCESS, block, END_LINE)}, "x")
    timing = found.processes[0].timings[Cell("resnet18", "half", "train-loader", 64)]
    assert timing.blocks[0].parts_ms == {"data": 9.0, "h2d": 2.5, "enqueue": 6.5, "wait": 4.0}
    assert timing.blocks[0].counters == {"periods": 20, "throttled_periods": 8}
    assert (timing.blocks[0].started, found.arm, found.notes) == (1.7e9, "static", ())


def test_a_loader_cell_also_counts_as_the_original_times_it() -> None:
    timings = parse_json_lines({"f": measured(LOADER)}, "x").processes[0].timings
    step = timings[Cell("resnet18", "half", "train-step", 64)]
    assert (step.iter_ms, step.derived, step.enqueue_ms, step.wait_ms) == ((6.0, 7.0), True, 6.5, 4.0)
    assert not timings[Cell("resnet18", "half", "train-loader", 64)].derived


def test_a_loader_cell_without_its_parts_has_nothing_derived() -> None:
    bare = {key: value for key, value in LOADER.items() if key != "h2d_ms"}
    assert parse_json_lines({"f": measured(bare)}, "x").cells() == [Cell("resnet18", "half", "train-loader", 64)]


def test_a_pair_around_a_switch_has_a_run_an_arm() -> None:
    before, after = BLOCK | {"arm": "none", "run_id": "r1-before"}, BLOCK | {"run_id": "r1-after"}
    arms = parse_arms({"b": measured(before), "a": measured(after)})
    assert {name: set(arm.run_ids) for name, arm in arms.items()} == {"static": {"r1-after"}, "none": {"r1-before"}}
    text = {"f": measured(before, after, after | {"run_id": "r2"})}
    assert refused(lambda: parse_arms(text)) == [
        "f: has arm static of the runs r1-after, r2: expected one, because rounds are numbered by run. Name its file."
    ]


def test_rounds_on_a_cpu_may_differ_by_more_than_those_on_a_gpu() -> None:
    first, second = (PROCESS | {"round": number, "env": {"gpu": None, "device": "cpu"}} for number in (1, 2))
    text = lines(first, BLOCK, second, BLOCK | {"round": 2, "iter_ms": [300.0, 500.0]})
    found = parse_json_lines({"f": text}, "x")
    assert [process.timings[CELL].iter_ms for process in found.processes] == [(3.0, 5.0), (300.0, 500.0)]
    seconds = lines(first, BLOCK, second, BLOCK | {"round": 2, "iter_ms": [3000.0, 5000.0]})
    (problem,) = refused(lambda: parse_json_lines({"f": seconds}, "x"))
    assert "takes 4000 ms a step, but 4 ms in f:2: expected the same unit, and at most 500 times as long" in problem


def test_several_cards_of_one_kind_are_noted() -> None:
    card = {"gpu": "NVIDIA H200", "gpu_uuid": "GPU-1"}
    other = PROCESS | {"round": 2, "env": card | {"gpu_uuid": "GPU-2"}}
    text = lines(PROCESS | {"env": card}, BLOCK, END_LINE, other, END_LINE | {"round": 2})
    (note,) = parse_json_lines({"f": text}, "x").notes
    assert note.code == NoteCode.SEVERAL_GPU_CARDS
    assert note.text == "x: several GPU cards (GPU-1, GPU-2): cards of one model differ by 2 to 5 %"


LINE_OUT = "Correct it, or remove the line."


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            lines(BLOCK).replace("[3.0", f"[{10**400}"),
            [
                f"f:1: iter_ms is {json.dumps([10**400])[:57]}...: expected a list of ms, each above 0 and up to 1e6. {LINE_OUT}"
            ],
            id="a-number-beyond-every-float",
        ),
        pytest.param(
            "[" * 100_000 + "\n",
            [f"f:1: {'[' * 57}... is not JSON: expected one object per line. Remove it."],
            id="nested",
        ),
        pytest.param("{oops\n", ["f:1: {oops is not JSON: expected one object per line. Remove it."], id="no-json"),
        pytest.param(
            lines(BLOCK | {"schema": 2})[:-1],
            [
                "f:1: "
                + json.dumps(BLOCK | {"schema": 2})[:57]
                + "...: expected an object with schema 1 and kind process, block or end. "
                "Read it with the version that wrote it, or remove it."
            ],
            id="another-schema",
        ),
        pytest.param(
            '{"schema": 1, "kind": []}\n[]\n',
            [
                f"f:{number}: {line}: expected an object with schema 1 and kind process, block or end. "
                "Read it with the version that wrote it, or remove it."
                for number, line in ((1, '{"schema": 1, "kind": []}'), (2, "[]"))
            ],
            id="another-kind",
        ),
        pytest.param(
            lines(block_without("model") | {"batch": 0, "round": True}),
            [
                f"f:1: round is true: expected an integer from 1. {LINE_OUT}",
                "f:1: model is missing: expected text that is not empty. Add it, or remove the line.",
                f"f:1: batch is 0: expected an integer from 1. {LINE_OUT}",
            ],
            id="several-keys",
        ),
        pytest.param(
            lines(BLOCK | {"precision": "fp16", "status": "fine", "control": 1}),
            [
                f'f:1: precision is "fp16": expected one of half, float, double. {LINE_OUT}',
                f'f:1: status is "fine": expected one of ok, oom, skipped. {LINE_OUT}',
                f"f:1: control is 1: expected true or false. {LINE_OUT}",
            ],
            id="other-words",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [3.0, float("nan")]}),
            [f"f:1: iter_ms is [3.0, NaN]: expected a list of ms, each above 0 and up to 1e6. {LINE_OUT}"],
            id="nan",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [3000000]}),
            [f"f:1: iter_ms is [3000000]: expected a list of ms, each above 0 and up to 1e6. {LINE_OUT}"],
            id="nanoseconds",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [0.003, 0.005]}),
            [
                "f:1: iter_ms is 0.004 on average: milliseconds of a step are 0.1 or more. "
                "Convert the file to ms, or run the benchmark again."
            ],
            id="seconds",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [3000.0, 5000.0], "counters": {"wall_ms": 8.1}}),
            [
                "f:1: iter_ms adds up to 8000 in a block of wall_ms 8.1: expected the same unit, ms. "
                "Convert the file to ms, or run the benchmark again."
            ],
            id="microseconds",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [0.3, 0.5], "counters": {"wall_ms": 810.0}}),
            [
                "f:1: iter_ms adds up to 0.8 in a block of wall_ms 810: expected the same unit, ms. "
                "Convert the file to ms, or run the benchmark again."
            ],
            id="seconds-of-long-steps",
        ),
        pytest.param(
            lines(BLOCK | {"counters": {"wall_ms": "8"}, "order": -1, "started": "now", "reason": 7}),
            [
                f"f:1: order is -1: expected an integer from 0. {LINE_OUT}",
                f'f:1: started is "now": expected seconds since 1970. {LINE_OUT}',
                f"f:1: reason is 7: expected a text. {LINE_OUT}",
                f'f:1: counters is {{"wall_ms": "8"}}: expected an object of numbers and null. {LINE_OUT}',
            ],
            id="fields-of-a-block",
        ),
        pytest.param(
            lines(COMMON | {"kind": "end", "status": "fine"}),
            [f'f:1: status is "fine": expected one of done. {LINE_OUT}'],
            id="end",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": []}),
            ["f:1: iter_ms is missing or empty: expected ms for status ok. Set the status to skipped."],
            id="no-times",
        ),
        pytest.param(
            lines(BLOCK | {"wait_ms": [1.0]}),
            ["f:1: wait_ms has 1 value: expected 2, as iter_ms has. Remove wait_ms."],
            id="lengths",
        ),
        pytest.param(
            lines(BLOCK | {"iter_ms": [10.0] * 20}),
            [
                "f:1: iter_ms: all 20 steps take 10 ms: expected measured times, which differ. "
                "Use the times of each step, or run the benchmark again."
            ],
            id="constant",
        ),
        pytest.param(
            lines(BLOCK | {"enqueue_ms": [2900.0, 3000.0], "wait_ms": [100.0, 2000.0]}),
            [
                "f:1: enqueue_ms, wait_ms add up to 8000, iter_ms to 8: expected parts of the same steps in the same "
                "unit, ms. Convert the file to ms, or run the benchmark again."
            ],
            id="parts-in-another-unit",
        ),
        pytest.param(
            lines(
                BLOCK | {"tenant": 2, "tenants": 2, "load": "full"}, BLOCK | {"visit": -1, "slot": "x", "load": "all"}
            ),
            [
                f"f:1: tenant is 2: expected less than tenants, which is 2. {LINE_OUT}",
                f'f:2: load is "all": expected one of solo, full, busy. {LINE_OUT}',
                f"f:2: visit is -1: expected an integer from 0. {LINE_OUT}",
                f'f:2: slot is "x": expected an integer from 0. {LINE_OUT}',
            ],
            id="place-on-a-full-node",
        ),
        pytest.param(
            lines(PROCESS | {"began": 0}, END_LINE | {"ended": "now"}),
            [
                f"f:1: began is 0: expected seconds since 1970. {LINE_OUT}",
                f'f:2: ended is "now": expected seconds since 1970. {LINE_OUT}',
            ],
            id="moments",
        ),
        pytest.param(
            lines(PROCESS | {"env": {"cpus": [1]}}),
            [
                'f:1: env is {"cpus": [1]}: expected an object of texts, numbers, true, false and null. '
                "Correct it, or remove the line."
            ],
            id="env",
        ),
        pytest.param(
            measured(BLOCK, BLOCK | {"arm": "none"}),
            ["f: has the arms static, none: expected one. Name it after an @: f@static"],
            id="two-arms",
        ),
        pytest.param(
            measured(BLOCK, BLOCK | {"run_id": "r2"}),
            ["f: has the runs r1, r2: expected one, because rounds are numbered by run. Name its file."],
            id="two-runs",
        ),
        pytest.param(
            lines(PROCESS, BLOCK, PROCESS | {"round": 2, "env": {"gpu": "NVIDIA A100"}}),
            [
                "f: has results of 2 GPU models (NVIDIA A100, NVIDIA H200): expected one. "
                "Copy the files of each into a separate folder."
            ],
            id="mixed-gpus",
        ),
        pytest.param(
            lines(PROCESS),
            ["f: has no block at all: expected lines of kind block. Name another arm or file."],
            id="no-blocks",
        ),
    ],
)
def test_json_lines_that_are_refused(text: str, problems: list[str]) -> None:
    assert refused(lambda: parse_json_lines({"f": text}, "x")) == problems


def test_the_tenants_of_a_full_node_are_processes_of_their_own() -> None:
    full = {"load": "full", "tenants": 2}
    blocks = [
        BLOCK | {"iter_ms": [3.0]},
        BLOCK | full | {"tenant": 1, "slot": 4, "iter_ms": [5.0]},
        BLOCK | full | {"tenant": 0, "slot": 4, "iter_ms": [4.0]},
    ]
    ready = COMMON | {"kind": "ready", "tenant": 1, "tenants": 1, "load": "solo"}
    found = parse_json_lines({"f": lines(ready) + measured(*blocks)}, "x")
    assert [(one.load, one.tenant, one.tenants, one.timings[CELL].mean_ms) for one in found.processes] == [
        ("full", 0, 2, 4.0),
        ("full", 1, 2, 5.0),
        ("solo", 0, 1, 3.0),
    ]


@pytest.mark.parametrize(
    ("second_round", "codes"),
    [((1, 0), []), ((1, 2), [NoteCode.SEVERAL_GPU_CARDS])],
    ids=["the same cards in another order", "another card"],
)
def test_the_tenants_of_a_full_node_have_its_cards_in_any_order(
    second_round: tuple[int, int], codes: list[NoteCode]
) -> None:
    text = "".join(
        lines(PROCESS | place | {"env": {"gpu_uuid": f"GPU-{card}"}}, BLOCK | place, END_LINE | place)
        for number, cards in ((1, (0, 1)), (2, second_round))
        for tenant, card in enumerate(cards)
        for place in [{"load": "full", "tenants": 2, "tenant": tenant, "round": number}]
    )
    found = parse_json_lines({"f": text}, "x")
    assert [note.code for note in found.notes] == codes
    assert str(found.environment["gpu_uuid"]).startswith("GPU-0, GPU-1")


def test_when_a_process_ran_and_in_which_environment() -> None:
    start = PROCESS | {"env": {"started": "2026-01-01T00:00:00Z", "threads": 4}}
    block = BLOCK | {"started": 1767225602.0, "counters": {"wall_ms": 8.5}}
    (found,) = parse_json_lines({"f": lines(start, block, END_LINE)}, "x").processes
    assert found.started == 1767225600.0
    assert found.ended == pytest.approx(1767225602.0085)
    assert found.environment["threads"] == 4
    text = lines(start | {"began": 1767225601.5}, block, END_LINE | {"ended": 1767225610.0})
    (found,) = parse_json_lines({"f": text}, "x").processes
    assert (found.started, found.ended) == (1767225601.5, 1767225610.0)
    (found,) = parse_json_lines({"f": lines(PROCESS, BLOCK)}, "x").processes
    assert (found.started, found.ended) == (None, None)


TEN = [3.0 + step / 7 for step in range(10)]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            lines(PROCESS, BLOCK, BLOCK, BLOCK | {"visit": 1}, BLOCK | {"visit": 1, "iter_ms": [7.0]}),
            [
                "f:3: repeats f:2: resnet18 half inference batch 64, visit 0 of run r1, arm static, round 1, process 0, "
                "and 1 more line: expected each once. Remove the lines that were added."
            ],
            id="a-block-twice",
        ),
        pytest.param(
            measured(BLOCK | {"tenant": 1, "tenants": 2, "load": "full"}) * 2,
            [
                "f:4: repeats f:2: resnet18 half inference batch 64, visit 0 of run r1, arm static, round 1, process 0, "
                "tenant 1, load full: expected each once. Remove the lines that were added."
            ],
            id="a-tenant-twice",
        ),
        pytest.param(
            measured(*(BLOCK | {"round": number, "iter_ms": TEN} for number in (1, 2, 3))),
            [
                f"f:{line}: the 10 steps of resnet18 half inference batch 64 in run r1, arm static, round {number}, "
                "process 0 take exactly the times of f:4, run r1, arm static, round 1, process 0: expected times of its "
                "own. Measure that round again, or remove it."
                for line, number in ((5, 2), (6, 3))
            ],
            id="a-round-copied",
        ),
        pytest.param(
            measured(*(BLOCK | {"round": number, "model": m, "iter_ms": TEN} for number, m in ((1, "a"), (2, "b")))),
            [
                "f:4: the 10 steps of b half inference batch 64 in run r1, arm static, round 2, process 0 take exactly the "
                "times of f:3, run r1, arm static, round 1, process 0: expected times of its own. "
                "Measure that round again, or remove it."
            ],
            id="a-cell-copied",
        ),
        pytest.param(
            lines(PROCESS, BLOCK, BLOCK | {"round": 2}, BLOCK | {"round": 2, "visit": 1}, END_LINE | {"round": 3}),
            [
                "f:3: 2 lines of run r1, arm static, round 2, process 0 without its line of kind process: expected that "
                "line, which a process writes first. Give all files of the run, or remove the lines.",
                "f:5: 1 line of run r1, arm static, round 3, process 0 without its line of kind process: expected that "
                "line, which a process writes first. Give all files of the run, or remove the lines.",
            ],
            id="blocks-of-no-process",
        ),
        pytest.param(
            measured(BLOCK, BLOCK | {"round": 2, "iter_ms": [300.0, 500.0]}),
            [
                "f:4: resnet18 half inference batch 64 of arm static takes 400 ms a step, but 4 ms in f:3: expected the "
                "same unit, and at most 20 times as long. Convert the lines to ms, or measure again."
            ],
            id="a-round-in-another-unit",
        ),
    ],
)
def test_lines_that_are_refused_together(text: str, problems: list[str]) -> None:
    assert refused(lambda: parse_json_lines({"f": text}, "x")) == problems


def test_few_equal_steps_may_be_a_coincidence() -> None:
    blocks = [BLOCK | {"round": number, "iter_ms": [3.5, 3.5, 3.5, 3.5]} for number in (1, 2)]
    assert len(parse_json_lines({"f": measured(*blocks)}, "x").processes) == 2


def test_a_time_of_another_load_or_arm_is_no_problem() -> None:
    slow = {"iter_ms": [99.0, 99.5]}
    blocks = [BLOCK, BLOCK | {"load": "busy"} | slow, BLOCK | {"arm": "none"} | slow]
    assert set(parse_arms({"f": measured(*blocks)})) == {"static", "none"}
