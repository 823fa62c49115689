# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that format and check an audit of GPU pods, and build the admission policy for new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.outlook import gpu_pods_forecast
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.policy import (
    gpu_pod_policy,
    gpu_pod_policy_faults,
    gpu_pod_policy_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.preflight import (
    gpu_pods_nodes,
    gpu_pods_preflight,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import (
    gpu_pods_patches,
    gpu_pods_text,
    gpu_pods_verdict,
    gpu_qos_settings_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.threads import (
    gpu_pod_thread_policy,
    gpu_pod_threads_text,
)


class FilterModule:
    """The entry point that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "gpu_pod_policy": gpu_pod_policy,
            "gpu_pod_policy_faults": gpu_pod_policy_faults,
            "gpu_pod_policy_problems": gpu_pod_policy_problems,
            "gpu_pod_thread_policy": gpu_pod_thread_policy,
            "gpu_pod_threads_text": gpu_pod_threads_text,
            "gpu_pods_forecast": gpu_pods_forecast,
            "gpu_pods_nodes": gpu_pods_nodes,
            "gpu_pods_patches": gpu_pods_patches,
            "gpu_pods_preflight": gpu_pods_preflight,
            "gpu_pods_text": gpu_pods_text,
            "gpu_pods_verdict": gpu_pods_verdict,
            "gpu_qos_settings_problems": gpu_qos_settings_problems,
        }
