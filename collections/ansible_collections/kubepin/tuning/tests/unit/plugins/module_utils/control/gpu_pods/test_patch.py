# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import owner_kind, templates_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.patch import build_patch, change_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import containers_of, qos
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import amounts, main, pod, side

PREFIXES = ["nvidia.com/"]
NOWHERE = Node()


class Patched(NamedTuple):
    patch: Any
    undo: Any
    problems: list[Problem]
    cpus: Fraction


def patch_of(spec: Any, kind: Any = "Deployment", injected: Any = (), multiple: Any = 1, node: Any = NOWHERE) -> Any:
    body = {"template": {"spec": spec}}
    if kind == "CronJob":
        body = {"jobTemplate": {"spec": body}}
    item = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": "ml", "name": "a"}, "spec": body}
    row = owner_kind(item)
    assert row
    (template,) = templates_of(item, row)
    change = change_of(template.spec, containers_of(template.spec, PREFIXES), injected, multiple, node)
    patch, undo, _type = build_patch(item, row, [(template, change)])
    return Patched(patch, undo, change.problems, change.cpus)


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
def test_a_patch_rounds_up_and_equals_requests_and_limits(
    spec: Any, multiple: int, cpu: str, memory: str, cost: Any
) -> None:
    found = patch_of(spec, multiple=multiple)
    amounts = {"cpu": cpu, "memory": memory}
    entry = {"name": "main", "resources": {"limits": amounts, "requests": amounts}}
    assert found.patch["spec"] == {"template": {"spec": {"containers": [entry]}}}
    assert found.patch["metadata"] == {"namespace": "ml", "name": "a"}
    assert (found.problems, found.cpus) == ([], cost)


def test_the_way_back_removes_what_was_not_there() -> None:
    resources = patch_of(pod(main("1500m 1Gi"))).undo["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": None, "memory": None}}


def test_a_cron_job_keeps_its_template_deeper() -> None:
    assert set(patch_of(pod(main("1500m 1Gi")), "CronJob").patch["spec"]["jobTemplate"]["spec"]["template"]) == {"spec"}


def test_init_containers_are_patched_where_they_are() -> None:
    patch = patch_of(pod(main("2 1Gi"), init=(side("500m 1Gi"),))).patch["spec"]["template"]["spec"]
    assert [entry["name"] for entry in patch["initContainers"]] == ["side"]
    assert "containers" not in patch


@pytest.mark.parametrize(
    ("spec", "kind", "injected", "patched", "problems"),
    [
        (pod(main("2 1Gi")), "Deployment", (), False, []),
        (pod(main("2 1Gi")), "Job", (), False, []),
        (pod(main("1500m 1Gi")), "Job", (), False, []),
        (pod(main("1500m")), "Deployment", (), True, ["no_amount_of_memory"]),
        (
            pod(main()),
            "Deployment",
            (),
            False,
            ["no_number_of_cpus", "no_amount_of_memory"],
        ),
        (
            pod(main("2 1Gi")),
            "Deployment",
            ("istio-proxy",),
            False,
            ["container_injected"],
        ),
    ],
)
def test_what_a_patch_cannot_repair_is_named(spec: Any, kind: str, injected: Any, patched: bool, problems: Any) -> None:
    found = patch_of(spec, kind, injected)
    assert (found.patch is not None, [problem.code for problem in found.problems]) == (patched, problems)


def test_what_is_patched_needs_no_other_patch() -> None:
    spec = pod(main("4 2Gi", "1500m 1Gi"), side("100m 64Mi"))
    patch = patch_of(spec).patch["spec"]["template"]["spec"]["containers"]
    patched = pod(*({**old, "resources": new["resources"]} for old, new in zip(spec["containers"], patch)))
    assert patch_of(patched).patch is None
    assert qos(patched, containers_of(patched, [])) == "Guaranteed"


BY_CONTAINER, AS_ONE = Node(pod_level=True), Node(pod_level=True, pod_scope=True)


def whole(text: Any, *containers: Any) -> Any:
    """A pod with pod-level resources."""
    return pod(*containers, resources={"limits": amounts(text), "requests": amounts(text)})


@pytest.mark.parametrize("node", [BY_CONTAINER, AS_ONE])
def test_of_a_pod_that_is_managed_as_a_whole_only_the_gpus_container_is_patched(node: Any) -> None:
    found = patch_of(
        whole("4 8Gi", main("1500m 1Gi"), side("100m 64Mi"), side(name="log")), node=node, injected=["istio"]
    )
    entries = found.patch["spec"]["template"]["spec"]["containers"]
    assert [(entry["name"], entry["resources"]["limits"]["cpu"]) for entry in entries] == [("main", "2")]
    assert (found.problems, found.cpus) == ([], 0)


@pytest.mark.parametrize(
    ("spec", "node", "patched", "words"),
    [
        pytest.param(
            whole("2 8Gi", main("1500m 1Gi"), side("100m 1Gi")),
            BY_CONTAINER,
            False,
            "has 2 CPUs, and its containers need 2.1",
            id="no room for whole CPUs",
        ),
        pytest.param(
            whole("4 1Gi", main("2 1Gi", "2 512Mi"), side("1 512Mi")),
            BY_CONTAINER,
            False,
            "has 1073741824 bytes of memory, and its containers need 1610612736",
            id="no room for equal memory",
        ),
        pytest.param(
            whole("2 8Gi", main("1500m 1Gi"), side()),
            AS_ONE,
            True,
            "leave none to the others",
            id="no CPUs for the others",
        ),
        pytest.param(
            whole("2500m 8Gi", main("1500m 1Gi")),
            AS_ONE,
            True,
            "are not a whole number",
            id="a part of a CPU for the pod",
        ),
        pytest.param(
            pod(main("1500m 1Gi"), resources={"limits": amounts("4 8Gi")}),
            BY_CONTAINER,
            True,
            "of the pod's own resources (spec.resources), its CPU request is not its CPU limit",
            id="a request of the pod that follows its containers",
        ),
        pytest.param(
            whole("2 8Gi", main("1500m 1Gi")), NOWHERE, True, "Give them to the containers", id="managed by container"
        ),
    ],
)
def test_what_the_pods_own_resources_must_be_is_named(spec: Any, node: Any, patched: bool, words: str) -> None:
    found = patch_of(spec, node=node)
    assert [problem for problem in found.problems if words in problem.text], found.problems
    assert (found.patch is not None) == patched
