# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex

import pytest

from benchmark.pod.cells import Cell
from benchmark.pod.options import BadArguments, parse_original, parse_round
from benchmark.pod.slots import Place

LEAST = ["--run-id", "r1", "--arm", "static", "--round", "3"]


def _round_problems(*arguments: str) -> list[str]:
    with pytest.raises(BadArguments) as refused:
        parse_round("pod round", arguments)
    return refused.value.problems


def _original_problems(*arguments: str) -> list[str]:
    with pytest.raises(BadArguments) as refused:
        parse_original("pod original", arguments)
    return refused.value.problems


def test_defaults_of_a_round() -> None:
    options = parse_round("pod round", LEAST)
    assert (options.run_id, options.arm, options.rounds) == ("r1", "static", (3,))
    assert options.threads == (None, 0)
    assert (options.cells, options.matrix, options.device, options.block_seconds) == (None, None, "auto", 0.5)
    assert (options.auto_threads, options.env, options.output, options.warm_up) == ("found", {}, None, False)


def test_values_of_a_round() -> None:
    options = parse_round(
        "pod round",
        [
            *LEAST,
            *("--threads", "auto, 12", "--cells", "resnet18:half:train:64", "resnet50:float:inference:1"),
            *("--env", "policy=static", "node=gpu-1", "--env", "note=a=b", "--workers", "0", "--block-seconds", "3"),
            "--warm-up",
            *("--round", "3,4"),
        ],
    )
    assert (options.rounds, options.threads) == ((3, 4), (None, 12))
    assert options.cells == [Cell("resnet18", "half", "train", 64), Cell("resnet50", "float", "inference", 1)]
    assert options.env == {"policy": "static", "node": "gpu-1", "note": "a=b"}
    assert (options.workers, options.block_seconds, options.warm_up) == (0, 3, True)


def test_a_place_on_a_full_node() -> None:
    words = ["--tenant", "1", "--tenants", "4", "--load", "busy,solo", "--start-file", "/start", "--slot-seconds", "4"]
    assert parse_round("pod round", [*LEAST, *words]).place == Place(1, 4, ("busy", "solo"), "/start", 4.0)
    assert parse_round("pod round", LEAST).place.start_file is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--round", "0"], "--round is '0': expected integers from 1, each once"),
        (["--round", "2,2"], "--round is '2,2'"),
        (["--round", "one"], "--round is 'one'"),
        (["--round"], "--round is ''"),
        (["--run-id", "a b"], "--run-id is 'a b': expected letters, digits"),
        (["--arm", "none@1"], "--arm is 'none@1'"),
        (["--threads", "0"], "--threads is '0': expected auto, cpus or numbers from 1"),
        (["--threads", ""], "--threads is ''"),
        (["--cells"], "--cells is ''"),
        (["--cells", "resnet18:half:train"], "expected model:precision:mode:batch"),
        (["--cells", "resnet18:half:train:1", "resnet18:half:train:1"], "is given twice"),
        (["--cells", "resnet18:half:train:1", "--matrix", "full"], "--cells and --matrix are both given"),
        (["--matrix", "big"], "--matrix is 'big': expected one of default, resnets, full, cpu"),
        (["--device", "tpu"], "--device is 'tpu': expected one of auto, cuda, cpu"),
        (["--block-seconds", "0"], "--block-seconds is '0': expected seconds from 0.1"),
        (["--block-seconds", "nan"], "--block-seconds is 'nan'"),
        (["--workers", "-1"], "--workers is '-1': expected an integer from 0"),
        (["--image-size", "16"], "--image-size is '16': expected an integer from 32"),
        (["--auto-threads", "all"], "--auto-threads is 'all': expected one of found, affinity"),
        (["--env", "policy"], "--env is 'policy': expected key=value"),
        (["--env", "9=x"], "--env is '9=x'"),
        (["--env", "gpu=H200"], "gpu is what the program finds by itself"),
        (["--env", "a=1", "a=2"], "a is given twice"),
        (["--output", "/nowhere/lines.jsonl"], "Make the folder"),
        (["--env", "cpus_effective=0-3"], "cpus_effective is what the program finds by itself"),
        (["--batch", "3"], "--batch is not known"),
        (["--load", "solo,night"], "--load is 'solo,night': expected some of solo, full, busy, each once"),
        (
            ["--load", "full", "--tenant", "4", "--tenants", "4"],
            "--tenant is '4': expected less than --tenants, which is 4",
        ),
        (["--load", "full"], "--start-file is missing: expected a file that says when each load begins"),
        (["--tenants", "2"], "--start-file is missing"),
        (["--slot-seconds", "0"], "--slot-seconds is '0': expected seconds from 1 to 600"),
        (
            ["--start-file", "/start", "--block-seconds", "5", "--slot-seconds", "6"],
            "--slot-seconds is '6': expected 6.5 or more, for a block and the time to warm up",
        ),
    ],
)
def test_a_wrong_value_is_refused(arguments: list[str], said: str) -> None:
    assert any(said in problem for problem in _round_problems(*LEAST, *arguments))


def test_all_faults_come_at_once() -> None:
    problems = _round_problems("--round", "x", "--device", "tpu", "--env", "a", "--cells", "a:b", "--fast")
    for name in ("--run-id is missing", "--arm is missing", "--round", "--device", "--env", "--cells", "--fast"):
        assert any(problem.startswith(name) for problem in problems), name


def test_defaults_of_the_original() -> None:
    options = parse_original("pod original", [])
    assert (options.warm_up, options.tests, options.batch, options.classes, options.gpus) == (5, 50, 64, 1000, 1)
    assert (options.folder, options.families, options.models, options.precisions) == ("result", ("resnet",), None, None)


def test_short_and_long_names_of_the_original() -> None:
    short = parse_original("pod original", shlex.split("-w 1 -n 2 -b 3 -c 10 -g 2 -f out"))
    long = "--WARM_UP 1 --NUM_TEST 2 --BATCH_SIZE 3 --NUM_CLASSES 10 --NUM_GPU 2 --folder out"
    assert short == parse_original("pod original", shlex.split(long))
    assert (short.warm_up, short.tests, short.batch, short.classes, short.gpus, short.folder) == (1, 2, 3, 10, 2, "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "0"], "--NUM_TEST is '0': expected an integer from 1"),
        (["-w", "-1"], "--WARM_UP is '-1'"),
        (["-b", "0"], "--BATCH_SIZE is '0'"),
        (["-c", "1001"], "--NUM_CLASSES is '1001': expected an integer from 1 to 1000"),
        (["-g", "0"], "--NUM_GPU is '0'"),
        (["-f", ""], "--folder is ''"),
        (["--families", "vit"], "--families is 'vit': expected some of mnasnet, resnet, "),
        (["--families"], "--families is ''"),
        (["--families", "vgg", "--models", "resnet18"], "--families and --models are both given: expected one of them"),
        (["--models", "vgg16"], "--models is 'vgg16': expected some of resnet18"),
        (["--models"], "--models is ''"),
        (["--precisions", "int8"], "--precisions is 'int8': expected some of half"),
        (["--device", "tpu"], "--device is 'tpu'"),
    ],
)
def test_a_wrong_value_of_the_original_is_refused(arguments: list[str], said: str) -> None:
    assert any(said in problem for problem in _original_problems(*arguments))
