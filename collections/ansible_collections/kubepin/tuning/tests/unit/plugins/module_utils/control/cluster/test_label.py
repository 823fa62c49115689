# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import (
    PLAN_ANNOTATION,
    POLICY_LABEL,
    UNLABELLED,
    label_patch,
    labels_of,
    plan_id,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import PURPOSES, rights

PLACES = {"probe": "p", "benchmark": "b", "system": "kube-system"}


def node(policy: str | None = None, plan: str | None = None) -> dict[str, Any]:
    labels = {"zone": "a", **({POLICY_LABEL: policy} if policy else {})}
    return {"metadata": {"labels": labels, "annotations": {PLAN_ANNOTATION: plan} if plan else None}}


def test_the_same_settings_have_the_same_id_whatever_their_order_and_what_is_unset() -> None:
    static = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "cpuManagerPolicyOptions": {}}
    assert plan_id(static) == plan_id({"reservedSystemCPUs": "0", "cpuManagerPolicy": "static", "reservedMemory": None})
    assert plan_id(static) != plan_id({**static, "reservedSystemCPUs": "0-1"})
    assert len(plan_id(static)) == 12


def test_a_node_that_says_so_already_is_not_patched() -> None:
    assert label_patch(node("static", "abc"), {"policy": "static", "plan": "abc", "untuned": False}) is None
    assert label_patch(node(), UNLABELLED) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((None, None), ("static", "abc"), id="tuned"),
        pytest.param(("static", "abc"), ("none", "def"), id="rolled back"),
        pytest.param(("static", "abc"), ("static", "def"), id="other reservation"),
        pytest.param(("static", "abc"), (None, None), id="uninstalled"),
    ],
)
def test_the_patch_sets_both_and_leaves_other_labels(before: Any, after: Any) -> None:
    says = {"policy": after[0], "plan": after[1], "untuned": False}
    assert label_patch(node(*before), says) == {
        "metadata": {"labels": {POLICY_LABEL: after[0]}, "annotations": {PLAN_ANNOTATION: after[1]}}
    }
    assert labels_of(node(*after)) == says


def test_an_uninstallation_may_do_what_a_switch_may_and_remove_the_policy() -> None:
    asked = set(rights(["uninstall"], PLACES))
    assert set(rights(["tune"], PLACES)) < asked
    policies = [right.verb for right in asked if right.resource == "validatingadmissionpolicies"]
    assert sorted(policies) == ["delete", "get"], "it writes no policy"
    assert "uninstall" in PURPOSES
