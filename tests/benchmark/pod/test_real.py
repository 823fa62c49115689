# SPDX-License-Identifier: GPL-3.0-or-later
"""The real program with a real torch, on a CPU."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.readers import read

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("torch_python")]

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
QUICK = ["round", "--run-id", "r1", "--arm", "none", "--round", "2", "--device", "cpu", "--block-seconds", "0.1"]
LOADER, TRAIN, INFER = (f"resnet18:float:{mode}:2" for mode in ("train-loader", "train", "inference"))
# The cells that torch cannot do here, each in its own way; the last needs 12 GB.
HALF, GRAPH, HUGE = "resnet18:half:inference:1", "resnet18:float:inference-graph:1", "resnet18:float:train:1000000"


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if not line.startswith("# ")]


def _blocks(lines: list[dict[str, Any]], arm: str, visit: int = 0) -> dict[str, dict[str, Any]]:
    return {
        ":".join(str(line[key]) for key in ("model", "precision", "mode", "batch")): line
        for line in lines
        if line["kind"] == "block" and line["arm"] == arm and line["visit"] == visit
    }


def test_a_round_of_two_thread_settings(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    done = run(
        *QUICK,
        *("--threads", "auto,1", "--auto-threads", "affinity", "--env", "policy=none", "--output", str(output)),
        *("--cells", LOADER, INFER, HALF, GRAPH, HUGE),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = _lines(done.stdout)
    assert lines == _lines(output.read_text())
    assert "# " not in output.read_text()
    environments = {line["arm"]: line["env"] for line in lines if line["kind"] == "process"}
    assert {arm: env["threads_by"] for arm, env in environments.items()} == {
        "none-auto": "affinity",
        "none-1": "fixed",
    }
    assert environments["none-1"]["threads"] == 1
    assert environments["none-auto"]["threads"] == environments["none-auto"]["cpus_allowed"]
    assert all(env["device"] == "cpu" and env["policy"] == "none" for env in environments.values())
    assert [line["kind"] for line in lines].count("end") == 2

    for arm in environments:
        blocks = _blocks(lines, arm)
        assert {cell: block["status"] for cell, block in blocks.items()} == {
            LOADER: "ok",
            INFER: "ok",
            HALF: "skipped",
            GRAPH: "skipped",
            HUGE: "oom",
        }
        again = _blocks(lines, arm, visit=1)
        assert sorted(block["order"] for block in blocks.values()) == list(range(5))
        assert {cell: block["order"] - blocks[cell]["order"] for cell, block in again.items()} == dict.fromkeys(
            blocks, 5
        )
        assert not any(block["control"] for block in blocks.values())
        assert "not implemented for 'Half'" in blocks[HALF]["reason"]
        assert "CUDA graphs need CUDA" in blocks[GRAPH]["reason"]
        assert "memory" in blocks[HUGE]["reason"]
        loader, infer = blocks[LOADER], blocks[INFER]
        assert len(loader["data_ms"]) == len(loader["iter_ms"])
        assert not {"enqueue_ms", "wait_ms", "h2d_ms"} & {*loader, *infer}
        assert infer["counters"]["wall_ms"] >= sum(infer["iter_ms"]) - 0.001 * len(infer["iter_ms"])
        assert infer["counters"]["cpu_ms"] > 0
        assert infer["counters"]["canary_ms"] > 0

        assert read(f"{output}@{arm}").processes[0].round == 2


def test_rounds_are_fresh_processes_the_first_warms_the_machine_and_each_says_which_cpus_it_has(
    run: Run, tmp_path: Path
) -> None:
    output = tmp_path / "lines.jsonl"
    rounds = ["--round", "2,3", "--warm-up", "--threads", "1"]
    done = run(*QUICK, *rounds, "--output", str(output), "--cells", INFER)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = _lines(output.read_text())
    assert [(line["kind"], line["round"], line["process"], line.get("warm_up", False)) for line in lines] == [
        ("process", 2, 1, True),
        ("end", 2, 1, True),
        *((kind, number, 0, False) for number in (2, 3) for kind in ("process", "block", "block", "end")),
    ]
    assert lines[1]["ended"] > lines[0]["began"]
    assert lines[6]["began"] >= lines[5]["ended"]
    timed = lines[5]["ended"] - lines[2]["began"]
    assert timed > sum(sum(line["iter_ms"]) for line in lines[3:5]) / 1e3
    assert [process.round for process in read(f"{output}@none-1").processes] == [2, 3]
    for line in (line for line in lines if line["kind"] == "process"):
        assert line["env"]["cpus_effective"]
        assert (line["env"]["threads"], line["env"]["omp_num_threads"]) == (1, "1")


def test_too_little_shared_memory_skips_the_loader_only(run: Run) -> None:
    done = run(*QUICK, "--threads", "1", "--workers", "10000000", "--cells", LOADER, INFER)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = _blocks(_lines(done.stdout), "none-1")
    assert (blocks[LOADER]["status"], blocks[INFER]["status"]) == ("skipped", "ok")
    assert "10000000 workers" in blocks[LOADER]["reason"]


def test_no_cell_timed_is_no_success(run: Run) -> None:
    done = run(*QUICK, "--threads", "1", "--cells", GRAPH)
    assert done.returncode == 3
    assert "no cell could be timed" in done.stdout
    assert [line["kind"] for line in _lines(done.stdout)] == ["process", "block", "block"]


def test_a_missing_gpu_is_said_in_the_words_of_torch(run: Run) -> None:
    done = run("round", "--run-id", "r1", "--arm", "none", "--round", "1", "--device", "cuda")
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 5
    assert _lines(done.stdout) == []
    assert re.search(r"# .*device cuda: .*(CUDA|NVIDIA).*--device cpu", done.stdout)


def test_a_killed_run_leaves_whole_lines(start: Start, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    process = start(*QUICK, "--threads", "1", "--output", str(output), "--cells", INFER, TRAIN)
    assert process.stdout is not None
    while '"kind": "block"' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    text = output.read_text()
    assert text.endswith("\n")
    kinds = [line["kind"] for line in _lines(text)]
    assert kinds[:2] == ["process", "block"]
    assert "end" not in kinds


def printed_after(text: str, start: str) -> str:
    """The line after the first one that starts so."""
    rows = text.splitlines()
    return rows[next(number for number, row in enumerate(rows) if row.startswith(start)) + 1]


def test_the_original_prints_and_writes_as_ever(run: Run, tmp_path: Path, amd: Path) -> None:
    arguments = "-w 1 -n 2 -b 2 -f out --device cpu --models resnet18 --precisions float half"
    done = run("original", *shlex.split(arguments))
    assert done.returncode == 0, done.stderr

    def shape(line: str) -> str:
        line = re.sub(r"uname_result.*", "uname_result", line.rstrip())
        line = re.sub(r"(scpufreq|Device Name : |CUDA Version : |Cudnn Version : |benchmark \w+ : ).*", r"\1", line)
        return re.sub(r"[\d.]+(?=ms$)|(?<=: )\d+$", "N", line.replace(" half ", " float "))

    logged = [shape(line) for line in amd.read_text().splitlines() if "/functional.py" not in line]
    printed = done.stdout.splitlines()
    cells = [line for line in logged if "resnet18" in line]
    assert printed.pop(printed.index("Batch size : 2")) == printed_after(done.stdout, "Device Name : ")
    assert [shape(line) for line in printed if "left out" not in line] == [
        *logged[1 : logged.index(cells[0])],  # without the "start" and "end" of test.sh
        *cells,
        cells[0],
        cells[2],
        logged[-2],
    ]
    assert "Benchmarking Training float precision type resnet18 " in printed
    assert re.search(r"^resnet18 half train: not possible, left out: .*Half", done.stdout, re.MULTILINE)

    folder, log = tmp_path / "out", tmp_path / "log"
    log.write_text(done.stdout)
    found, logged_run = read(str(folder)), read(str(log))
    expected = {("float", "train"): "ok", ("float", "inference"): "ok", ("half", "train"): "skipped"}
    for run_read, steps in ((found, 2), (logged_run, 1)):
        timings = run_read.processes[0].timings
        assert {cell.batch for cell in timings} == {2}
        assert (
            expected.items() <= {(cell.precision, cell.mode): timing.status for cell, timing in timings.items()}.items()
        )
        assert {len(timing.iter_ms) for timing in timings.values() if timing.status == "ok"} == {steps}
    assert found.environment["gpus_visible"] == "0"
    info = (folder / "system_info.txt").read_text().splitlines()
    assert [info[0], info[-1]] == [printed[0], printed[-1]]

    again = run("original", *shlex.split("-w 0 -n 1 -b 1 -f out --device cpu --precisions half"))
    assert again.returncode == 2
    assert "--folder out: has tables of an earlier run (" in again.stderr
    assert "Name another folder, or remove them" in again.stderr


@pytest.mark.thorough
def test_a_family_that_the_original_times_by_default(run: Run, tmp_path: Path) -> None:
    done = run(
        "original", *shlex.split("-w 0 -n 1 -b 1 -f out --device cpu --families shufflenetv2 --precisions float")
    )
    assert done.returncode == 0, done.stderr
    models = {cell.model for cell in read(str(tmp_path / "out")).cells()}
    assert {"shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"} <= models


def test_the_original_says_what_its_workers_need(run: Run) -> None:
    done = run("original", "-b", "10000000", "--device", "cpu")
    assert done.returncode == 3
    assert "with 2 batches of" in done.stderr
    assert "MB. Mount a memory-backed volume on /dev/shm" in done.stderr


def test_a_folder_that_cannot_be_made_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("original", "-f", "file")
    assert done.returncode == 2
    assert "--folder file: File exists" in done.stderr
