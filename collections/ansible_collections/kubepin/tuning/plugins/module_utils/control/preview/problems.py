# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with what a preview is asked for."""

from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def pod_cpus_not_a_number(value: object) -> Problem:
    return Problem("pod_cpus_invalid", f'pod_cpus "{value}"', "is invalid: expected a whole number of CPUs")


def pod_cpus_too_few(value: int) -> Problem:
    return Problem("pod_cpus_invalid", f"pod_cpus {value}", "is invalid: expected 1 or more whole CPUs")


def no_pod_level_resource(pod: int, resource: str) -> Problem:
    """:param pod: its index in the list of pods"""
    return Problem(
        "pods_invalid",
        f"pods[{pod}] pod.{resource}",
        "is invalid: expected a pod-level resource: cpu, memory or hugepages-SIZE",
    )


def amount_invalid(pod: int, resource: str, amount: str) -> Problem:
    """:param pod: its index in the list of pods"""
    if resource == "cpu":
        return Problem(
            "pods_invalid",
            f'pods[{pod}] "{amount}"',
            "is invalid: expected a CPU request above 0, such as 12 or 500m",
        )
    return Problem("pods_invalid", f'pods[{pod}] {resource} "{amount}"', "is invalid: expected a quantity above 0")
