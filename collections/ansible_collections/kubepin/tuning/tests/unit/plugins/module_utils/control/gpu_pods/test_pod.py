# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

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
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import CASES, main, pod, side

PREFIXES = ["nvidia.com/"]


def reasons(spec, node=None):
    found = assess(spec, containers_of(spec, PREFIXES), node or Node())
    return {verdict.container.name: list(verdict.reasons) for verdict in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_reason_of_every_container_is_named(case):
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
            {"main": [], "side": ["no_memory_limit", "fractional_cpu"]},
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
def test_what_the_node_makes_of_it(spec, known, expected):
    assert reasons(spec, with_facts(Node(), "gpu-01", known)) == expected


def test_every_reason_has_a_case():
    seen = {reason for case in CASES for found in case.reasons.values() for reason in found}
    assert seen | {"policy_not_static", "smt_alignment", "too_many_cpus"} == set(REASONS)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (WHOLE, "Guaranteed"),
        (pod(main("1500m 1Gi")), "Guaranteed"),
        (pod(main("2")), "Burstable"),
        (pod(main()), "BestEffort"),
        (POD_LEVEL, "Guaranteed"),
    ],
)
def test_quality_of_service(spec, expected):
    assert qos(spec, containers_of(spec, PREFIXES)) == expected


def test_which_pods_ask_for_a_gpu():
    assert not asks_for_gpu(pod(side("2 1Gi")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="amd.com/gpu")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="nvidia.com/hostdev")), PREFIXES)
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
def test_a_quota_without_a_number_of_threads(name, hint):
    spec = next(case.spec for case in CASES if case.name == name)
    verdict = assess(spec, containers_of(spec, PREFIXES), Node())[-1]
    assert threads_follow_the_host(verdict) is hint
