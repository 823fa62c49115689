# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read, and what is refused in which words."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.pod.cells import Cell
from benchmark.readers import parse_arms, parse_csv_folder, parse_json_lines, parse_log, read, read_arms
from benchmark.results import InputError, Note, NoteCode

HEAD = "Benchmarking Training half precision type resnet18 \n"
TIME = "resnet18 model average train time : 75.7ms\n"
END = "benchmark end : 2022/11/17 06:23:29\n"
TABLE = "NVIDIA A_1_gpus__half_model_train_benchmark.csv"


def refused(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as error:
        call()
    return error.value.problems


def test_a_log(amd: Path) -> None:
    result = read(str(amd))
    assert result.environment == {
        "started": "2022/11/17 06:14:11",
        "ended": "2022/11/17 06:23:29",
        "gpus_visible": "1",
        "cuda": "11.1",
        "cudnn": "8005",
        "gpu": "NVIDIA GeForce RTX 3090",
        "node": "925b73b78805",
        "release": "5.15.0-43-generic",
        "cpu_count": "256",
        "memory_available": "485026041856",
    }
    assert len(result.cells()) == 18
    assert result.processes[0].timings[Cell("resnet18", "half", "train")].iter_ms == (75.70790767669678,)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            HEAD + "resnet18 model average train time : 0.0757s\n" + END,
            [
                "log:2: time '0.0757s' of resnet18: expected a number and the unit ms. "
                "Convert the log to ms, or run the benchmark again.",
                "log: incomplete; missing cells (1): half train: resnet18. "
                "Run it again to its end, or accept it as it is with --partial.",
            ],
            id="seconds",
        ),
        pytest.param(
            HEAD + "resnet18 model average train time : 0.0757ms\n" + END,
            [
                "log:2: resnet18 half train: 0.0757 cannot be the milliseconds of a step: expected 0.1 to 1e+06. "
                "Convert the file to ms, or run the benchmark again.",
                "log: incomplete; missing cells (1): half train: resnet18. "
                "Run it again to its end, or accept it as it is with --partial.",
            ],
            id="seconds-called-ms",
        ),
        pytest.param(
            HEAD + TIME + HEAD + TIME + END,
            [
                "log:4: resnet18 half train for the second time: expected one run per log. Split the log, one file per run."
            ],
            id="two-runs",
        ),
        pytest.param(
            TIME + END,
            [
                "log:1: time of resnet18 train follows no cell line: "
                "expected its 'Benchmarking ...' line before it. Use the complete, unsorted log."
            ],
            id="no-cell-line",
        ),
        pytest.param(
            HEAD + TIME + TIME.replace("18", "34") + END,
            [
                "log:3: time of resnet34 train follows the line of resnet18 half train: "
                "expected its 'Benchmarking ...' line before it. Use the complete, unsorted log."
            ],
            id="of-another-cell",
        ),
        pytest.param(
            "hello\n",
            [
                "log: has no line 'Benchmarking ... precision type ...': expected the stdout of the original "
                "benchmark. Name the file that it was redirected to."
            ],
            id="no-log",
        ),
        pytest.param(
            HEAD + TIME + HEAD.replace("18", "34") + "RuntimeError: CUDA out of memory\n" + END,
            [
                "log: incomplete; missing cells (1): half train: resnet34. "
                "Run it again to its end, or accept it as it is with --partial."
            ],
            id="a-cell-failed",
        ),
    ],
)
def test_logs_that_are_refused(text: str, problems: list[str]) -> None:
    assert refused(lambda: parse_log(text, "log", "x")) == problems


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("resnet18  model average train time :  75.7 ms\n", id="as-printed-until-2020"),
        pytest.param("resnet18 model average train time: 75.7 ms\n", id="no-space-before-the-colon"),
        pytest.param("epoch 3: resnet18 model average train time : 75.7ms \r\n", id="after-other-words"),
    ],
)
def test_times_in_older_formats(line: str) -> None:
    result = parse_log(HEAD + line + END, "log", "x")
    assert result.processes[0].timings[Cell("resnet18", "half", "train")].iter_ms == (75.7,)


@pytest.mark.parametrize("time", ["75.7 images/sec", "75.7", "75.7 s", "nan ms", "ms"])
def test_a_time_that_is_not_in_ms_is_refused_and_not_missing(time: str) -> None:
    problems = refused(lambda: parse_log(f"{HEAD}resnet18  model average train time :  {time}\n{END}", "log", "x"))
    assert problems[0] == (
        f"log:2: time '{time}' of resnet18: expected a number and the unit ms. "
        "Convert the log to ms, or run the benchmark again."
    )


@pytest.mark.parametrize("line", ["x" * 50_000, "a model average train time : " + "9" * 50_000, "1" * 50_000 + "ms"])
def test_a_long_line_is_read_at_once(line: str) -> None:
    started = time.thread_time()
    with contextlib.suppress(InputError):
        parse_log(HEAD + line + "\n" + TIME + END, "log", "x")
    assert time.thread_time() - started < 1


@given(st.text(max_size=200), st.text(alphabet='\r\n,0123456789.en"x', max_size=60))
def test_any_text_is_read_or_refused(text: str, table: str) -> None:
    for call in (
        lambda: parse_log(HEAD + text, "log", "x"),
        lambda: parse_json_lines({"f": text}, "x"),
        lambda: parse_json_lines({"f": lines(BLOCK) + '{"schema": 1, ' + text}, "x"),
        lambda: parse_csv_folder({TABLE: table}, "run", "x", text, text),
    ):
        with contextlib.suppress(InputError):
            call()


CUT = HEAD + TIME + HEAD.replace("18", "34") + "resnet34 model average train time : 8"
CUT_WORDS = (
    "log: cut, it has no line 'benchmark end'; missing cells (17): half train: resnet34, resnet50, resnet101, resnet152, "
    "resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2; half inference: resnet18, resnet34, resnet50, "
    "resnet101, resnet152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2"
)


def test_a_cut_log_names_what_it_lacks() -> None:
    remedy = ". Run it again to its end, or accept it as it is with --partial."
    assert refused(lambda: parse_log(CUT, "log", "x")) == [CUT_WORDS + remedy]
    result = parse_log(CUT, "log", "x", partial=True)
    assert result.cells() == [Cell("resnet18", "half", "train")]
    assert result.notes == (Note(NoteCode.LOG_INCOMPLETE, CUT_WORDS),)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_with_the_line_ends_of_any_system(end: str) -> None:
    result = parse_csv_folder({TABLE: end.join(["resnet18,resnet34", "20.5,30.5", ""])}, "run", "x")
    assert result.processes[0].timings[Cell("resnet34", "half", "train")].iter_ms == (30.5,)


def test_the_original_folder(published: Path) -> None:
    result = read(str(published))
    timing = result.processes[0].timings[Cell("resnet18", "half", "inference")]
    assert (len(timing.iter_ms), timing.iter_ms[0]) == (50, 4.509449005126953)
    assert len(result.cells()) == 96
    assert result.environment["gpu"] == "GeForce RTX 2080 Ti"
    assert result.environment["cpu_count"] == "24"
    assert result.notes == ()


@pytest.mark.parametrize(
    ("files", "config", "problems"),
    [
        pytest.param(
            {TABLE: "resnet18,resnet34\n20.1,30.2\n20.1,n/a\n20.1\n"},
            None,
            [
                f"run/{TABLE}: row 3, column 'resnet34': 'n/a' is not a number: expected ms. "
                "Remove the column, or run it again.",
                f"run/{TABLE}: row 4 has 1 values: expected 2, one per model. Remove the row, or run it again.",
            ],
            id="no-number-and-short-row",
        ),
        pytest.param(
            {TABLE: "resnet18\nnan\n"},
            None,
            [
                f"run/{TABLE}: row 2, column 'resnet18': 'nan' is not a number: expected ms. "
                "Remove the column, or run it again."
            ],
            id="nan",
        ),
        pytest.param(
            {TABLE: "resnet18,resnet34\n0.02,30\n0.03,30\n"},
            None,
            [
                f"run/{TABLE}: column 'resnet18', 2 values, first: 0.02 cannot be the milliseconds of a step: "
                "expected 0.1 to 1e+06. Convert the file to ms, or run the benchmark again."
            ],
            id="seconds",
        ),
        pytest.param(
            {TABLE: 'resnet18\n"' + "9" * 200_000 + "\n"},
            None,
            [f"run/{TABLE}: is no CSV table: field larger than field limit (131072). Copy the original's file again."],
            id="an-endless-field",
        ),
        pytest.param(
            {TABLE: "resnet18\n"},
            None,
            [f"run/{TABLE}: has no times: expected a header of models and a row per step. Run it again."],
            id="no-rows",
        ),
        pytest.param(
            {TABLE: "resnet18,resnet18\n20,20\n"},
            None,
            [f"run/{TABLE}: column 'resnet18' twice: expected each model once. Remove one."],
            id="model-twice",
        ),
        pytest.param(
            {"x_benchmark.csv": "resnet18\n20\n"},
            None,
            [
                "run/x_benchmark.csv: expected a name like 'NVIDIA A100_1_gpus__half_model_train_benchmark.csv' with "
                "half, float or double, and train or inference. Rename it, or remove it from the folder."
            ],
            id="name",
        ),
        pytest.param(
            {TABLE: "resnet18\n20\n", TABLE.replace("A_1", "B_2"): "resnet18\n20\n"},
            None,
            [
                "run: has results of 2 setups (1 x NVIDIA A, 2 x NVIDIA B): expected one. "
                "Copy the files of each into a separate folder."
            ],
            id="mixed-gpus",
        ),
        pytest.param(
            {TABLE: "resnet18\n20\n"},
            "[]",
            [
                "run/config.json: expected a JSON object with BATCH_SIZE, as the original writes it. "
                "Copy the run's own file there, or remove this one."
            ],
            id="config",
        ),
    ],
)
def test_folders_that_are_refused(files: dict[str, str], config: str | None, problems: list[str]) -> None:
    assert refused(lambda: parse_csv_folder(files, "run", "x", config=config)) == problems


def test_a_folder_without_system_info_is_noted() -> None:
    result = parse_csv_folder({TABLE: "resnet18\n20\n"}, "run", "x", config='{"BATCH_SIZE": 64}')
    assert result.environment == {"gpu": "NVIDIA A", "batch": 64}
    text = "run: no system_info.txt: only the GPU's name is known of its environment"
    assert result.notes == (Note(NoteCode.NO_SYSTEM_INFO, text),)


COMMON = {"schema": 1, "run_id": "r1", "arm": "static", "round": 1, "process": 0}
BLOCK = COMMON | {
    "kind": "block",
    "model": "resnet18",
    "precision": "half",
    "mode": "inference",
    "batch": 64,
    "status": "ok",
    "iter_ms": [3.0, 5.0],
}
PROCESS = COMMON | {"kind": "process", "env": {"gpu": "NVIDIA H200", "threads": 12}}
CELL = Cell("resnet18", "half", "inference", 64)


def lines(*objects: object) -> str:
    return "".join(json.dumps(line) + "\n" for line in objects)


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in BLOCK.items() if name != key}


def test_json_lines() -> None:
    more = BLOCK | {"iter_ms": [4.0], "reason": None, "enqueue_ms": [3.5], "wait_ms": [0.5], "control": True}
    text = lines(PROCESS, BLOCK, more, BLOCK | {"round": 2}, PROCESS | {"round": 2, "env": {"threads": 128}})
    result = parse_json_lines({"f": text + '{"schema": 1, "ki'}, "x")
    timing = result.processes[0].timings[CELL]
    assert [(process.round, process.index) for process in result.processes] == [(1, 0), (2, 0)]
    assert (timing.iter_ms, timing.mean_ms, timing.control) == ((3.0, 5.0, 4.0), 4.0, True)
    assert (timing.enqueue_ms, timing.wait_ms) == (3.5, 0.5)
    assert result.environment == {"gpu": "NVIDIA H200", "threads": "12, 128"}
    assert result.notes == (
        Note(NoteCode.LAST_LINE_CUT, "f:6: the last line is incomplete and was ignored"),
        Note(NoteCode.PROCESSES_ENDED_EARLY, "static: 2 of 2 processes ended early; their complete blocks count"),
    )


@pytest.mark.parametrize("status", ["oom", "skipped"])
def test_a_block_that_failed_makes_the_cell_fail(status: str) -> None:
    result = parse_json_lines({"f": lines(BLOCK, without("iter_ms") | {"status": status})}, "x")
    assert result.processes[0].timings[CELL].status == status


END_LINE = COMMON | {"kind": "end", "status": "done"}
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
    timings = parse_json_lines({"f": lines(LOADER)}, "x").processes[0].timings
    step = timings[Cell("resnet18", "half", "train-step", 64)]
    assert (step.iter_ms, step.derived, step.enqueue_ms, step.wait_ms) == ((6.0, 7.0), True, 6.5, 4.0)
    assert not timings[Cell("resnet18", "half", "train-loader", 64)].derived


def test_a_loader_cell_without_its_parts_has_nothing_derived() -> None:
    bare = {key: value for key, value in LOADER.items() if key != "h2d_ms"}
    assert parse_json_lines({"f": lines(bare)}, "x").cells() == [Cell("resnet18", "half", "train-loader", 64)]


def test_a_pair_around_a_switch_has_a_run_an_arm() -> None:
    before, after = BLOCK | {"arm": "none", "run_id": "r1-before"}, BLOCK | {"run_id": "r1-after"}
    arms = parse_arms({"b": lines(before), "a": lines(after)})
    assert {name: set(arm.run_ids) for name, arm in arms.items()} == {"static": {"r1-after"}, "none": {"r1-before"}}
    text = {"f": lines(before, after, after | {"run_id": "r2"})}
    assert refused(lambda: parse_arms(text)) == [
        "f: has arm static of the runs r1-after, r2: expected one, because rounds are numbered by run. Name its file."
    ]


def test_several_cards_of_one_kind_are_a_red_flag() -> None:
    card = {"gpu": "NVIDIA H200", "gpu_uuid": "GPU-1"}
    other = PROCESS | {"round": 2, "env": card | {"gpu_uuid": "GPU-2"}}
    text = lines(PROCESS | {"env": card}, BLOCK, END_LINE, other, END_LINE | {"round": 2})
    (note,) = parse_json_lines({"f": text}, "x").notes
    assert (note.code, note.red_flag) == (NoteCode.SEVERAL_GPU_CARDS, True)
    assert note.text == "static ran on several GPU cards (GPU-1, GPU-2): cards of one model differ by 2 to 5 %"


@pytest.mark.parametrize("members", [1, 2])
def test_packed_lines_even_if_they_were_cut(tmp_path: Path, members: int) -> None:
    packed = b"".join(gzip.compress(lines(BLOCK | {"round": n + 1}).encode()) for n in range(members))
    (tmp_path / "run.jsonl.gz").write_bytes(packed)
    assert len(read(str(tmp_path)).processes) == members
    (tmp_path / "run.jsonl.gz").write_bytes(gzip.compress(lines(BLOCK, BLOCK, BLOCK | {"round": 2}).encode())[:-10])
    assert len(read(str(tmp_path / "run.jsonl.gz")).processes) >= 1


def test_a_file_that_is_packed_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl.gz").write_text("{}")
    problem = refused(lambda: read_arms([tmp_path]))[0]
    assert problem.startswith(f"{tmp_path}/run.jsonl.gz: is not a gzip file (")
    assert problem.endswith("): expected one. Copy it again, or unpack it.")


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    part = gzip.compress(b"#" * 2**20 + b"\n", compresslevel=1)
    (tmp_path / "run.jsonl.gz").write_bytes(part * 300)
    (problem,) = refused(lambda: read_arms([tmp_path]))
    assert problem == (
        f"{tmp_path}/run.jsonl.gz: unpacks to more than 268435456 bytes: expected the results of one run. "
        "Unpack and split it, or name the right file."
    )


def test_a_log_of_the_original_is_named_once_where_json_lines_are_expected(amd: Path) -> None:
    assert refused(lambda: read_arms([amd])) == [
        f"{amd}: is a log of the original benchmark: expected JSON lines, one object per line. "
        "Give two logs to `compare`, or name a .jsonl file."
    ]


def test_the_programs_words_are_no_lines(tmp_path: Path) -> None:
    (tmp_path / "pod.log").write_text("# resnet18 half inference\n" + lines(BLOCK))
    assert read(str(tmp_path / "pod.log")).cells() == [CELL]


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
            lines(without("model") | {"batch": 0, "round": True}),
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
            ["f:1: wait_ms has 1 values: expected 2, as iter_ms has. Remove wait_ms."],
            id="lengths",
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
            lines(BLOCK, BLOCK | {"arm": "none"}),
            ["f: has the arms static, none: expected one. Name it after an @: f@static"],
            id="two-arms",
        ),
        pytest.param(
            lines(BLOCK, BLOCK | {"run_id": "r2"}),
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


def test_one_arm_of_several(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(lines(BLOCK, BLOCK | {"arm": "none", "iter_ms": [9.0]}))
    result = read(f"{file}@none")
    assert (result.label, result.processes[0].timings[CELL].iter_ms) == ("none", (9.0,))
    assert refused(lambda: read(f"{file}@static2")) == [
        f"{file}: has no block of arm 'static2' (it has static, none): expected lines of kind block. "
        "Name another arm or file."
    ]
    assert read(f"{tmp_path}@static").label == "static"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("\ufeffresnet18\n20\n", encoding="utf-8")
    assert read(str(tmp_path)).cells() == [Cell("resnet18", "half", "train")]


@pytest.mark.parametrize(
    ("files", "argument", "problem"),
    [
        pytest.param(
            {}, "gone", "{0}/gone: no such file or folder: expected a log, a CSV folder or JSON lines.", id="gone"
        ),
        pytest.param(
            {},
            "",
            "{0}/: contains nothing: expected *_benchmark.csv of the original or *.jsonl. Name the run's folder.",
            id="empty-folder",
        ),
        pytest.param(
            {"x.txt": b"x"},
            "",
            "{0}/: contains x.txt: expected *_benchmark.csv of the original or *.jsonl. Name the run's folder.",
            id="other-folder",
        ),
        pytest.param(
            {"x.jsonl": b"x", TABLE: b"x"},
            "",
            "{0}/: has *.jsonl and *_benchmark.csv: expected one kind. Name the .jsonl file, or split the folder.",
            id="two-kinds",
        ),
        pytest.param(
            {"x": b""}, "x", "{0}/x: is empty: expected a log or JSON lines. Run the benchmark again.", id="empty-file"
        ),
        pytest.param(
            {"x.csv": b"x"}, "x.csv", "{0}/x.csv: is one table of a run: expected its folder. Name {0}.", id="one-table"
        ),
        pytest.param(
            {"x": b"ab\xff"},
            "x",
            "{0}/x: byte 2 is not UTF-8: expected text. Convert it, or name the right file.",
            id="binary",
        ),
        pytest.param(
            {"x": (HEAD + TIME + END).encode()},
            "x@none",
            "{0}/x@none: only JSON lines have arms: expected a .jsonl file. Omit @none.",
            id="arm-of-a-log",
        ),
    ],
)
def test_paths_that_are_refused(tmp_path: Path, files: dict[str, bytes], argument: str, problem: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    expected = problem.format(tmp_path).replace(f"{tmp_path}/:", f"{tmp_path}:")
    assert refused(lambda: read(str(tmp_path / argument))) == [expected]
