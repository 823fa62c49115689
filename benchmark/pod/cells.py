# SPDX-License-Identifier: GPL-3.0-or-later
"""What is timed: cells, matrices of cells, and their random order. Pure."""

import random
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
PRECISIONS = ("half", "float", "double")
LOADER_MODES = ("train-loader", "inference-loader")
GRAPH_MODE = "inference-graph"
MODES = ("train", "inference", *LOADER_MODES, GRAPH_MODE)
BATCH = 64  # of the comparison of two platforms that this project started from; the original's default is 12
FEW_IMAGES = 4  # a step of resnet18 with so few is over before the next kernel is launched


class Cell(NamedTuple):
    """One model at one precision in one mode with one batch size; None where a result does not record the size."""

    model: str
    precision: str
    mode: str
    batch: Optional[int] = None

    @property
    def trains(self) -> bool:
        return self.mode.startswith("train")

    @property
    def loads(self) -> bool:
        return self.mode in LOADER_MODES

    def __str__(self) -> str:
        name = f"{self.model} {self.precision} {self.mode}"
        return name if self.batch is None else f"{name} batch {self.batch}"


def family(cell: Cell) -> str:
    """The family that a cell belongs to by what it is, never by what was measured (`benchmark.experiment.Family`)."""
    if cell.mode == GRAPH_MODE or (cell.precision == "double" and not cell.loads):
        return "control"
    if cell.loads:
        return "input_pipeline"
    few_images = cell.batch is not None and cell.batch <= FEW_IMAGES
    half_training = cell.trains and cell.precision == "half"
    return "launch" if cell.model == "resnet18" and (few_images or half_training) else "other"


def parse_cell(text: str) -> Cell:
    """The cell that `model:precision:mode:batch` names. Raises ValueError with all problems and the remedy."""
    parts = text.split(":")
    example = "such as resnet18:half:inference:64"
    if len(parts) != 4:
        raise ValueError(f"{text!r}: expected model:precision:mode:batch, {example}")
    model, precision, mode, batch = parts
    problems = [
        f"{name} {value!r} is not one of {', '.join(known)}"
        for name, value, known in (
            ("model", model, RESNETS),
            ("precision", precision, PRECISIONS),
            ("mode", mode, MODES),
        )
        if value not in known
    ]
    if not (batch.isdigit() and int(batch) > 0):
        problems.append(f"batch {batch!r} is not an integer from 1")
    if problems:
        raise ValueError(f"{text!r}: {'; '.join(problems)}. Write it {example}")
    return Cell(model, precision, mode, int(batch))


# Small batches are launch-bound: the largest effect for the least GPU time.
_PROBES = (Cell("resnet18", "half", "inference", 1), Cell("resnet18", "half", "train", BATCH))
_DEFAULT = (
    *(Cell(model, "half", mode, BATCH) for model in ("resnet18", "resnet50") for mode in LOADER_MODES),
    *_PROBES,
)
_CPU = (
    *(Cell("resnet18", "float", mode, FEW_IMAGES) for mode in LOADER_MODES),
    Cell("resnet18", "float", "inference", 1),
    Cell("resnet18", "float", "train", FEW_IMAGES),
)
# Replaying a graph, or computing in double precision, leaves the CPU almost nothing to do.
_GRAPH_CONTROL = Cell("resnet50", "half", GRAPH_MODE, BATCH)
_DOUBLE_CONTROL = Cell("resnet18", "double", "inference", BATCH)

MATRICES: Dict[str, Tuple[Cell, ...]] = {
    "default": _DEFAULT,
    "resnets": tuple(Cell(model, "half", mode, BATCH) for model in RESNETS for mode in LOADER_MODES) + _PROBES,
    "full": tuple(
        Cell(model, precision, mode, BATCH)
        for precision in PRECISIONS
        for mode in ("train", "inference")
        for model in RESNETS
    ),
    "cpu": _CPU,
}


def matrix_cells(name: str, *, cuda: bool, graphs: bool) -> List[Cell]:
    """Cells of a matrix; on CUDA with a negative control, in double precision if torch has no CUDA graphs."""
    cells = list(MATRICES[name])
    control = _GRAPH_CONTROL if graphs else _DOUBLE_CONTROL
    if cuda and control not in cells:
        cells.append(control)
    return cells


def controls(cells: Sequence[Cell], *, cuda: bool, graphs: bool) -> List[Cell]:
    """The cells that do not depend on the CPU: graph replays, else double precision inference, on CUDA only."""
    replays = [cell for cell in cells if cell.mode == GRAPH_MODE]
    if not cuda:
        return []
    if graphs and replays:
        return replays
    return [cell for cell in cells if cell.precision == "double" and cell.mode == "inference"]


def grouped_order(cells: Sequence[Cell], seed: str) -> List[List[Cell]]:
    """Cells in random order, grouped by model and precision, because a group shares its model.

    The groups and the cells in each are shuffled. The same seed gives the same order on every Python. A process that
    follows the order twice visits each cell at two times that are as far apart as possible.
    """
    groups: Dict[Tuple[str, str], List[Cell]] = {}
    for cell in dict.fromkeys(cells):
        groups.setdefault((cell.model, cell.precision), []).append(cell)
    order = list(groups.values())
    generator = random.Random(seed)
    generator.shuffle(order)
    for group in order:
        generator.shuffle(group)
    return order
