# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.filter.variables import role_variables
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import SHARED, misspelt

PROJECT = Path(__file__).parents[10]
ROLES = role_variables(PROJECT / "roles")


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
