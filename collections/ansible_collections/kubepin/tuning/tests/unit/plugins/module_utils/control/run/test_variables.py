# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.filter.variables import (
    role_variables,
    variable_kinds,
    variable_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import (
    SHARED,
    misspelt,
    type_problems,
)

PROJECT = Path(__file__).parents[10]
ROLES = role_variables(PROJECT / "roles")
KINDS = variable_kinds(PROJECT / "roles")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cpu_manager_reserved_cpu", "cpu_manager_reserved_cpus"),
        ("cpu_manager_drain_delete_emptydir", "cpu_manager_drain_delete_emptydir_data"),
        ("kubepin_kubeconf", "kubepin_kubeconfig"),
        ("gpu_qos_accept_risks", "gpu_qos_accept_risk"),
        ("tune_benchmarks", "tune_benchmark"),
    ],
)
def test_a_name_that_is_almost_right_is_told_with_the_right_one(name: str, meant: str) -> None:
    assert misspelt([name], ROLES) == [
        f"variable {name} is not one of kubepin's, and has no effect: did you mean {meant}?"
    ]


@pytest.mark.parametrize(
    "name", ["cpu_manager_reserved_cpus", "kubepin_plan", "kubepin_site_color", "ansible_host", "gpu_model", "tune_in"]
)
def test_names_that_are_right_or_the_sites_own_are_left_alone(name: str) -> None:
    assert misspelt([name], ROLES) == []


def test_every_variable_that_the_project_documents_is_known() -> None:
    known = {*SHARED, *(name for names in ROLES.values() for name in names)}
    texts = [*(PROJECT / "inventory").rglob("*.yml"), *(PROJECT / "molecule").rglob("*.yml")]
    used = {name for text in texts for name in re.findall(r"^ *(?:# )?([a-z_]+):", text.read_text(), re.MULTILINE)}
    assert misspelt(used | known, ROLES) == []


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_list_and_dictionary_of_every_role_that_is_text_is_refused_with_the_way_out(name: str) -> None:
    (problem,) = type_problems({name: "[1]"}, KINDS)
    assert problem.code == "variable_is_text"
    assert f'{name} "[1]" is text: expected a {KINDS[name].replace("dict", "dictionary")}' in problem.text
    assert f"""-e '{{"{name}": """ in problem.remedy


@pytest.mark.parametrize("batches", [1, "2", "25%", [1, "25%", "100%"], ["1"]])
def test_batches_that_ansible_takes(batches: object) -> None:
    assert type_problems({"kubepin_batches": batches}, KINDS) == []


@pytest.mark.parametrize(
    ("batches", "wrong"),
    [("[1]", "[1]"), ("1,2", "1,2"), ([0], "0"), ([1, "half"], "half"), ([], "[]"), ([True], "True")],
)
def test_batches_that_are_none_are_named(batches: object, wrong: str) -> None:
    (problem,) = type_problems({"kubepin_batches": batches}, KINDS)
    assert (problem.code, problem.subject) == ("batches_invalid", f'"{wrong}" in kubepin_batches')


def test_all_problems_of_all_hosts_are_listed_once() -> None:
    hosts = [
        {"gpu_benchmark_cells": "a", "cpu_manager_reserved_memory": ""},
        {"gpu_benchmark_cells": "a", "gpu_qos_nodes": "{}"},
    ]
    found = variable_problems(hosts, str(PROJECT / "roles"))
    assert [problem["text"].split(" ")[0] for problem in found] == ["gpu_benchmark_cells", "gpu_qos_nodes"]
