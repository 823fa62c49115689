# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.__main__ import BAD_INPUT, COMPARED, main


def test_the_seeds_logs_as_text(amd: Path, intel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(intel), "--label-a", "amd", "--label-b", "intel"]) == COMPARED
    text = capsys.readouterr().out.splitlines()
    assert text[0] == (
        "UNDECIDED: amd takes 1.04x to 2.06x the time of intel over 18 cells, but one run cannot carry an interval."
    )
    assert text[2:4] == [
        "  half train: smallest models 1.48x, largest 1.06x (rank correlation -0.87, p 0.0029, 9 cells)",
        "  half inference: smallest models 1.85x, largest 1.14x (rank correlation -0.93, p 0.00043, 9 cells)",
    ]
    assert text[6] == "resnet18          half       train      ~       75.71 ms   41.40 ms  1.83x         ~  ~"


def test_the_seeds_logs_as_json(amd: Path, intel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(intel), "--json"]) == COMPARED
    result = json.loads(capsys.readouterr().out)
    assert (result["schema"], result["verdict"], len(result["cells"])) == (1, "UNDECIDED", 18)
    first = result["cells"][0]
    assert (first["model"], first["precision"], first["mode"]) == ("resnet18", "half", "train")
    assert (round(first["ratio"], 4), first["low"], first["high"], first["verdict"]) == (
        1.8289,
        None,
        None,
        "UNDECIDED",
    )
    assert [group["grows_as_models_shrink"] for group in result["gradient"]["groups"]] == [True, True]
    assert any(note.startswith("environments differ") for note in result["notes"])


def test_all_problems_of_both_sides_come_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("hello\n")
    assert main(["compare", str(tmp_path / "gone"), str(tmp_path / "log")]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "benchmark: nothing was compared. 2 problems:",
        f"  {tmp_path}/gone: no such file or folder: expected a log, a CSV folder or JSON lines.",
        f"  {tmp_path}/log: holds no «Benchmarking ... precision type ...» line. Expected the stdout of the original "
        "benchmark; give the file that it was redirected to.",
    ]


def test_a_flood_of_problems_is_counted(tmp_path: Path, amd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jsonl").write_text("oops\n" * 25)
    assert main(["compare", str(amd), str(tmp_path / "x.jsonl")]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines()[-1] == f"  {tmp_path}/x.jsonl: and 5 more problems"


def test_no_common_cell(tmp_path: Path, amd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x"
    log.write_text(
        "Benchmarking Training half precision type vgg11\nvgg11 model average train time : 9ms\nbenchmark end\n"
    )
    assert main(["compare", str(log), str(amd)]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines()[1].startswith("  no common cell: x has vgg11 half train; amd-epyc")


def test_a_gradient_between_different_gpus_blames_nobody(
    published: Path, intel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(published), str(intel)]) == COMPARED
    text = capsys.readouterr().out
    assert text.splitlines()[1] == (
        "The gap grows as models shrink (half inference), "
        "but the GPU side differs too: this says nothing about the CPU side."
    )
    assert "note: red flag: the GPUs differ: rtx2080ti has GeForce RTX 2080 Ti, " in text


def test_sides_of_one_name_are_told_apart(amd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(amd), "--label-a", "x", "--label-b", "x"]) == COMPARED
    assert "x (A) takes" in capsys.readouterr().out


@pytest.mark.parametrize("margin", ["0", "1", "3 %", "nan"])
def test_a_margin_is_a_share(margin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "a", "b", "--margin", margin])
    assert stop.value.code == BAD_INPUT
    assert f"{margin!r} is no margin: expected a share above 0 and below 1" in capsys.readouterr().err


def test_rounds_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    rows = [
        {
            "schema": 1,
            "kind": "block",
            "run_id": "r1",
            "arm": arm,
            "round": number,
            "process": 0,
            "model": model,
            "precision": "half",
            "mode": "inference",
            "batch": 64,
            "status": "oom" if model == "resnet152" else "ok",
            "iter_ms": [] if model == "resnet152" else [ms + number * 0.001],
        }
        for number in (1, 2, 3)
        for arm, ms in (("none", 12.0), ("static", 10.0))
        for model in ("resnet18", "resnet152")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", f"{file}@none", f"{file}@static"]) == COMPARED
    assert capsys.readouterr().out.splitlines() == [
        "BEATS: static is faster than none: none takes 1.200x [1.200, 1.200] the time of static on 1 cell, 3 rounds.",
        "No gradient: no precision and mode has 5 cells that differ.",
        "",
        "model      precision  mode       batch    A none  B static    A/B  98.75% interval",
        "resnet18   half       inference  64     12.00 ms  10.00 ms  1.20x   [1.200, 1.200]  BEATS",
        "resnet152  half       inference  64            ~         ~      ~                ~  "
        "~  none: out of memory; static: out of memory",
        "",
        "note: no cell is known as launch-bound: the verdict is about all cells but the controls",
        "note: no negative control: nothing shows that the sides differ in the CPU only",
    ]
