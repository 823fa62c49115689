# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's object says about its CPU manager, so that pods can select nodes and people see what was verified."""

from __future__ import annotations

import hashlib
import json
import typing as t
from collections.abc import Mapping

POLICY_LABEL = "kubepin.io/cpu-manager"
"""The CPU manager policy that was verified: `static` or `none`."""

PLAN_ANNOTATION = "kubepin.io/plan"
"""`plan_id` of the settings that were verified."""

_ID_LENGTH = 12


def plan_id(settings: Mapping[str, t.Any]) -> str:
    """A short hash of kubelet settings. Nodes with the same ID have the same settings; unset ones do not count."""
    given = {name: value for name, value in settings.items() if value not in (None, "", {}, [])}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:_ID_LENGTH]


def labels_of(node: Mapping[str, t.Any]) -> dict[str, str | None]:
    """What a node object says: `policy` and `plan`, None without it."""
    metadata = node["metadata"]
    return {
        "policy": (metadata.get("labels") or {}).get(POLICY_LABEL),
        "plan": (metadata.get("annotations") or {}).get(PLAN_ANNOTATION),
    }


def label_patch(node: Mapping[str, t.Any], policy: str | None, plan: str | None) -> dict[str, t.Any] | None:
    """The patch after which the node object says so (None: nothing); None if it does."""
    if labels_of(node) == {"policy": policy, "plan": plan}:
        return None
    return {"metadata": {"labels": {POLICY_LABEL: policy}, "annotations": {PLAN_ANNOTATION: plan}}}
