# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cpu_managers import other_cpu_managers


def pod(
    name: str, container: str = "main", image: str = "example.org/app:1", phase: str = "Running", **labels: str
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "kube-system", "name": name, "labels": labels},
        "spec": {"containers": [{"name": container, "image": image}]},
        "status": {"phase": phase},
    }


NRI = "an NRI resource policy plugin"
BALLOONS = "ghcr.io/containers/nri-plugins/nri-resource-policy-balloons:v0.9"
TOPOLOGY_AWARE = {"app.kubernetes.io/name": "nri-resource-policy-topology-aware"}
DRA = "registry.k8s.io/dra-driver-cpu/dra-driver-cpu:v0.2.0"


@pytest.mark.parametrize(
    ("found", "program"),
    [
        pytest.param(pod("dracpu-x", "dracpu"), "dra-driver-cpu", id="the container's name"),
        pytest.param(pod("cpu-x", image=DRA), "dra-driver-cpu", id="the image"),
        pytest.param(pod("tap-x", **TOPOLOGY_AWARE), NRI, id="a label"),
        pytest.param(pod("b", image=BALLOONS), NRI, id="balloons"),
        pytest.param(pod("koordlet-x", **{"koord-app": "koordlet"}), "Koordinator", id="koordlet"),
    ],
)
def test_a_program_that_assigns_cpus_is_a_problem(found: dict[str, Any], program: str) -> None:
    (problem,) = other_cpu_managers([pod("cni"), found, found])
    assert problem.code == "other_cpu_manager"
    where = f"on this node (pod kube-system/{found['metadata']['name']})"
    assert problem.text.startswith(f"{program} assigns the CPUs of containers {where}")
    assert problem.text.endswith(f"keep {program} off the node first, or leave the node out with --limit.")


@pytest.mark.parametrize(
    "other",
    [
        pod("app", "koord-manager", "example.org/koord-manager:1"),
        pod("nri-memory-policy", image="ghcr.io/containers/nri-plugins/nri-memory-policy:v0.9"),
        pod("gpu", "dra-driver-gpu"),
        pod("done", "dracpu", phase="Succeeded"),
        {"metadata": {"namespace": "a", "name": "bare"}},
    ],
)
def test_other_programs_are_none(other: dict[str, Any]) -> None:
    assert other_cpu_managers([other]) == []
