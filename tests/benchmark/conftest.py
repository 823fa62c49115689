# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the logs and the published CSV folder that the tests read, and JSON lines of four arms."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
Line = dict[str, Any]

# Model, mode, and ms per step that the GPU needs and that launching takes.
CELLS = (
    ("resnet18", "inference", 2.0, 3.0),
    ("resnet50", "inference", 5.0, 6.0),
    ("resnet18", "train", 5.0, 7.0),
    ("resnet50", "train", 40.0, 15.0),
    ("resnet18", "inference-loader", 2.0, 3.0),
    ("resnet18", "inference-graph", 2.5, 0.1),
)
# CPU limit 4 on a host of 16: threads, share of CFS periods throttled, stalls a second.
ARMS: Mapping[str, tuple[int, float, float]] = {
    "none-auto": (16, 0.40, 4.0),
    "none-4": (4, 0.02, 0.5),
    "static-auto": (4, 0.0, 0.0),
    "static-4": (4, 0.0, 0.0),
}


@pytest.fixture
def amd() -> Path:
    return DATA / "amd-epyc7773x-rtx3090.log"


@pytest.fixture
def intel() -> Path:
    return DATA / "intel-rtx3090.log"


@pytest.fixture
def published() -> Path:
    return DATA / "rtx2080ti"


def environment(arm: str, started: float) -> Line:
    """As the program in the pod records it: none has a quota of 4 on all CPUs, static has 4 CPUs without a quota."""
    pinned = arm.startswith("static")
    return {
        "device": "cuda",
        "gpu": "NVIDIA H200",
        "gpu_uuid": "GPU-1",
        "gpu_numa_node": 0,
        "driver": "570.1",
        "torch": "2.5.1",
        "kernel": "6.8.0",
        "host": "node-1",
        "cpu_model": "EPYC",
        "cpu_count": 16,
        "cpus_allowed_list": "2-5" if pinned else "0-15",
        "cpus_allowed": 4 if pinned else 16,
        "quota_cpus": None if pinned else 4.0,
        "threads": ARMS[arm][0],
        "omp_num_threads": None,
        "cpu_numa_nodes": "0" if pinned else "0-1",
        "governor": "performance",
        "policy": "static" if pinned else "none",
        "started": datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _block(common: Line, cell: tuple[str, str, float, float], arm: str, draw: random.Random, started: float) -> Line:
    model, mode, gpu, launch = cell
    _, throttled, stalls = ARMS[arm]
    graph = mode == "inference-graph"
    process = draw.gauss(1.0, 0.004)
    parts: dict[str, list[float]] = {"enqueue_ms": [], "wait_ms": []}
    if mode.endswith("-loader"):
        parts |= {"data_ms": [], "h2d_ms": []}
    steps: list[float] = []
    due = 0.0
    while sum(steps) < 2000:
        enqueue = launch * process * draw.gauss(1.0, 0.01)
        wait = max(gpu - enqueue, 0.02) * (1.0 if graph else process)
        due += 0.0 if graph else stalls * (gpu + launch + (5.5 if "data_ms" in parts else 0.0)) / 1000
        if due >= 1:
            enqueue += draw.uniform(60, 95)
            due -= 1
        values = {"enqueue_ms": enqueue, "wait_ms": wait, "data_ms": 4.0 * process, "h2d_ms": 1.5}
        for key in parts:
            parts[key].append(round(values[key], 3))
        steps.append(round(sum(values[key] for key in parts), 3))
    clock = random.Random(f"{common} {cell}")
    for number in range(len(steps)):  # a clock that shows microseconds, and never the same ones
        error = clock.choice((-0.002, -0.001, 0.0, 0.001, 0.002))
        steps[number] = round(steps[number] + error, 3)
        parts["wait_ms"][number] = round(parts["wait_ms"][number] + error, 3)
    wall = sum(steps)
    periods = 0 if arm.startswith("static") else int(wall / 100)
    counters = {
        "wall_ms": wall,
        "periods": periods,
        "throttled_periods": round(periods * throttled),
        "throttled_ms": round(periods * throttled) * 300.0,
        "run_delay_ms": round(periods * throttled) * 15.0 + wall * 0.002,
        "switches_voluntary": 20,
        "switches_involuntary": 30 if periods else 2,
        "migrations": 8 if periods else 0,
        "threads": ARMS[arm][0] + 30,
        "canary_ms": 2.0 * draw.gauss(1.0, 0.001),
        "cpu_mhz": 3700.0,
        "gpu_sm_mhz": 1980,
        "gpu_throttle_reasons": 0,
        "host_busy_cpus": 4.2,
    }
    found = {"model": model, "precision": "half", "mode": mode, "batch": 64, "status": "ok", "control": graph}
    return {**common, "kind": "block", **found, "started": started, "iter_ms": steps, **parts, "counters": counters}


def arm_lines(
    arms: Sequence[str] = tuple(ARMS), rounds: int = 5, run_ids: Mapping[str, str] | None = None
) -> list[Line]:
    """Interleaved rounds of the arms, as the program in the pod writes them; `run_ids` are by group, else one for all."""
    lines: list[Line] = json.loads(_drawn(tuple(arms), rounds, tuple((run_ids or {}).items())))
    return lines


@functools.cache
def _drawn(arms: Sequence[str], rounds: int, run_ids: Sequence[tuple[str, str]]) -> str:
    """The lines as JSON, so that each test has its own: drawing them takes far longer than reading them."""
    draw = random.Random(11)
    lines: list[Line] = []
    clock = 1_700_000_000.0
    for number in range(1, rounds + 1):
        for arm in arms:
            run_id = dict(run_ids).get(arm.rpartition("-")[0], "r1")
            common: Line = {"schema": 1, "run_id": run_id, "arm": arm, "round": number, "process": 0}
            lines.append({**common, "kind": "process", "env": environment(arm, clock)})
            for order, cell in enumerate(draw.sample(CELLS, len(CELLS))):
                lines.append({**_block(common, cell, arm, draw, clock), "order": order})
                clock += 3
            out_of_memory = {"model": "resnet152", "precision": "half", "mode": "train", "batch": 64, "status": "oom"}
            lines.append({**common, "kind": "block", **out_of_memory, "reason": "CUDA out of memory"})
            lines.append({**common, "kind": "end", "status": "done"})
    return json.dumps(lines)


@pytest.fixture
def four_arms() -> list[Line]:
    """Five rounds of none and static, each with torch's own threads and with 4."""
    return arm_lines()


@pytest.fixture
def make_lines() -> Callable[..., list[Line]]:
    return arm_lines


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a file of this name in the test's folder."""

    def write(lines: Sequence[Line], name: str = "run.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write
