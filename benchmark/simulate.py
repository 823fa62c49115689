# SPDX-License-Identifier: GPL-3.0-or-later
"""What the method claims about timings whose truth is known: false claims, coverage, rounds and GPU-minutes.

Each run draws the processes of an experiment and evaluates it after 5, 8, 12 and 20 rounds, as a measurement does, until
it is precise. The log of a cell's mean step in a process is normal: one part is common to the cells of the process,
one is the cell's own. A draw that makes the control move is an INVALID run, and counts as no claim.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .analysis import Estimate, Verdict
from .assess import assess
from .experiment import Experiment, Question
from .pod.cells import BATCH, GRAPH_MODE, LOADER_MODES, Cell
from .results import Process, ResultSet, Timing
from .roles import STEPS
from .statistics import ALPHA, INTERIM_ANALYSES, MARGIN, PRECISION

PROCESS_S = 30.0
"""Seconds for which a process of the default matrix holds the GPU, with its start."""
ARMS = ("none-auto", "none-4", "static-4")
CONTROL_NOISE = 0.003


@dataclass(frozen=True)
class Noise:
    """Standard deviations of ln(time): `process` is common to the cells of a process, `cell` is each cell's own."""

    name: str
    process: float
    cell: float


NOISES = (Noise("quiet", 0.005, 0.01), Noise("H200-like", 0.025, 0.06), Noise("shared VM", 0.10, 0.12))
EFFECTS = ((1.0, 1.0), (1.1, 1.0), (1.3, 1.0), (2.0, 1.0), (2.0, 0.87), (1.5, 1.2))
"""True ratios of both steps: to threads, and from there to exclusive CPUs."""
SHIFTS = (0.01, 0.02, 0.05, 0.10)
"""Standard deviations of what changes between the halves before and after, with no effect at all."""


@dataclass(frozen=True)
class Line:
    """The outcome of `runs` experiments with the same truth. All but `rounds` and `minutes` are counts of runs.

    `false` made a claim on a step that is not true, `covered` have both true ratios in their intervals, `precise`
    reached the precision.
    """

    noise: Noise
    truth: tuple[float, ...]
    shift: float
    runs: int
    false: int
    covered: int
    precise: int
    invalid: int
    rounds: float
    minutes: float


def simulate(runs: int) -> list[Line]:
    """All lines: each noise with each effect, then halves that are not interleaved."""
    lines = [line(noise, truth, 0.0, runs) for noise in NOISES for truth in EFFECTS]
    return lines + [line(NOISES[0], (1.0, 1.0), shift, runs) for shift in SHIFTS]


def line(noise: Noise, truth: tuple[float, float], shift: float, runs: int) -> Line:
    """Experiments with the same noise and truth, and a `shift` (sd) between halves if it is above 0."""
    draw = random.Random(f"{noise.name} {truth} {shift}")
    found = [_stopped(noise, truth, shift, draw) for _run in range(runs)]
    expected = dict(zip(STEPS, truth))
    return Line(
        noise,
        truth,
        shift,
        runs,
        false=sum(1 for one in found if any(_false(value, expected[q], one.margin) for q, value in _values(one))),
        covered=sum(1 for one in found if all(_covers(value, expected[q]) for q, value in _values(one))),
        precise=sum(1 for one in found if one.is_precise),
        invalid=sum(1 for one in found if one.invalid),
        rounds=fmean(one.rounds for one in found),
        minutes=fmean(one.rounds * len(ARMS) * PROCESS_S / 60 for one in found),
    )


def _values(experiment: Experiment) -> Iterator[tuple[Question, Estimate]]:
    for contrast in experiment.contrasts:
        yield contrast.question, contrast.headline.estimate


def _false(value: Estimate, truth: float, margin: float) -> bool:
    """Whether the verdict claims what is not true."""
    edge = math.log1p(margin)
    return {
        Verdict.BEATS: math.log(truth) <= edge,
        Verdict.WORSE: math.log(truth) >= -edge,
        Verdict.EQUIVALENT: abs(math.log(truth)) >= edge,
    }.get(value.verdict, False)


def _covers(value: Estimate, truth: float) -> bool:
    return value.low is not None and value.high is not None and value.low <= truth <= value.high


def _stopped(noise: Noise, truth: tuple[float, float], shift: float, draw: random.Random) -> Experiment:
    """The experiment at the analysis at which it stops."""
    rounds: list[list[Process]] = [[] for _arm in ARMS]
    moved = draw.gauss(0.0, shift)
    experiment = None
    for most in INTERIM_ANALYSES:
        for number in range(len(rounds[0]) + 1, most + 1):
            for arm, processes in enumerate(rounds):
                gain = sum(map(math.log, truth[:arm])) + (moved if arm == len(ARMS) - 1 else 0.0)
                processes.append(_process(number, noise, gain, draw))
        experiment = _evaluate(rounds, interleaved=not shift)
        if experiment.is_precise or experiment.invalid:
            break
    assert experiment is not None
    return experiment


_CONTROL = Cell("resnet50", "half", GRAPH_MODE, BATCH)
_CELLS = (
    *(Cell(model, "half", mode, BATCH) for model in ("resnet18", "resnet50", "resnet152") for mode in LOADER_MODES),
    Cell("resnet18", "half", "inference", 1),
    Cell("resnet18", "half", "train", BATCH),
    _CONTROL,
)


def _process(number: int, noise: Noise, gain: float, draw: random.Random) -> Process:
    common = draw.gauss(0.0, noise.process)

    def mean_ms(cell: Cell) -> float:
        if cell == _CONTROL:
            return 10 * math.exp(draw.gauss(0.0, CONTROL_NOISE))
        return 10 * math.exp(common + draw.gauss(0.0, noise.cell) - gain)

    return Process(number, 0, {cell: Timing("ok", (mean_ms(cell),)) for cell in _CELLS})


def _evaluate(rounds: Sequence[Sequence[Process]], *, interleaved: bool) -> Experiment:
    runs: dict[str, dict[str, ResultSet]] = {}
    for arm, processes in zip(ARMS, rounds):
        run = "r1" if interleaved or arm != ARMS[-1] else "r2"
        results = ResultSet(arm, tuple(processes), {"gpu": "drawn"}, frozenset({run}), arm=arm)
        runs.setdefault(run, {})[arm] = results
    return assess(runs)


_COLUMNS: Mapping[str, Callable[[Line], str]] = {
    "noise (process, cell)": lambda line: f"{line.noise.name} {line.noise.process:.1%}, {line.noise.cell:.0%}",
    "threads, exclusive": lambda line: ", ".join(f"{ratio:g}" for ratio in line.truth),
    "shift": lambda line: f"{line.shift:.0%}" if line.shift else "",
    "false claims": lambda line: str(line.false),
    "both covered": lambda line: str(line.covered),
    "precise": lambda line: str(line.precise),
    "invalid": lambda line: str(line.invalid),
    "rounds": lambda line: f"{line.rounds:.1f}",
    "GPU-minutes": lambda line: f"{line.minutes:.1f}",
}


def to_text(lines: Iterable[Line]) -> str:
    """A table in Markdown, below what it counts."""
    found = list(lines)
    rows = [[read(line) for read in _COLUMNS.values()] for line in found]
    runs = found[0].runs if found else 0
    head = (
        f"{runs} runs a line; precision {PRECISION:.0%}, margin {MARGIN:.0%}, alpha {ALPHA:.0%} over analyses at "
        f"{', '.join(map(str, INTERIM_ANALYSES))} rounds; a process holds the GPU for {PROCESS_S:.0f} s."
    )
    table = [list(_COLUMNS), ["---", "---", *["---:"] * (len(_COLUMNS) - 2)], *rows]
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in table)])
