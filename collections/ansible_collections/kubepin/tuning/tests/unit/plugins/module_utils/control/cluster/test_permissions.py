# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rights. That it is neither too short nor too long, `python -m tests.campaigns permissions` shows on a real API server."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    NAMESPACES,
    PURPOSES,
    Right,
    cluster_roles,
    namespaces,
    review,
    rights,
    texts_of,
)

PLACES = {"probe": "kube-system", "benchmark": "bench", "system": "kube-system"}


def test_a_right_of_one_namespace_is_asked_for_there_only() -> None:
    tune = rights(["tune"], PLACES)
    assert [right.namespace for right in tune if right[:3] == ("create", "", "pods")] == ["kube-system"]
    assert Right("create", "", "pods/eviction", "") in tune


def test_purposes_together_ask_for_nothing_twice() -> None:
    both = rights(["tune", "benchmark"], PLACES)
    assert len(both) == len(set(both))
    assert set(both) == set(rights(["tune"], PLACES)) | set(rights(["benchmark"], PLACES))


@pytest.mark.parametrize("purpose", ["audit", "preview"])
def test_who_only_looks_may_not_write(purpose: str) -> None:
    assert {right.verb for right in rights([purpose], PLACES)} == {"get", "list"}


def test_kinds_of_other_projects_are_never_needed_to_look_and_only_where_they_are_served_to_patch() -> None:
    jobsets = Right("list", "jobset.x-k8s.io", "jobsets", "")
    assert jobsets not in rights(["audit"], PLACES, ["jobset.x-k8s.io"])
    sets = Right("patch", "leaderworkerset.x-k8s.io", "leaderworkersets", "")
    assert sets not in rights(["patch"], PLACES, ["jobset.x-k8s.io"])
    assert sets in rights(["patch"], PLACES, ["leaderworkerset.x-k8s.io"])
    roles = {role["metadata"]["name"]: role["rules"] for role in cluster_roles()}
    assert {"apiGroups": ["jobset.x-k8s.io"], "resources": ["jobsets"], "verbs": ["list"]} in roles["kubepin-audit"]


def test_nobody_may_read_secrets_or_everything() -> None:
    resources = {right.resource for right in rights(list(PURPOSES), PLACES)}
    assert resources & {"secrets", "*"} == set()


def test_a_subresource_is_asked_for_as_one() -> None:
    assert review(Right("get", "", "pods/log", "kube-system"))["spec"] == {
        "resourceAttributes": {"verb": "get", "resource": "pods", "subresource": "log", "namespace": "kube-system"}
    }


def test_a_path_is_no_resource() -> None:
    spec = review(Right("get", "", "/metrics", ""))["spec"]
    assert spec == {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}


def test_missing_verbs_of_one_resource_are_told_together() -> None:
    missing = [
        Right("get", "", "nodes/proxy", ""),
        Right("list", "policy", "poddisruptionbudgets", ""),
        Right("create", "", "pods", "kubepin-probe"),
        Right("delete", "", "pods", "kubepin-probe"),
    ]
    assert texts_of(missing) == [
        "get nodes/proxy",
        "list poddisruptionbudgets.policy",
        "create, delete pods in namespace kubepin-probe",
    ]


def test_paths_and_resources_are_never_in_one_rule_of_a_role() -> None:
    rules = [rule for role in cluster_roles() for rule in role["rules"]]
    assert all(path.startswith("/") for rule in rules for path in rule.get("nonResourceURLs", []))
    assert not any(name.startswith("/") for rule in rules for name in rule.get("resources", []))
    (upgrade,) = (role["rules"] for role in cluster_roles() if role["metadata"]["name"] == "kubepin-upgrade")
    assert {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]} in upgrade


def test_where_pods_may_be_created_in_a_namespace_of_ours_a_pod_security_standard_is_enforced() -> None:
    """A privileged pod on a node of choice would be root there."""
    creating = {
        rule.place
        for rules in PURPOSES.values()
        for rule in rules
        if "pods" in rule.resources and "create" in rule.verbs
    }
    assert "" not in creating
    enforced = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in namespaces()
    }
    assert enforced == {"kubepin-probe": "baseline", "kubepin-benchmark": "restricted"}
    assert {NAMESPACES[place] for place in creating} == set(enforced)
