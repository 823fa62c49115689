# SPDX-License-Identifier: GPL-3.0-or-later
"""Sides that cannot be compared are refused, with the way out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.__main__ import BAD_INPUT, DONE, main
from benchmark.pod.cells import Cell
from benchmark.results import InputError, Process, ResultSet, Timing
from benchmark.sides import check_sides


def side(label: str, times: dict[Cell, float], load: str = "solo") -> ResultSet:
    timings = {cell: Timing("ok", (ms,)) for cell, ms in times.items()}
    return ResultSet(label, (Process(1, 0, timings, load=load),))


def problems(a: ResultSet, b: ResultSet) -> list[str]:
    with pytest.raises(InputError) as error:
        check_sides(a, b)
    return error.value.problems


CELL = Cell("resnet18", "half", "train", 64)
OTHER = CELL._replace(model="resnet34")


def test_another_batch_is_refused() -> None:
    assert problems(side("a", {CELL: 50.0}), side("b", {CELL._replace(batch=12): 10.0})) == [
        "a has batch 64, b has batch 12: expected the same, because the time of a step grows with its batch. "
        "Run one of them again with the other's batch size (original: --BATCH_SIZE)."
    ]


def test_a_batch_that_one_side_does_not_record_can_be_named() -> None:
    for a, b, words in (
        (CELL, CELL._replace(batch=None), "a has batch 64, b has an unrecorded batch size"),
        (CELL._replace(batch=None), CELL, "a has an unrecorded batch size, b has batch 64"),
    ):
        assert problems(side("a", {a: 50.0}), side("b", {b: 40.0})) == [
            f"{words}: expected the same, because the time of a step grows with its batch. "
            "If it was 64, say so with --batch 64, else run one of them again."
        ]


def test_sides_that_share_a_cell_may_differ_in_the_others() -> None:
    check_sides(side("a", {CELL: 50.0}), side("b", {CELL: 40.0, CELL._replace(batch=12): 10.0}))
    check_sides(side("a", {CELL: 50.0}), side("b", {OTHER: 40.0}))


def test_our_lines_and_the_originals_output_time_different_steps() -> None:
    ours = replace(side("ours", {CELL: 40.0}), run_ids=frozenset({"r1"}))
    for a, b in ((ours, side("log", {CELL: 50.0})), (side("log", {CELL: 50.0}), ours)):
        assert problems(a, b) == [
            "ours has JSON lines, log output of the original benchmark: expected two of one kind, because the original's "
            "steps include the copy to the GPU, beside workers that load. Run `original` on both sides, or neither."
        ]


def test_the_command_refuses_batch_12_against_64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, batch in (("small", 12), ("large", 64)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "NVIDIA A_1_gpus__half_model_train_benchmark.csv").write_text(f"resnet18\n{batch}.5\n")
        (folder / "config.json").write_text(json.dumps({"BATCH_SIZE": batch, "NUM_GPU": 1}))
    assert main(["compare", str(tmp_path / "small"), str(tmp_path / "large")]) == BAD_INPUT
    assert "small has batch 12, large has batch 64" in capsys.readouterr().err


def test_the_command_takes_the_batch_of_a_log(tmp_path: Path, amd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "NVIDIA A_1_gpus__half_model_train_benchmark.csv").write_text("resnet18\n50.5\n")
    (tmp_path / "config.json").write_text('{"BATCH_SIZE": 64, "NUM_GPU": 1}')
    assert main(["compare", str(amd), str(tmp_path)]) == BAD_INPUT
    assert "--batch 64" in capsys.readouterr().err
    assert main(["compare", str(amd), str(tmp_path), "--batch", "64"]) == DONE
    with pytest.raises(SystemExit):
        main(["compare", str(amd), str(tmp_path), "--batch", "0"])
    assert "'0' is not a batch size: expected an integer from 1, such as 64" in capsys.readouterr().err
