# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiments made by hand, for tests and looks at the page: the numbers are invented, of the size of those measured."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

from benchmark.analysis import Advice, AdviceCode, Cause, CauseCode, CellResult, Estimate, Verdict
from benchmark.experiment import (
    ArmRole,
    Contrast,
    Experiment,
    Family,
    FamilyEstimate,
    Invalid,
    InvalidCode,
    Load,
    Question,
    Recommendation,
    Throughput,
)
from benchmark.pod.cells import GRAPH_MODE, Cell
from benchmark.results import Note, NoteCode

MARGIN = 0.05
LOADER_CELLS = tuple(
    Cell(model, "half", mode, 64)
    for model in ("resnet18", "resnet50", "resnet152")
    for mode in ("train-loader", "inference-loader")
)
LAUNCH_CELLS = (Cell("resnet18", "half", "inference", 1), Cell("resnet18", "half", "train", 64))
CONTROL_CELL = Cell("resnet50", "half", GRAPH_MODE, 64)


def estimate(ratio: float, half: float, rounds: int = 6, margin: float = MARGIN) -> Estimate:
    """A ratio whose interval is `half` wide to each side, as a share, with the verdict that follows."""
    low, high = ratio / (1 + half), ratio * (1 + half)
    verdict = Verdict.UNDECIDED
    if low > 1 + margin:
        verdict = Verdict.BEATS
    elif high < 1 / (1 + margin):
        verdict = Verdict.WORSE
    elif low > 1 / (1 + margin) and high < 1 + margin:
        verdict = Verdict.EQUIVALENT
    return Estimate(ratio, rounds, verdict, low, high, 0.9875)


def _family(family: Family, cells: tuple[Cell, ...], ratio: float, half: float, rounds: int) -> FamilyEstimate:
    draw = random.Random(f"{family}{ratio}")
    by_round = {number: ratio * math.exp(draw.gauss(0, half / 2)) for number in range(1, rounds + 1)}
    return FamilyEstimate(family, cells, estimate(ratio, half, rounds), by_round)


def contrast(
    question: Question, load: Load, pipeline: float, launch: float, half: float = 0.07, rounds: int = 6
) -> Contrast:
    """One question: the ratios of the input pipeline and of launching, each cell a little off."""
    draw = random.Random(f"{question}{load}")
    cells = [
        CellResult(
            cell=cell,
            estimate=replace(estimate(ratio, 2 * half, rounds), verdict=Verdict.UNDECIDED),
            mean_a_ms=ratio * 20.0,
            mean_b_ms=20.0,
        )
        for cells, middle in ((LOADER_CELLS, pipeline), (LAUNCH_CELLS, launch), ((CONTROL_CELL,), 1.0))
        for cell in cells
        for ratio in [middle * math.exp(draw.gauss(0, 0.08 if middle != 1.0 else 0.003))]
    ]
    families = (
        _family(Family.INPUT_PIPELINE, LOADER_CELLS, pipeline, half, rounds),
        _family(Family.LAUNCH, LAUNCH_CELLS, launch, 2 * half, rounds),
        _family(Family.CONTROL, (CONTROL_CELL,), 1.001, 0.008, rounds),
    )
    return Contrast(question, load, families, tuple(cells), MARGIN)


def throughputs(load: Load, rates: Mapping[ArmRole, float], tenants: int = 1, rounds: int = 6) -> list[Throughput]:
    """The arms under a load; `rates` are images/s of a tenant. Today's tenants differ most."""
    found = []
    for role, rate in rates.items():
        draw = random.Random(f"{load}{role}")
        spread = {ArmRole.TODAY: 0.09, ArmRole.THREADS: 0.05, ArmRole.EXCLUSIVE: 0.02}[role]
        by_tenant = {
            number: tuple(rate * math.exp(draw.gauss(0, spread)) for _ in range(tenants))
            for number in range(1, rounds + 1)
        }
        found.append(
            Throughput(
                role=role,
                load=load,
                tenants=tenants,
                images_per_s=rate * tenants,
                p99_ms=64_000 / rate * (1 + 4 * spread),
                worst_tenant=1 - spread if tenants > 1 else None,
                loss=None if load is Load.SOLO else 3 * spread,
                by_round={number: sum(values) for number, values in by_tenant.items()},
                by_tenant=by_tenant,
            )
        )
    return found


_TODAY_AGAINST_THREADS = (
    Cause(CauseCode.OVERSUBSCRIPTION, 0.78, ("64 threads on 12 CPUs", "with 12 threads a step takes 28.5 ms")),
    Cause(CauseCode.THROTTLING, 0.17, ("185 of 327 CFS periods throttled, 0 of 311 with threads set",)),
)


def idle_node() -> Experiment:
    """One tenant on an idle node: threads are the remedy, exclusive CPUs cost something."""
    threads = replace(contrast(Question.THREADS, Load.SOLO, 2.31, 1.02), causes=_TODAY_AGAINST_THREADS)
    return Experiment(
        label="gpu-01",
        arms={ArmRole.TODAY: "fractional-auto", ArmRole.THREADS: "fractional-12", ArmRole.EXCLUSIVE: "integer-12"},
        contrasts=(threads, contrast(Question.EXCLUSIVE, Load.SOLO, 0.85, 1.01)),
        throughputs=tuple(
            throughputs(
                Load.SOLO, {ArmRole.TODAY: 820.0, ArmRole.THREADS: 1894.0, ArmRole.EXCLUSIVE: 1610.0}, tenants=1
            )
        ),
        recommendation=Recommendation.SET_THREADS,
        sentence=(
            "Threads set is 2.31 times as fast as it is today; exclusive CPUs would make it slower again "
            "(0.85 times as fast)."
        ),
        advice=(Advice(AdviceCode.SET_THREADS, "Set OMP_NUM_THREADS=12, the CPU limit, in the pods."),),
        invalid=(),
        control=estimate(1.001, 0.008),
        control_proves=True,
        margin=MARGIN,
        precision=0.10,
        rounds=6,
        expected_rounds=6,
        gpu_minutes=8.4,
        gpu_hours_gained=13.6,
        interleaved=True,
        notes=(
            Note(NoteCode.IDLE_NODE_ONLY, "only an idle node was measured: with neighbours, the answer may differ"),
        ),
        environment={
            "gpu": "NVIDIA H100 80GB HBM3",
            "driver": "570.1",
            "torch": "2.5.1",
            "cpu_model": "Intel Xeon Platinum 8480",
            "cpu_count": 64,
            "quota_cpus": 12.0,
            "omp_num_threads": None,
            "kernel": "6.8.0",
        },
    )


def full_node() -> Experiment:
    """Four tenants, under all loads: exclusive CPUs help where the node is full."""
    found = idle_node()
    rates = {
        Load.SOLO: {ArmRole.TODAY: 820.0, ArmRole.THREADS: 1894.0, ArmRole.EXCLUSIVE: 1610.0},
        Load.FULL: {ArmRole.TODAY: 700.0, ArmRole.THREADS: 1530.0, ArmRole.EXCLUSIVE: 1585.0},
        Load.BUSY: {ArmRole.TODAY: 655.0, ArmRole.THREADS: 1240.0, ArmRole.EXCLUSIVE: 1540.0},
    }
    return replace(
        found,
        contrasts=(
            *found.contrasts,
            contrast(Question.THREADS, Load.FULL, 2.18, 1.03),
            contrast(Question.EXCLUSIVE, Load.FULL, 1.03, 1.0),
            contrast(Question.THREADS, Load.BUSY, 1.89, 1.05),
            replace(
                contrast(Question.EXCLUSIVE, Load.BUSY, 1.24, 1.06),
                causes=(
                    Cause(
                        CauseCode.CONTENTION,
                        0.8,
                        ("the launching thread waited for a CPU for 14 % of the time, 0.2 % with exclusive CPUs",),
                    ),
                ),
            ),
        ),
        throughputs=tuple(
            one
            for load, of_arms in rates.items()
            for one in throughputs(load, of_arms, tenants=1 if load is Load.SOLO else 4)
        ),
        recommendation=Recommendation.PIN_IF_BUSY,
        sentence=(
            "Threads set is 2.18 times as fast as it is today on a full node. Exclusive CPUs bring nothing there, "
            "but with busy neighbours they are 1.24 times as fast."
        ),
        gpu_hours_gained=13.0,
        gpu_minutes=134.0,
        notes=(),
    )


def not_decided() -> Experiment:
    """Three rounds: no interval, and no recommendation."""
    found = idle_node()
    bare = Estimate(1.12, 3)
    contrasts = tuple(
        replace(
            one,
            families=tuple(
                replace(family, estimate=bare, by_round={n: family.by_round[n] for n in (1, 2, 3)})
                for family in one.families
            ),
            causes=(),
        )
        for one in found.contrasts
    )
    return replace(
        found,
        contrasts=contrasts,
        recommendation=Recommendation.MEASURE_MORE,
        sentence="Nothing is decided after 3 rounds.",
        rounds=3,
        expected_rounds=8,
        control=bare,
        control_proves=False,
        gpu_hours_gained=None,
        advice=(Advice(AdviceCode.MEASURE_MORE, "Measure about 5 more rounds."),),
    )


def invalid() -> Experiment:
    """Other work ran beside one arm, in halves before and after a switch."""
    return replace(
        idle_node(),
        recommendation=Recommendation.REPEAT,
        sentence="No claim: other work ran beside one arm.",
        invalid=(
            Invalid(
                InvalidCode.OTHER_LOAD,
                "others kept 1.4 CPUs busy in as it is today and 0.1 in threads set: measure on a quiet node.",
            ),
        ),
        interleaved=False,
    )


EXPERIMENTS = {
    "idle-node": idle_node,
    "full-node": full_node,
    "not-decided": not_decided,
    "invalid": invalid,
}
