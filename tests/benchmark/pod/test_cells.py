# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools

import pytest

from benchmark.pod.cells import (
    MATRICES,
    RESNETS,
    Cell,
    controls,
    family,
    grouped_order,
    matrix_cells,
    parse_cell,
)

GRAPH = Cell("resnet50", "half", "inference-graph", 64)
DOUBLE = Cell("resnet18", "double", "inference", 64)


def test_a_cell_is_read_from_its_text() -> None:
    assert parse_cell("wide_resnet101_2:double:train-loader:12") == Cell(
        "wide_resnet101_2", "double", "train-loader", 12
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet18:half:train", "expected model:precision:mode:batch"),
        ("alexnet:half:train:1", "model 'alexnet' is not one of resnet18,"),
        ("resnet18:int8:train:1", "precision 'int8' is not one of half, float, double"),
        ("resnet18:half:eval:1", "mode 'eval' is not one of train, inference, train-loader"),
        ("resnet18:half:train:0", "batch '0' is not an integer from 1"),
        ("resnet18:half:train:-4", "batch '-4' is not an integer from 1"),
    ],
)
def test_a_wrong_cell_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cell(text)


def test_all_faults_of_a_cell_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"alexnet.*int8.*eval.*'x'.*such as resnet18:half:inference:64"):
        parse_cell("alexnet:int8:eval:x")


@pytest.mark.parametrize(("graphs", "control"), [(True, GRAPH), (False, DOUBLE)])
@pytest.mark.parametrize("name", ["default", "resnets"])
def test_a_matrix_on_a_gpu_has_one_control(name: str, graphs: bool, control: Cell) -> None:
    cells = matrix_cells(name, cuda=True, graphs=graphs)
    assert controls(cells, cuda=True, graphs=graphs) == [control]
    assert set(cells) == {*MATRICES[name], control}


def test_a_matrix_on_a_cpu_has_no_control() -> None:
    cells = matrix_cells("cpu", cuda=False, graphs=False)
    assert cells == list(MATRICES["cpu"])
    assert controls([*cells, GRAPH, DOUBLE], cuda=False, graphs=False) == []


def test_the_default_is_about_the_input_pipeline() -> None:
    families = [family(cell) for cell in matrix_cells("default", cuda=True, graphs=True)]
    assert families == ["input_pipeline"] * 4 + ["launch"] * 2 + ["control"]


def test_a_cpu_has_the_same_families_but_no_control() -> None:
    assert [family(cell) for cell in MATRICES["cpu"]] == ["input_pipeline"] * 2 + ["launch"] * 2


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("resnet50:half:train:64", "other"),
        ("resnet18:half:inference:64", "other"),
        ("resnet18:float:train:64", "other"),
        ("resnet18:float:train:4", "launch"),
        ("resnet18:double:train:64", "control"),
        ("resnet152:double:train-loader:64", "input_pipeline"),
    ],
)
def test_what_a_cell_is_about(cell: str, expected: str) -> None:
    assert family(parse_cell(cell)) == expected


def test_the_full_matrix_is_that_of_the_original_and_its_control() -> None:
    cells = matrix_cells("full", cuda=True, graphs=True)
    assert len(cells) == 9 * 3 * 2 + 1
    assert controls(cells, cuda=True, graphs=True) == [GRAPH]
    assert len(controls(cells, cuda=True, graphs=False)) == 9


def test_the_resnets_matrix_loads_all_nine_models() -> None:
    assert {cell.model for cell in MATRICES["resnets"] if cell.loads} == set(RESNETS)


def test_the_order_is_that_of_the_seed_and_holds_every_cell_once() -> None:
    cells = matrix_cells("full", cuda=True, graphs=True)
    order = grouped_order(cells, "r1 none-auto 1")
    assert order == grouped_order(cells, "r1 none-auto 1")
    assert order != grouped_order(cells, "r1 none-auto 2")
    assert sorted(itertools.chain(*order)) == sorted(cells)


def test_cells_of_one_model_and_precision_stay_together() -> None:
    order = grouped_order(matrix_cells("resnets", cuda=True, graphs=True), "seed")
    assert len({(group[0].model, group[0].precision) for group in order}) == len(order)
    assert all(len({(cell.model, cell.precision) for cell in group}) == 1 for group in order)
