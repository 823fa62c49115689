# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import (
    Node,
    node_from_api,
    with_facts,
)


def facts(**known: Any) -> Any:
    return with_facts(Node(), "gpu-01", known)


def test_node_from_the_api() -> None:
    node = {"status": {"allocatable": {"cpu": "253500m"}, "nodeInfo": {"kubeletVersion": "v1.30.2"}}}
    configz = {
        "cpuManagerPolicy": "static",
        "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
        "cgroupDriver": "systemd",
    }
    assert node_from_api(node, configz) == facts(
        kubelet_version="1.30.2",
        allocatable_cpu=253,
        cpu_manager_policy="static",
        full_pcpus_only=True,
        pod_level_managers=False,
        pod_scope=False,
        cgroup_driver="systemd",
    )
    assert node_from_api(node, None) == facts(kubelet_version="1.30.2", allocatable_cpu=253)
    assert node_from_api({}, None) == Node()


@pytest.mark.parametrize(
    ("version", "gates", "known"),
    [("v1.37.2", {}, False), ("v1.37.2", {"PodLevelResourceManagers": True}, True), ("unknown", {}, None)],
)
def test_the_live_feature_gates_tell_whether_whole_pods_are_managed(
    version: str, gates: dict[str, Any], known: Any
) -> None:
    node = {"status": {"nodeInfo": {"kubeletVersion": version}}}
    assert node_from_api(node, {"featureGates": gates}).pod_level is known


@pytest.mark.parametrize(
    ("policy", "scope", "known"),
    [
        ("best-effort", "pod", True),
        ("best-effort", "container", False),
        ("none", "pod", False),
    ],
)
def test_the_scope_of_the_topology_manager_counts_with_a_policy_only(policy: str, scope: str, known: bool) -> None:
    assert node_from_api({}, {"topologyManagerPolicy": policy, "topologyManagerScope": scope}).pod_scope is known


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kernel", "6", "fact kernel of node gpu-01 is unknown: expected one of kubelet_version"),
        ("kubelet_version", "new", 'fact kubelet_version "new" of node gpu-01 is invalid: expected a version'),
        ("cpu_manager_policy", "statik", "expected none or static"),
        ("full_pcpus_only", "yes", "expected true or false"),
        ("threads_per_core", 0, "expected a whole number above 0"),
        ("allocatable_cpu", "many", "expected a number of CPUs"),
        ("runc_version", "one", "expected a version such as 1.1.5"),
        ("cgroup_driver", "cgroup", "expected systemd or cgroupfs"),
        ("device_injection", "hook", "expected cdi, device_specs, legacy"),
        ("dev_char_links", 1, "expected true or false"),
        ("default_handler", "", "expected the name of a handler"),
        ("handlers", ["nvidia"], "expected a dictionary of handlers, each with runc_version"),
        ("handlers", {"nvidia": "cdi"}, "expected a dictionary of handlers"),
        ("handlers", {"nvidia": {"dev_char_links": True}}, "expected a dictionary of handlers"),
        ("handlers", {"nvidia": {"device_injection": "hook"}}, "expected a dictionary of handlers"),
    ],
)
def test_facts_that_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(TuningError) as refused:
        facts(**{key: value, "threads_per_core": 2} if key != "threads_per_core" else {key: value})
    assert words in str(refused.value)
    (problem,) = refused.value.problems
    assert problem.code == ("node_fact_unknown" if key == "kernel" else "node_fact_invalid")


def test_a_handlers_facts_count_for_its_pods_and_what_it_lacks_is_the_nodes() -> None:
    handlers = {"nvidia": {"device_injection": "cdi", "runc_version": "1.1.5"}, "kata": {"device_injection": None}}
    node = facts(device_injection="legacy", cgroup_driver="systemd", handlers=handlers)
    assert node.under("nvidia") == node._replace(injection="cdi", runc=(1, 1, 5, True))
    assert node.under("kata").injection is None
    assert node.under(None) == node.under("not-there") == node
