# SPDX-License-Identifier: GPL-3.0-or-later
"""With a server that stands in for an API server; molecule/enforce asks a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, status_object
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import answer as answered
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod

Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def exempt(server: StandIn) -> None:
    """A namespace that is exempt by its label, with a pod, and one that is not."""
    for name, labels in (("ml", {}), ("free", {"kubepin.io/gpu-pod-policy": "exempt"})):
        server.objects[f"/api/v1/namespaces/{name}"] = {"metadata": {"name": name, "labels": labels}}
        path = f"/api/v1/namespaces/{name}/pods/train"
        server.objects[path] = {"metadata": {"namespace": name, "name": "train"}, "spec": pod(main("3500m 1Gi"))}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.usefixtures("exempt")
def test_pods_of_namespaces_that_are_not_exempt_are_listed(
    answer: Answer, kubeconfig_file: str, check_mode: bool
) -> None:
    result = answer("gpu_pod_threads_info", kubeconfig=kubeconfig_file, _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["pods"] == [{"namespace": "ml", "name": "train", "containers": {"main": {"OMP_NUM_THREADS": "3"}}}]


def test_a_missing_right_fails_with_what_is_missing(answer: Answer, server: StandIn, kubeconfig_file: str) -> None:
    server.faults.append(answered(403, status_object(403, "alice may not list pods")))
    result = answer("gpu_pod_threads_info", kubeconfig=kubeconfig_file)
    assert result["failed"] is True
    assert "alice may not list pods" in result["msg"]
