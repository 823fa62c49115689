# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that the readers read, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from benchmark.pod.cells import Cell
from benchmark.results import InputError

HEAD = "Benchmarking Training half precision type resnet18 \n"
TIME = "resnet18 model average train time : 75.7ms\n"
START = "benchmark start : 2022/11/17 06:14:11\n"
END = "benchmark end : 2022/11/17 06:23:29\n"
TABLE = "NVIDIA A_1_gpus__half_model_train_benchmark.csv"

COMMON = {"schema": 1, "run_id": "r1", "arm": "static", "round": 1, "process": 0}
PROCESS = COMMON | {"kind": "process", "env": {"gpu": "NVIDIA H200", "threads": 12}}
BLOCK = COMMON | {
    "kind": "block",
    "model": "resnet18",
    "precision": "half",
    "mode": "inference",
    "batch": 64,
    "status": "ok",
    "iter_ms": [3.0, 5.0],
}
END_LINE = COMMON | {"kind": "end", "status": "done"}
CELL = Cell("resnet18", "half", "inference", 64)


def lines(*objects: object) -> str:
    """JSON lines."""
    return "".join(json.dumps(line) + "\n" for line in objects)


def measured(*blocks: Mapping[str, object]) -> str:
    """JSON lines of blocks, after a line for each process that measured them."""
    keys = (*COMMON, "tenant", "tenants", "load")
    heads = [{key: block[key] for key in keys if key in block} for block in blocks]
    known = [head for number, head in enumerate(heads) if head not in heads[:number]]
    return lines(*(PROCESS | head for head in known), *blocks)


def block_without(key: str) -> dict[str, object]:
    return {name: value for name, value in BLOCK.items() if name != key}


def refused(call: Callable[[], object]) -> list[str]:
    """The problems that `call` raises."""
    with pytest.raises(InputError) as error:
        call()
    return error.value.problems
