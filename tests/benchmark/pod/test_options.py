# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex

import pytest

from benchmark.pod.cells import Cell
from benchmark.pod.options import BadArguments, parse_original, parse_round

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
    assert (options.run_id, options.arm, options.round) == ("r1", "static", 3)
    assert options.threads == (None, 0)
    assert (options.cells, options.matrix, options.device, options.block_seconds) == (None, None, "auto", 2.0)
    assert (options.auto_threads, options.env, options.output) == ("found", {}, None)


def test_values_of_a_round() -> None:
    options = parse_round(
        "pod round",
        [
            *LEAST,
            *("--threads", "auto, 12", "--cells", "resnet18:half:train:64", "resnet50:float:inference:1"),
            *("--env", "policy=static", "node=gpu-1", "--env", "note=a=b", "--workers", "0", "--block-seconds", "0.5"),
        ],
    )
    assert options.threads == (None, 12)
    assert options.cells == [Cell("resnet18", "half", "train", 64), Cell("resnet50", "float", "inference", 1)]
    assert options.env == {"policy": "static", "node": "gpu-1", "note": "a=b"}
    assert (options.workers, options.block_seconds) == (0, 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--round", "0"], "--round is '0': expected an integer from 1"),
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
        (["--batch", "3"], "--batch is not known"),
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
    assert (options.folder, options.models, options.precisions) == ("result", None, None)


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
        (["--models", "vgg16"], "--models is 'vgg16': expected some of resnet18"),
        (["--models"], "--models is ''"),
        (["--precisions", "int8"], "--precisions is 'int8': expected some of half"),
        (["--device", "tpu"], "--device is 'tpu'"),
    ],
)
def test_a_wrong_value_of_the_original_is_refused(arguments: list[str], said: str) -> None:
    assert any(said in problem for problem in _original_problems(*arguments))
