# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    REASONS,
    asks_for_gpu,
    assess,
    containers_of,
    qos,
    threads_follow_the_host,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import CASES, amounts, main, pod, side

PREFIXES = ["nvidia.com/"]


def reasons(spec: Any, node: Any = None) -> Any:
    found = assess(spec, containers_of(spec, PREFIXES), node or Node())
    return {verdict.container.name: list(verdict.reasons) for verdict in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_reason_of_every_container_is_named(case: Any) -> None:
    assert reasons(case.spec) == case.reasons
    assert asks_for_gpu(case.spec, PREFIXES)


WHOLE, ODD = pod(main("2 1Gi")), pod(main("3 1Gi"))

POD_LEVEL = next(case.spec for case in CASES if case.name == "pod-level")

PINNED_IN_THE_POD = {**POD_LEVEL, "containers": [main("2 1Gi", "2 1Gi"), side("500m")]}


@pytest.mark.parametrize(
    ("spec", "known", "expected"),
    [
        pytest.param(WHOLE, {"cpu_manager_policy": "none"}, {"main": ["policy_not_static"]}, id="policy none"),
        pytest.param(WHOLE, {"cpu_manager_policy": "static"}, {"main": []}, id="policy static"),
        pytest.param(ODD, {"full_pcpus_only": True, "threads_per_core": 2}, {"main": ["smt_alignment"]}, id="odd"),
        pytest.param(ODD, {"full_pcpus_only": True, "threads_per_core": 1}, {"main": []}, id="odd, no SMT"),
        pytest.param(ODD, {"full_pcpus_only": True}, {"main": []}, id="odd, threads unknown"),
        pytest.param(ODD, {"full_pcpus_only": False, "threads_per_core": 2}, {"main": []}, id="odd, no such option"),
        pytest.param(ODD, {"allocatable_cpu": 2}, {"main": ["too_many_cpus"]}, id="more than the node has"),
        pytest.param(ODD, {"allocatable_cpu": "2900m"}, {"main": ["too_many_cpus"]}, id="a part of a CPU is none"),
        pytest.param(ODD, {"allocatable_cpu": 3}, {"main": []}, id="all that the node has"),
        pytest.param(
            pod(main("2 1Gi"), side("2 1Gi")),
            {"allocatable_cpu": 3},
            {"main": ["too_many_cpus"], "side": ["too_many_cpus"]},
            id="together more than the node has",
        ),
        pytest.param(
            pod(main("2 1Gi"), init=(side("3 1Gi"),)),
            {"allocatable_cpu": 3},
            {"side": [], "main": []},
            id="an init container runs before",
        ),
        pytest.param(
            PINNED_IN_THE_POD,
            {"kubelet_version": "1.37.2"},
            {"main": ["pod_level_resources"], "side": ["no_memory_limit", "fractional_cpu", "pod_level_resources"]},
            id="resources of the pod",
        ),
        pytest.param(
            PINNED_IN_THE_POD,
            {"pod_level_managers": True},
            {"main": [], "side": []},
            id="resources of the pod, pinned",
        ),
        pytest.param(
            {**POD_LEVEL, "containers": [main("2 1Gi", "1 1Gi")]},
            {"pod_level_managers": True},
            {"main": ["cpu_request_differs"]},
            id="equal resources of the pod, unequal ones of the container",
        ),
        pytest.param(
            POD_LEVEL,
            {"pod_level_managers": True},
            {"main": ["no_cpu_limit", "no_memory_limit"]},
            id="nothing of the container's own",
        ),
    ],
)
def test_what_the_node_makes_of_it(spec: Any, known: dict[str, Any], expected: dict[str, Any]) -> None:
    assert reasons(spec, with_facts(Node(), "gpu-01", known)) == expected


def whole(text: Any, *containers: Any, init: Any = ()) -> Any:
    """A pod with pod-level resources."""
    return pod(*containers, init=init, resources={"limits": amounts(text), "requests": amounts(text)})


AS_ONE = {"pod_level_managers": True, "pod_scope": True}
ODD_CORES = {"full_pcpus_only": True, "threads_per_core": 2}


@pytest.mark.parametrize(
    ("spec", "known", "expected"),
    [
        pytest.param(
            whole("3 4Gi", main("2 1Gi"), side("500m 1Gi")),
            AS_ONE,
            {"main": ("exclusive", []), "side": ("pod", [])},
            id="a sidecar shares what is left of the pod",
        ),
        pytest.param(
            whole("3 4Gi", main("2 1Gi"), side("500m 1Gi")),
            {"pod_level_managers": True},
            {"main": ("exclusive", []), "side": ("node", [])},
            id="a sidecar shares with the node's other pods",
        ),
        pytest.param(
            whole("3 4Gi", main(), side("1 1Gi")),
            AS_ONE,
            {"main": ("pod", ["no_cpu_limit", "no_memory_limit"]), "side": ("exclusive", [])},
            id="the GPU's container shares what is left of the pod",
        ),
        pytest.param(
            whole("2 4Gi", main("2 1Gi"), side()),
            AS_ONE,
            {
                "main": ("node", ["empty_pod_pool"]),
                "side": ("node", ["empty_pod_pool", "no_cpu_limit", "no_memory_limit"]),
            },
            id="nothing is left of the pod",
        ),
        pytest.param(
            whole("2 4Gi", main("2 1Gi"), side()),
            {"pod_level_managers": True},
            {"main": ("exclusive", []), "side": ("node", [])},
            id="nothing is left of the pod, and no pool is needed",
        ),
        pytest.param(
            whole("2 4Gi", main("2 1Gi"), init=(side(),)),
            AS_ONE,
            {"side": ("pod", []), "main": ("exclusive", [])},
            id="an init container has all of the pod before",
        ),
        pytest.param(
            whole("2 4Gi", main(), init=(side("2 1Gi", restartPolicy="Always"), side(name="late"))),
            AS_ONE,
            {
                "side": ("node", ["empty_pod_pool"]),
                "late": ("node", ["empty_pod_pool", "no_cpu_limit", "no_memory_limit"]),
                "main": ("node", ["empty_pod_pool", "no_cpu_limit", "no_memory_limit"]),
            },
            id="a sidecar leaves nothing to a later init container",
        ),
        pytest.param(
            whole("2500m 4Gi", main("2 1Gi")),
            AS_ONE,
            {"main": ("node", ["pod_fractional_cpu"])},
            id="a part of a CPU for the pod",
        ),
        pytest.param(
            whole("2500m 4Gi", main("2 1Gi")),
            {"pod_level_managers": True},
            {"main": ("exclusive", [])},
            id="a part of a CPU for the pod, by container",
        ),
        pytest.param(
            whole("4 4Gi", main("3 1Gi"), side()),
            {**AS_ONE, **ODD_CORES},
            {"main": ("exclusive", []), "side": ("pod", [])},
            id="whole cores for the pod",
        ),
        pytest.param(
            whole("3 4Gi", main("2 1Gi"), side()),
            {**AS_ONE, **ODD_CORES},
            {
                "main": ("node", ["smt_alignment"]),
                "side": ("node", ["smt_alignment", "no_cpu_limit", "no_memory_limit"]),
            },
            id="half a core for the pod",
        ),
        pytest.param(
            whole("4 4Gi", main("3 1Gi"), side()),
            {"pod_level_managers": True, **ODD_CORES},
            {"main": ("node", ["smt_alignment"]), "side": ("node", [])},
            id="half a core for a container",
        ),
        pytest.param(
            whole("5 4Gi", main("2 1Gi")),
            {"pod_level_managers": True, "allocatable_cpu": 4},
            {"main": ("node", ["too_many_cpus"])},
            id="the pod itself asks for more than the node has",
        ),
    ],
)
def test_pods_that_are_managed_as_a_whole(spec: Any, known: Any, expected: dict[str, Any]) -> None:
    found = assess(spec, containers_of(spec, PREFIXES), with_facts(Node(), "gpu-01", known))
    assert {verdict.container.name: (verdict.pool, list(verdict.reasons)) for verdict in found} == expected
    assert [verdict.exclusive for verdict in found] == [pool == "exclusive" for pool, _reasons in expected.values()]


def test_every_reason_has_a_case() -> None:
    seen = {reason for case in CASES for found in case.reasons.values() for reason in found}
    by_the_node = {"policy_not_static", "smt_alignment", "too_many_cpus", "pod_fractional_cpu", "empty_pod_pool"}
    assert seen | by_the_node == set(REASONS)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (WHOLE, "Guaranteed"),
        (pod(main("1500m 1Gi")), "Guaranteed"),
        (pod(main("2")), "Burstable"),
        (pod(main()), "BestEffort"),
        (POD_LEVEL, "Guaranteed"),
        (pod(main(), resources={"limits": amounts("2 1Gi")}), "Guaranteed"),
        (pod(main("2 1Gi"), resources={"limits": amounts("2 1Gi")}), "Guaranteed"),
        # Kubernetes 1.36.3: the pod's missing request is what its containers request
        (pod(main("1 32Mi"), side("- 16Mi"), resources={"limits": amounts("1 64Mi")}), "Burstable"),
    ],
)
def test_quality_of_service(spec: Any, expected: str) -> None:
    assert qos(spec, containers_of(spec, PREFIXES)) == expected


def test_which_pods_ask_for_a_gpu() -> None:
    assert not asks_for_gpu(pod(side("2 1Gi")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="amd.com/gpu")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="nvidia.com/hostdev")), PREFIXES)
    assert asks_for_gpu(pod(main(gpu="deviceclass.resource.kubernetes.io/gpu.nvidia.com")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="deviceclass.resource.kubernetes.io/dra.cpu")), PREFIXES)
    assert asks_for_gpu(pod(main(gpu="amd.com/gpu")), [*PREFIXES, "amd.com/"])
    assert not asks_for_gpu({"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "0"}}}]}, PREFIXES)
    assert not asks_for_gpu({}, PREFIXES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fractional", True),
        ("fractional-with-threads", False),
        ("fractional-env-from", False),
        ("whole", False),
        ("gpu-alone", False),
    ],
)
def test_a_quota_without_a_number_of_threads(name: str, hint: bool) -> None:
    spec = next(case.spec for case in CASES if case.name == name)
    verdict = assess(spec, containers_of(spec, PREFIXES), Node())[-1]
    assert threads_follow_the_host(verdict) is hint
