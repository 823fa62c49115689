# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's folder of tables: what is read, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.pod.cells import Cell
from benchmark.pod.original_lines import failure_line
from benchmark.readers import parse_csv_folder, read
from benchmark.results import Note, NoteCode, Timing
from tests.benchmark.readers.samples import END, START, TABLE, refused

CONFIG = '{"BATCH_SIZE": 64, "NUM_GPU": 1}'
COLUMN = "resnet18\n" + "".join(f"20.{step}\n" for step in range(5))


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
                f"run/{TABLE}: row 4 has 1 value: expected 2, one per model. Remove the row, or run it again.",
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
            {TABLE: "resnet18,resnet34\n" + "20.5,30.5\n" * 5},
            None,
            [
                f"run/{TABLE}: column 'resnet18': all 5 steps take 20.5 ms: expected measured times, which differ. "
                "Use the times of each step, or run the benchmark again.",
                f"run/{TABLE}: column 'resnet34': all 5 steps take 30.5 ms: expected measured times, which differ. "
                "Use the times of each step, or run the benchmark again.",
            ],
            id="constant",
        ),
        pytest.param(
            {TABLE: COLUMN, TABLE.replace("half", "float"): COLUMN},
            None,
            [
                f"run/{TABLE}: column 'resnet18': has the times of run/{TABLE.replace('half', 'float')}: column 'resnet18': "
                "expected times of its own. Copy the original's files again, or run it again."
            ],
            id="a-table-copied-under-another-name",
        ),
        pytest.param(
            {TABLE: "resnet18\n20\n"},
            '{"BATCH_SIZE": true, "NUM_GPU": 1}',
            [
                "run/config.json: expected a JSON object with BATCH_SIZE and NUM_GPU, as the original writes it. "
                "Copy the run's own file there, or remove this one."
            ],
            id="batch",
        ),
        pytest.param(
            {TABLE.replace("A_1", "A_4"): "resnet18\n20\n"},
            CONFIG,
            [
                "run/config.json: is of a run on 1 GPU, the tables are of 4: expected those of one run, because the batch "
                "grows with the GPUs. Remove it, and give the batch with --batch."
            ],
            id="config-of-another-number-of-gpus",
        ),
        pytest.param(
            {TABLE: "resnet18\n20\n"},
            "[]",
            [
                "run/config.json: expected a JSON object with BATCH_SIZE and NUM_GPU, as the original writes it. "
                "Copy the run's own file there, or remove this one."
            ],
            id="config",
        ),
    ],
)
def test_folders_that_are_refused(files: dict[str, str], config: str | None, problems: list[str]) -> None:
    assert refused(lambda: parse_csv_folder(files, "run", "x", config=config)) == problems


def test_a_folder_without_system_info_is_noted() -> None:
    result = parse_csv_folder({TABLE: "resnet18\n20\n"}, "run", "x", config=CONFIG)
    assert result.environment == {"gpu": "NVIDIA A"}
    assert result.cells() == [Cell("resnet18", "half", "train", 64)]
    text = "run: no system_info.txt: only the GPU's name is known of its environment"
    assert result.notes == (Note(NoteCode.NO_SYSTEM_INFO, text),)


def test_the_batch_of_config_json_is_part_of_each_cell() -> None:
    result = parse_csv_folder({TABLE: COLUMN}, "run", "x", START + END, CONFIG.replace("64", "12"))
    assert result.cells() == [Cell("resnet18", "half", "train", 12)]
    assert "batch" not in result.environment
    assert result.notes == ()


def test_a_cell_that_our_original_could_not_time_has_its_status() -> None:
    info = START + failure_line("resnet152", "half", "train", "oom", "CUDA out of memory") + "\n" + END
    timings = parse_csv_folder({TABLE: COLUMN}, "run", "x", info, CONFIG).processes[0].timings
    assert timings[Cell("resnet152", "half", "train", 64)] == Timing("oom", reason="CUDA out of memory")
    assert timings[Cell("resnet18", "half", "train", 64)].status == "ok"


def test_a_run_that_did_not_reach_its_end_is_noted() -> None:
    result = parse_csv_folder({TABLE: COLUMN}, "run", "x", START, CONFIG)
    text = "run: cut, its system_info.txt has no line 'benchmark end': tables or columns may be missing"
    assert result.notes == (Note(NoteCode.LOG_INCOMPLETE, text),)
    assert parse_csv_folder({TABLE: COLUMN}, "run", "x", START).notes == (), (
        "the original had no end before config.json"
    )
