# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's object says about its CPU manager, so that pods can select nodes and people see what was verified.

A taint with the effect NoSchedule keeps pods that do not tolerate it off the node; it evicts none, and the kubelet admits
pods that are bound by nodeName (kubernetes/kubernetes pkg/kubelet/lifecycle/predicate.go).
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from collections.abc import Mapping

POLICY_LABEL = "kubepin.io/cpu-manager"
"""The CPU manager policy that was verified: `static` or `none`."""

PLAN_ANNOTATION = "kubepin.io/plan"
"""`plan_id` of the settings that were verified."""

UNTUNED_TAINT = {"key": "kubepin.io/untuned", "value": "true", "effect": "NoSchedule"}
"""Keeps new pods off a node that is not tuned, where that is asked for."""

UNLABELLED: Mapping[str, t.Any] = {"policy": None, "plan": None, "untuned": False}
"""What a node object says without kubepin, as `labels_of` returns it."""

_ID_LENGTH = 12


def plan_id(settings: Mapping[str, t.Any]) -> str:
    """A short hash of kubelet settings. Nodes with the same ID have the same settings; unset ones do not count."""
    given = {name: value for name, value in settings.items() if value not in (None, "", {}, [])}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:_ID_LENGTH]


def labels_of(node: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a node object says: `policy` and `plan`, None without it; `untuned`, whether it has the taint."""
    metadata = node["metadata"]
    return {
        "policy": (metadata.get("labels") or {}).get(POLICY_LABEL),
        "plan": (metadata.get("annotations") or {}).get(PLAN_ANNOTATION),
        "untuned": any(map(_is_ours, _taints(node))),
    }


def label_patch(node: Mapping[str, t.Any], after: Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """The merge patch with which the node object says *after*, as `labels_of` returns it; None if it does already."""
    before = labels_of(node)
    if before == after:
        return None
    patch: dict[str, t.Any] = {
        "metadata": {"labels": {POLICY_LABEL: after["policy"]}, "annotations": {PLAN_ANNOTATION: after["plan"]}}
    }
    if before["untuned"] != after["untuned"]:
        others = [taint for taint in _taints(node) if not _is_ours(taint)]
        patch["spec"] = {"taints": [*others, UNTUNED_TAINT] if after["untuned"] else others or None}
    return patch


def _taints(node: Mapping[str, t.Any]) -> list[Mapping[str, t.Any]]:
    return (node.get("spec") or {}).get("taints") or []


def _is_ours(taint: Mapping[str, t.Any]) -> bool:
    """Whatever its value: the API server knows taints by key and effect."""
    return all(taint.get(name) == UNTUNED_TAINT[name] for name in ("key", "effect"))
