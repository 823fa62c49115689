# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders of any format: which are read, and what is refused in which words."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from benchmark.pod.cells import Cell
from benchmark.readers import read, read_arms, read_runs
from tests.benchmark.readers.samples import BLOCK, CELL, END, HEAD, PROCESS, TABLE, TIME, lines, measured, refused


@pytest.mark.parametrize("members", [1, 2])
def test_packed_lines_even_if_they_were_cut(tmp_path: Path, members: int) -> None:
    packed = b"".join(gzip.compress(measured(BLOCK | {"round": n + 1}).encode()) for n in range(members))
    (tmp_path / "run.jsonl.gz").write_bytes(packed)
    assert len(read(str(tmp_path)).processes) == members
    (tmp_path / "run.jsonl.gz").write_bytes(
        gzip.compress(measured(BLOCK, BLOCK | {"round": 2}, BLOCK | {"round": 3}).encode())[:-10]
    )
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
    (tmp_path / "pod.log").write_text("# resnet18 half inference\n" + measured(BLOCK))
    assert read(str(tmp_path / "pod.log")).cells() == [CELL]


def test_one_arm_of_several(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(measured(BLOCK, BLOCK | {"arm": "none", "iter_ms": [9.0]}))
    result = read(f"{file}@none")
    assert (result.label, result.processes[0].timings[CELL].iter_ms) == ("none", (9.0,))
    assert refused(lambda: read(f"{file}@static2")) == [
        f"{file}: has no block of arm 'static2' (it has static, none): expected lines of kind block. "
        "Name another arm or file."
    ]
    assert read(f"{tmp_path}@static").label == "static"


def test_an_arm_that_has_other_lines_and_no_block(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(measured(BLOCK) + lines(PROCESS | {"arm": "none"}))
    assert refused(lambda: read(f"{file}@none")) == [
        f"{file}: has no block of arm 'none' (it has static): expected lines of kind block. Name another arm or file."
    ]


def test_the_arms_of_each_run(tmp_path: Path) -> None:
    (tmp_path / "before.jsonl").write_text(measured(BLOCK | {"run_id": "r1-before", "arm": "none-auto"}))
    (tmp_path / "after.jsonl").write_text(measured(BLOCK | {"run_id": "r1-after", "arm": "none-auto"}))
    runs = read_runs([tmp_path])
    assert {run: {arm: set(found.run_ids) for arm, found in arms.items()} for run, arms in runs.items()} == {
        "r1-after": {"none-auto": {"r1-after"}},
        "r1-before": {"none-auto": {"r1-before"}},
    }


def test_the_batch_of_a_log_that_does_not_record_it_can_be_named(amd: Path, tmp_path: Path) -> None:
    assert {cell.batch for cell in read(str(amd)).cells()} == {None}
    assert {cell.batch for cell in read(str(amd), batch=64).cells()} == {64}
    (tmp_path / "run.jsonl").write_text(measured(BLOCK))
    assert read(str(tmp_path), batch=12).cells() == [CELL], "a recorded batch stays"


def test_the_same_file_twice_in_a_folder_is_refused(tmp_path: Path) -> None:
    text = measured(BLOCK, BLOCK | {"round": 2, "iter_ms": [3.5, 5.5]})
    (tmp_path / "run.jsonl").write_text(text)
    (tmp_path / "run (1).jsonl").write_text(text)
    a, b = tmp_path / "run (1).jsonl", tmp_path / "run.jsonl"
    assert refused(lambda: read(str(tmp_path))) == [
        f"{b}:3: repeats {a}:3: resnet18 half inference batch 64, visit 0 of run r1, arm static, round 1, process 0, and "
        f"1 more line: expected each once. Remove {b}, or the lines in it."
    ]


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
