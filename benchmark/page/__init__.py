# SPDX-License-Identifier: GPL-3.0-or-later
"""The report page as plain data: one module for each section. The templates only arrange it."""

from __future__ import annotations

from dataclasses import dataclass

from .. import terms
from ..experiment import Experiment
from ..results import SCHEMA
from . import causes, cells, counted, environment, forest, head, node

_GLOSSARY = (
    (
        "times as fast",
        "the mean time of a step in the first arm over that in the second: at 1.50 the second does 1.50 times the work "
        "in the same time. Below 1 it is slower.",
    ),
    ("round", "each arm once, in fresh processes and random order. Rounds are what is repeated, never single steps."),
    ("margin", "the smallest difference worth a claim; the whole interval must lie beyond it."),
    ("family", "cells that load the node in the same way, named before anything is measured."),
    ("control", "work of the GPU alone. If it differs, more than the CPUs differ, and nothing is claimed."),
)


@dataclass(frozen=True)
class Page:
    """What both templates need, except the attached files.

    `lead` introduces the contrasts, `command` says how the runs were made.
    """

    title: str
    head: head.Head
    lead: str
    forest: forest.Forest
    node: node.Node | None
    causes: causes.Causes
    cells: tuple[cells.Cells, ...]
    counted: counted.Counted
    environment: environment.Environment
    arms: tuple[tuple[str, str], ...]
    command: str
    csv: str
    schema: int = SCHEMA
    glossary: tuple[tuple[str, str], ...] = _GLOSSARY


def of_experiment(experiment: Experiment, title: str, command: str) -> Page:
    """The page of an experiment."""
    return Page(
        title=title,
        head=head.of_experiment(experiment),
        lead=head.lead(experiment),
        forest=forest.of_experiment(experiment, head.told_load(experiment)),
        node=node.of_experiment(experiment),
        causes=causes.of_experiment(experiment),
        cells=cells.of_experiment(experiment),
        counted=counted.of_experiment(experiment),
        environment=environment.of_experiment(experiment),
        arms=tuple((terms.arm(role, experiment.arms).name, name) for role, name in experiment.arms.items()),
        command=command,
        csv=cells.experiment_csv(experiment),
    )
