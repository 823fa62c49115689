# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit of one GPU pod that shares CPUs, and whose owner a patch would change; and the settings of an admission policy."""

from __future__ import annotations

from typing import Any

CAUSE = {"code": "container_update", "grade": "high", "text": "it is updated", "unknown": ["runc_version"]}
POD: dict[str, Any] = {
    "namespace": "ml",
    "name": "serve",
    "node": "gpu-01",
    "owner": "Deployment/serve",
    "qos": "Guaranteed",
    "exclusive": False,
    "containers": [
        {
            "name": "main",
            "kind": "container",
            "gpus": ["nvidia.com/gpu"],
            "cpus": 1.5,
            "reasons": ["fractional_cpu"],
            "no_thread_count": True,
        }
    ],
    "gpus": [{"resource": "nvidia.com/gpu", "kind": "whole", "count": 1, "claim": None, "devices": None}],
    "risk": {"grade": "unknown", "causes": [CAUSE], "unknown": ["runc_version"]},
}
OWNER: dict[str, Any] = {
    "namespace": "ml",
    "kind": "Deployment",
    "name": "serve",
    "resource": "deployment",
    "api_version": "apps/v1",
    "patch": {"p": 1},
    "undo": {"u": 1},
    "patch_type": "strategic",
    "change": "in_place",
    "effect": "",
    "queue": None,
    "problems": [],
    "cpus_per_node": {"gpu-01": 0.5},
}
AUDIT: dict[str, Any] = {
    "pods": [POD],
    "owners": [OWNER],
    "summary": {
        "pods": 1,
        "exclusive": 0,
        "not_exclusive": 1,
        "finished": 0,
        "gpus": {"whole": 1, "mig": 0, "shared": 0, "claim": 0},
        "risk": {"high": 0, "low": 0, "none": 0, "unknown": 1},
        "reasons": {"fractional_cpu": 1},
        "owners": 1,
        "patches": 1,
        "cpus_per_node": {"gpu-01": 0.5, "not scheduled": 2},
    },
}
POLICY: dict[str, Any] = {
    "action": "Warn",
    "exempt_namespaces": ["kube-system"],
    "exempt_label": "kubepin.io/gpu-pod-policy=exempt",
    "resource_prefixes": ["nvidia.com/"],
    "threads": False,
    "thread_variables": ["OMP_NUM_THREADS"],
}
