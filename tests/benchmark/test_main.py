# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: output and exit codes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.__main__ import BAD_INPUT, DONE, NOT_MET, main


def test_the_seeds_logs_as_text(amd: Path, intel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(intel), "--label-a", "amd", "--label-b", "intel"]) == DONE
    text = capsys.readouterr().out.splitlines()
    assert text[:3] == [
        "Not decided yet. intel: about 1.35 times as fast as amd, no interval yet. 1 round where a loader feeds the GPU.",
        "",
        "intel against amd:",
    ]
    assert text[4:6] == [
        "  half train: smallest models 1.48x, largest 1.06x (rank correlation -0.87, 9 cells)",
        "  half inference: smallest models 1.85x, largest 1.14x (rank correlation -0.93, 9 cells)",
    ]
    assert text[7].split() == ["resnet18", "half", "train", "~", "75.71", "ms", "41.40", "ms", "1.83x", "~", "headline"]
    assert "cpu_count differs: 256 in amd, 80 in intel" in text


def test_the_seeds_logs_as_json(amd: Path, intel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(intel), "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    (found,) = result["contrasts"]
    assert (result["schema"], result["verdict"], len(found["cells"])) == (4, "UNDECIDED", 18)
    first = found["cells"][0]
    assert (first["model"], first["precision"], first["mode"]) == ("resnet18", "half", "train")
    assert (round(first["ratio"], 4), first["low"], first["high"]) == (1.8289, None, None)
    assert "verdict" not in first
    assert [group["grows_as_models_shrink"] for group in found["gradient"]["groups"]] == [True, True]
    assert "cpu_count" in [difference["key"] for difference in result["differences"]]
    assert found["gradient"]["code"] == "grows"


def test_all_problems_of_both_sides_come_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("hello\n")
    assert main(["compare", str(tmp_path / "gone"), str(tmp_path / "log")]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "benchmark: nothing was compared. 2 problems:",
        f"  {tmp_path}/gone: no such file or folder: expected a log, a CSV folder or JSON lines.",
        f"  {tmp_path}/log: has no line 'Benchmarking ... precision type ...': expected the stdout of the original "
        "benchmark. Name the file that it was redirected to.",
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


def test_different_gpus_are_compared_only_if_that_is_allowed(
    published: Path, intel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(published), str(intel)]) == DONE
    text = capsys.readouterr().out
    assert text.startswith("Not a fair measurement: gpu differs: GeForce RTX 2080 Ti on rtx2080ti, ")
    assert "--allow-different gpu" in text
    assert main(["compare", str(published), str(intel), "--allow-different", "gpu", "--json"]) == DONE
    assert "gpu_differs" not in [reason["code"] for reason in json.loads(capsys.readouterr().out)["invalid"]]


def test_sides_of_one_name_get_different_labels(amd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(amd), str(amd), "--label-a", "x", "--label-b", "x"]) == DONE
    assert "as fast as x (A)" in capsys.readouterr().out


@pytest.mark.parametrize("margin", ["0", "1", "3 %", "nan"])
def test_a_margin_is_a_share(margin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "a", "b", "--margin", margin])
    assert stop.value.code == BAD_INPUT
    assert f"{margin!r} is not a margin: expected a share above 0 and below 1" in capsys.readouterr().err


def test_rounds_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    arms = (("none", 12.0), ("static", 10.0))
    common = {"schema": 1, "run_id": "r1", "process": 0}
    rows: Lines = [
        {**common, **line, "arm": arm, "round": number}
        for number in (1, 2, 3, 4, 5)
        for arm, _ms in arms
        for line in ({"kind": "process", "env": {}}, {"kind": "end", "status": "done"})
    ]
    rows += [
        {
            **common,
            "kind": "block",
            "arm": arm,
            "round": number,
            "model": model,
            "precision": "half",
            "mode": "inference",
            "batch": 64,
            "status": "oom" if model == "resnet152" else "ok",
            "iter_ms": [] if model == "resnet152" else [ms + number * 0.001],
        }
        for number in (1, 2, 3, 4, 5)
        for arm, ms in arms
        for model in ("resnet18", "resnet152")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    large = "resnet152 half inference batch 64"
    assert main(["compare", f"{file}@none", f"{file}@static"]) == DONE
    assert capsys.readouterr().out.splitlines() == [
        "Take static. static: 1.20 times as fast as none [1.20, 1.20]. 5 rounds where the GPU is the limit, more or less.",
        "",
        "static against none:",
        "model      precision  mode       batch      none    static  times as fast  98.75% interval",
        "resnet18   half       inference  64     12.00 ms  10.00 ms          1.20x   [1.200, 1.200]  headline",
        "resnet152  half       inference  64            ~         ~              ~                ~  "
        "none: out of memory; static: out of memory",
        "",
        f"note: not timed in more than one round on none or on static, left out of all rounds: {large}",
        "note: no negative control: nothing shows that the sides differ in the CPU only",
    ]


Lines = list[dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def run(four_arms_file: Path) -> Path:
    return four_arms_file


def test_a_report_finds_the_other_arms_by_itself(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["report", f"{run}@none-auto", f"{run}@static-auto", "--output", str(out)]) == DONE
    printed = capsys.readouterr().out.splitlines()
    assert "threads set 1.31 times as fast as today [" in printed[0]
    assert printed[1:] == [str(out / name) for name in ("report.html", "report.md", "report.json", "line.txt")]
    assert (out / "line.txt").read_text().strip() == printed[0]
    result = json.loads((out / "report.json").read_text())
    assert (result["asked"], result["verdict"]) == ("whole", "BEATS")
    assert result["arms"] == {"today": "none-auto", "threads": "none-4", "exclusive": "static-auto"}
    assert [one["question"] for one in result["contrasts"]] == ["whole", "threads", "exclusive"]


def test_a_report_prints_what_was_asked_for(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", f"{run}@none-auto", f"{run}@static-auto", "--output", str(tmp_path / "out")]
    assert main([*command, "--line"]) == DONE
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main([*command, "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["verdict"] == "BEATS"


def test_arms_of_other_files_are_given_by_name(
    make_lines: Callable[..., Lines], write_lines: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = make_lines()
    files = {
        arm: write_lines([line for line in lines if line["arm"] == arm], f"{arm}.jsonl")
        for arm in ("none-auto", "static-auto", "none-4")
    }
    command = [
        "report",
        str(files["none-auto"]),
        str(files["static-auto"]),
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    assert main(command) == DONE
    alone = json.loads(capsys.readouterr().out)
    assert ([one["question"] for one in alone["contrasts"]], alone["recommendation"]) == (["whole"], "change")
    assert main([*command, "--with", f"{files['none-4']}@none-4"]) == DONE
    split = json.loads(capsys.readouterr().out)
    assert [one["question"] for one in split["contrasts"]] == ["whole", "threads", "exclusive"]
    assert split["recommendation"] == "set_threads"


def test_two_platforms_with_arms_of_one_name(
    make_lines: Callable[..., Lines], write_lines: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_lines(make_lines(["none-auto", "none-4"]), "amd/run.jsonl")
    b = write_lines(make_lines(["none-auto", "none-4"], run_ids={"none": "r2"}), "intel/run.jsonl")
    command = ["report", f"{a.parent}@none-auto", f"{b.parent}@none-auto", "--label-a", "amd", "--label-b", "intel"]
    assert main([*command, "--output", str(tmp_path / "out"), "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert (result["asked"], result["arms"]) == ("sides", {"a": "amd", "b": "intel"})
    assert result["lead"] in ("Change nothing", "Not decided yet")
    assert [one["question"] for one in result["contrasts"]] == ["sides"]


@pytest.mark.parametrize(
    ("sides", "policy", "code"),
    [
        pytest.param("none-auto static-auto", "none", DONE, id="no-policy"),
        pytest.param("none-auto static-auto", "beats", DONE, id="beats"),
        pytest.param("static-auto static-4", "beats", NOT_MET, id="equal-beats-not"),
        pytest.param("static-auto static-4", "not-worse", DONE, id="equal-is-not-worse"),
        pytest.param("static-auto none-auto", "not-worse", NOT_MET, id="worse"),
    ],
)
def test_the_exit_code_by_policy(
    run: Path, tmp_path: Path, sides: str, policy: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = sides.split()
    command = ["report", f"{run}@{a}", f"{run}@{b}", "--output", str(tmp_path / "out"), "--fail-unless", policy]
    assert main(command) == code
    assert (f"--fail-unless {policy} is not met" in capsys.readouterr().err) == (code == NOT_MET)


def test_too_few_rounds_do_not_prove_that_nothing_is_worse(
    make_lines: Callable[..., Lines], write_lines: Write, tmp_path: Path
) -> None:
    run = write_lines(make_lines(rounds=2))
    command = ["report", f"{run}@static-auto", f"{run}@static-4", "--output", str(tmp_path / "out")]
    assert main([*command, "--fail-unless", "not-worse"]) == NOT_MET


def test_a_report_on_the_seeds_logs(amd: Path, intel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(amd), str(intel), "--output", str(tmp_path / "out"), "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    (found,) = result["contrasts"]
    assert found["causes"] == []
    assert found["gradient"]["conclusion"].startswith("The gap grows as models shrink (half train, half inference)")
    assert "neither proved nor ruled out: throttling" in found["unknown"][0]


def test_a_report_on_an_experiment(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--output", str(tmp_path / "out"), "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "out/report.json").read_text())
    assert (result["schema"], result["label"], result["rounds"]) == (4, "node-1", 5)
    assert [(one["question"], one["load"]) for one in result["contrasts"]] == [
        ("threads", "solo"),
        ("exclusive", "solo"),
    ]
    assert len(result["contrasts"][0]["families"][0]["by_round"]) == 5
    assert [one["role"] for one in result["throughputs"]] == ["today", "threads", "exclusive"]


def test_what_is_about_two_sides_is_refused_for_an_experiment(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--label-a", "x", "--fail-unless", "beats"]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  --label-a is about two sides: give B too, or leave it out.",
        "  --fail-unless is about two sides: give B too, or leave it out.",
    ]
    assert main(["report", f"{run}@none-4", f"{run}@static-4", "--also", str(run)]) == BAD_INPUT
    assert "is a part of an experiment, and B was given" in capsys.readouterr().err


def test_a_report_cannot_be_written_over_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert main(["report", f"{run}@none-4", f"{run}@static-4", "--output", str(tmp_path / "out")]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "benchmark: no report was written. 1 problem:",
        f"  {tmp_path}/out: is a file: expected a folder for the report. Name another one.",
    ]


def test_a_log_has_no_arm_to_add(run: Path, amd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", f"{run}@none-4", f"{run}@static-4", "--output", str(tmp_path / "out"), "--with", str(amd)]
    assert main(command) == BAD_INPUT
    assert f"  {amd}: only JSON lines have arms: expected FILE@ARM for another arm." in capsys.readouterr().err


def test_a_summary_of_every_arm(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(run), "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert (result["schema"], result["run_ids"], result["notes"]) == (4, ["r1"], [])
    assert list(result["arms"]) == ["none-auto", "none-4", "static-auto", "static-4"]
    arm = result["arms"]["none-auto"]
    assert (arm["rounds"], arm["environment"]["threads"]) == (5, 16)
    cells = {(cell["model"], cell["mode"]): cell for cell in arm["cells"]}
    step = cells["resnet18", "inference"]
    assert (step["status"], step["throttled_periods"], step["periods"]) == ("ok", 40, 100)
    assert step["images_per_s"] == pytest.approx(64000 / step["mean_ms"], rel=1e-3)
    assert step["p99_ms"] > 20 * step["p50_ms"]
    failed = cells["resnet152", "train"]
    assert (failed["status"], failed["mean_ms"], failed["periods"]) == ("oom", None, None)


def test_a_summary_of_packed_files_of_one_run(
    make_lines: Callable[..., Lines], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        lines = [line for line in make_lines(["none-4"], rounds=3) if line["round"] == number]
        text = "# a word of the program\n" + "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"round-{number}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert main(["summary", str(tmp_path)]) == DONE
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "none-4 (threads set, 4 threads): 3 rounds"
    assert any("resnet152" in row and row.endswith("out of memory") for row in printed)


def test_nothing_to_summarise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(tmp_path / "gone"), str(tmp_path / "lost")]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "benchmark: nothing was summarised. 2 problems:",
        f"  {tmp_path}/gone: no such file or folder: expected JSON lines of the benchmark.",
        f"  {tmp_path}/lost: no such file or folder: expected JSON lines of the benchmark.",
    ]
    assert main(["summary", str(tmp_path)]) == BAD_INPUT
    assert f"  {tmp_path}: contains nothing: expected *.jsonl. Name the run's folder." in capsys.readouterr().err
