# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from fractions import Fraction

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.patch import build_patch
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import containers_of, qos
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod, side

PREFIXES = ["nvidia.com/"]


def patch_of(spec, kind="Deployment", injected=(), multiple=1):
    item = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": "ml", "name": "a"}}
    return build_patch(item, spec, containers_of(spec, PREFIXES), injected, multiple)


@pytest.mark.parametrize(
    ("spec", "multiple", "cpu", "memory", "cost"),
    [
        (pod(main("1500m 1Gi")), 1, "2", "1Gi", Fraction(1, 2)),
        (pod(main("1500m 1Gi")), 4, "4", "1Gi", Fraction(5, 2)),
        (pod(main("4 2Gi", "2 1Gi")), 1, "4", "2Gi", 2),
        (pod(main("", "3 1Gi")), 1, "3", "1Gi", 0),
        (pod(main("2 1Gi", "500m 1Gi")), 1, "2", "1Gi", Fraction(3, 2)),
        (pod(main("3 1Gi")), 2, "4", "1Gi", 1),
    ],
)
def test_a_patch_rounds_up_and_equals_requests_and_limits(spec, multiple, cpu, memory, cost):
    found = patch_of(spec, multiple=multiple)
    amounts = {"cpu": cpu, "memory": memory}
    entry = {"name": "main", "resources": {"limits": amounts, "requests": amounts}}
    assert found.patch["spec"] == {"template": {"spec": {"containers": [entry]}}}
    assert found.patch["metadata"] == {"namespace": "ml", "name": "a"}
    assert (found.problems, found.cpus) == ([], cost)


def test_the_way_back_removes_what_was_not_there():
    resources = patch_of(pod(main("1500m 1Gi"))).undo["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": None, "memory": None}}


def test_a_cron_job_keeps_its_template_deeper():
    assert set(patch_of(pod(main("1500m 1Gi")), "CronJob").patch["spec"]["jobTemplate"]["spec"]["template"]) == {"spec"}


def test_init_containers_are_patched_where_they_are():
    patch = patch_of(pod(main("2 1Gi"), init=(side("500m 1Gi"),))).patch["spec"]["template"]["spec"]
    assert [entry["name"] for entry in patch["initContainers"]] == ["side"]
    assert "containers" not in patch


@pytest.mark.parametrize(
    ("spec", "kind", "injected", "patched", "problems"),
    [
        (pod(main("2 1Gi")), "Deployment", (), False, []),
        (pod(main("2 1Gi")), "Job", (), False, []),
        (
            pod(main("1500m 1Gi")),
            "Job",
            (),
            False,
            ["the template of a Job cannot be changed: change what makes the Job"],
        ),
        (pod(main("1500m")), "Deployment", (), True, ["container main names no amount of memory: choose one"]),
        (
            pod(main()),
            "Deployment",
            (),
            False,
            [
                "container main names no number of CPUs: choose one",
                "container main names no amount of memory: choose one",
            ],
        ),
        (
            pod(main("2 1Gi")),
            "Deployment",
            ("istio-proxy",),
            False,
            ["container istio-proxy is not in the template: set its resources where it is injected"],
        ),
    ],
)
def test_what_a_patch_cannot_repair_is_named(spec, kind, injected, patched, problems):
    found = patch_of(spec, kind, injected)
    assert (found.patch is not None, found.problems) == (patched, problems)


def test_what_is_patched_needs_no_other_patch():
    spec = pod(main("4 2Gi", "1500m 1Gi"), side("100m 64Mi"))
    patch = patch_of(spec).patch["spec"]["template"]["spec"]["containers"]
    patched = pod(*({**old, "resources": new["resources"]} for old, new in zip(spec["containers"], patch)))
    assert patch_of(patched).patch is None
    assert qos(patched, containers_of(patched, [])) == "Guaranteed"
