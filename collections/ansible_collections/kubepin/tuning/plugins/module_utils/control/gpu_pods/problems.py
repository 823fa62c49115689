# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with the admission policy for GPU pods."""

from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def server_too_old(version: str, least: str) -> Problem:
    return Problem(
        "server_too_old",
        f"the API server at {version}",
        f"has no ValidatingAdmissionPolicy, which takes {least} or newer",
        "Use the audit instead: audit-gpu-pods.yml lists the GPU pods without exclusive CPUs, fails on them with "
        "gpu_qos_fail_on=not_exclusive, and patches their owners with gpu_qos_apply=true.",
    )


def exempt_label_invalid(label: str) -> Problem:
    return Problem(
        "exempt_label_invalid",
        f'gpu_pod_policy_exempt_label "{label}"',
        "is invalid: expected KEY=VALUE, such as kubepin.io/gpu-pod-policy=exempt",
    )


def prefix_invalid(prefix: str) -> Problem:
    return Problem(
        "resource_prefix_invalid",
        f'"{prefix}" in gpu_pod_policy_resource_prefixes',
        "is invalid: expected how names of resources begin, such as nvidia.com/",
    )


def not_ours(name: str) -> Problem:
    return Problem(
        "policy_of_others",
        name,
        "exists without the label app.kubernetes.io/managed-by=kubepin, so it is not kubepin's",
        "Remove it, or give it that label if kubepin may replace or remove it.",
    )
