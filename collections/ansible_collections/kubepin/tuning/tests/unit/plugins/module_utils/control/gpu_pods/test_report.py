# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import (
    gpu_pods_patches,
    gpu_pods_text,
    gpu_pods_verdict,
    gpu_qos_settings_problems,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_audit import AUDIT, OWNER, POD

GOOD = {
    **AUDIT,
    "owners": [],
    "pods": [{**POD, "exclusive": True, "containers": [], "risk": {"grade": "none", "causes": [], "unknown": []}}],
    "summary": {
        **AUDIT["summary"],
        "exclusive": 1,
        "not_exclusive": 0,
        "reasons": {},
        "risk": {"high": 0, "low": 0, "none": 1, "unknown": 0},
    },
}


def test_the_text_names_pods_reasons_and_what_mends_them() -> None:
    text = gpu_pods_text(AUDIT)
    assert text.startswith("kubepin: 1 GPU pod: 0 with exclusive CPUs, 1 not.")
    for line in (
        "  ml/serve   gpu-01   Deployment/serve   Guaranteed   risk unknown (container_update)",
        "      container main, 1.5 CPUs: fractional_cpu; no OMP_NUM_THREADS",
        "  fractional_cpu: its CPU request is not a whole number (pods: 1)",
        "  unknown of some nodes: runc_version. Whoever knows them puts them into gpu_qos_nodes.",
        "patches: 1 of 1 template; all together cost +0.5 CPUs on gpu-01, +2 CPUs for pods not scheduled",
        "  ml Deployment/serve: cost +0.5 CPUs on gpu-01",
    ):
        assert line in text.splitlines()


def test_a_patch_without_a_cost_says_so() -> None:
    free = {**OWNER, "cpus_per_node": {"gpu-01": 0}}
    assert "  ml Deployment/serve: cost nothing now" in gpu_pods_text({**AUDIT, "owners": [free]}).splitlines()


def test_equal_pods_are_one_entry() -> None:
    pods = [{**POD, "name": f"serve-{number}", "node": f"gpu-0{number}"} for number in range(3)]
    pods += [{**POD, "name": name, "owner": None} for name in ("bare-1", "bare-2")]
    lines = [line.split("   ") for line in gpu_pods_text({**AUDIT, "pods": pods}).splitlines()]
    table = [[cell.strip() for cell in line if cell] for line in lines if line[0].startswith("  ml/")]
    assert table == [
        ["ml/serve-0 and 2 more", "3 nodes", "Deployment/serve", "Guaranteed", "risk unknown (container_update)"],
        ["ml/bare-1 and 1 more", "gpu-01", "bare pods", "Guaranteed", "risk unknown (container_update)"],
    ]


def test_nothing_to_say_of_good_pods() -> None:
    assert gpu_pods_text(GOOD).splitlines()[1:] == [
        "  requested: whole GPUs 1",
        "  risk none: nothing known takes it",
    ]


def test_patches_with_the_names_of_their_files() -> None:
    (patch,) = gpu_pods_patches(AUDIT)
    assert (patch["name"], patch["patch"], patch["undo"], patch["apply"]) == (
        "ml-deployment-serve",
        {"p": 1},
        {"u": 1},
        True,
    )
    assert patch["command"] == (
        "kubectl -n ml patch deployment serve --type strategic --patch-file ml-deployment-serve.yaml"
    )
    assert not gpu_pods_patches({**AUDIT, "owners": [{**OWNER, "problems": ["choose"]}]})[0]["apply"]
    assert gpu_pods_patches({**AUDIT, "owners": [{**OWNER, "patch": None}]}) == []


@pytest.mark.parametrize(
    ("audit", "fail_on", "codes"),
    [
        (AUDIT, "none", []),
        (AUDIT, "at_risk", ["gpu_pods_at_risk"]),
        (AUDIT, "not_exclusive", ["gpu_pods_not_exclusive"]),
        (GOOD, "at_risk", []),
        (GOOD, "not_exclusive", []),
    ],
)
def test_the_verdict_by_policy(audit: Any, fail_on: str, codes: list[str]) -> None:
    found = gpu_pods_verdict(audit, fail_on)
    assert [problem["code"] for problem in found] == codes
    assert all(f"gpu_qos_fail_on is {fail_on}" in problem["text"] for problem in found)


@pytest.mark.parametrize(
    ("apply", "pods_file", "codes"),
    [(True, "pods.json", ["patches_from_file"]), (True, "", []), (False, "pods.json", [])],
)
def test_patches_of_a_file_are_not_applied(apply: bool, pods_file: str, codes: list[str]) -> None:
    found = gpu_qos_settings_problems({"apply": apply, "pods_file": pods_file})
    assert [problem["code"] for problem in found] == codes
    assert all(pods_file in problem["subject"] and "gpu_qos_apply" in problem["remedy"] for problem in found)


def test_pods_that_only_have_a_claim_are_named_as_such() -> None:
    (container,) = POD["containers"]
    claiming = {**POD, "containers": [{**container, "gpus": ["claim/nic"]}]}
    words = "  pods with a claim (DRA) and no GPU resource: 1. Only the claim tells whether its device is a GPU"
    assert words in gpu_pods_text({**AUDIT, "pods": [claiming, POD]})
    assert "claim" not in gpu_pods_text(AUDIT)
