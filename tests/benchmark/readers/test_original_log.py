# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's log: what is read, and what is refused in which words."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from benchmark.pod.cells import Cell
from benchmark.pod.original_lines import batch_line, failure_line
from benchmark.readers import parse_log, read
from benchmark.results import InputError, Note, NoteCode, Timing
from tests.benchmark.readers.samples import END, HEAD, START, TIME, refused


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
            id="a-cell-twice",
        ),
        pytest.param(
            "start\n" + START + HEAD + TIME + END + START + HEAD + TIME + END + "end\n",
            [
                "log:6: has a second line 'benchmark start', the first in line 2: expected one run per log (test.sh makes "
                "a run for each number of GPUs). Split the log there, one file per run."
            ],
            id="two-runs-as-test.sh-prints-them",
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
            id="a-cell-of-the-original-failed",
        ),
    ],
)
def test_logs_that_are_refused(text: str, problems: list[str]) -> None:
    assert refused(lambda: parse_log(text, "log", "x")) == problems


def test_a_cell_that_our_original_could_not_time_is_told_and_not_missing() -> None:
    failed = failure_line("resnet152", "double", "train", "oom", "CUDA out of memory. Tried to allocate 2 GiB")
    odd = failure_line("resnet18", "half", "inference", "skipped", "not implemented for 'Half'")
    text = START + batch_line(64) + "\n" + HEAD + TIME
    text += "Benchmarking Training double precision type resnet152 \n" + failed + "\n" + odd + "\n" + END
    found = parse_log(text, "log", "x")
    assert found.processes[0].timings == {
        Cell("resnet18", "half", "train", 64): Timing("ok", (75.7,)),
        Cell("resnet152", "double", "train", 64): Timing("oom", reason="CUDA out of memory. Tried to allocate 2 GiB"),
        Cell("resnet18", "half", "inference", 64): Timing("skipped", reason="not implemented for 'Half'"),
    }
    assert found.notes == ()


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


@pytest.mark.parametrize(
    "line", ["x" * 50_000, "a model average train time : " + "9" * 50_000, "1" * 50_000 + "ms", "a " * 25_000]
)
def test_a_long_line_is_read_at_once(line: str) -> None:
    started = time.thread_time()
    with contextlib.suppress(InputError):
        parse_log(HEAD + line + "\n" + TIME + END, "log", "x")
    assert time.thread_time() - started < 1


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
