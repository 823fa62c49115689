# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a measurement and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted


def setting_invalid(name: str, value: object, expected: str) -> Problem:
    """:param name: of the variable, without the role's prefix"""
    return Problem(f"{name}_invalid", f'gpu_benchmark_{name} "{value}"', f"is invalid: expected {expected}")


def image_missing() -> Problem:
    return Problem(
        "image_missing",
        "gpu_benchmark_image",
        "is not set",
        "Name an image with python3, PyTorch and torchvision that the nodes have or can pull.",
    )


def contrast_with_arms() -> Problem:
    return Problem(
        "contrast_with_arms",
        "gpu_benchmark_contrast",
        "is set together with gpu_benchmark_arms, and the contrast has arms of its own",
        "Set one of them.",
    )


def arm_cpu_invalid(group: object, cpu: object) -> Problem:
    return Problem(
        "arm_cpu_invalid",
        f'cpu "{cpu}" of {group} in gpu_benchmark_arms',
        "is invalid: expected a quantity above 0",
    )


def policy_unknown(node: str, reason: str) -> Problem:
    return Problem("policy_unknown", f"node {node}", f"does not show its CPU manager policy: {reason}")


def contrast_without_static(node: str, policy: str) -> Problem:
    return Problem(
        "contrast_without_static",
        f"node {node}",
        f'has the CPU manager policy "{policy}": integer and fractional CPU differ only with "static"',
        "Run tune-gpu-nodes.yml first, or leave gpu_benchmark_contrast at auto.",
    )


def other_arms(folder: str, begun: str, asked: str) -> Problem:
    return Problem(
        "other_arms",
        folder,
        f"has timings of the arms {begun}, and {asked} are asked for",
        "Give the run another name.",
    )


def other_policy(folder: str, node: str, begun: str, now: str, lacking: int, asked: int) -> Problem:
    """:param lacking: how many of the *asked* rounds the folder lacks"""
    return Problem(
        "other_policy",
        f"the measurement in {folder}",
        f'began with the CPU manager policy "{begun}" and lacks {lacking} of {counted(asked, "round")}, and node {node} has "{now}" now',
        "The complete rounds are used. To measure the others, restore the policy; otherwise start another run.",
    )


def pod_refused(code: str, reason: str) -> Problem:
    """:param code: of the failure, as module benchmark_pod documents it"""
    return Problem(code, "", reason)


def pod_failed(code: str, arm: str, where: str, reason: str) -> Problem:
    """:param code: of the pod's failure, as module benchmark_pod documents it
    :param where: the round that failed
    """
    return Problem(code, f"{arm}, {where}:", reason)


def pod_left_behind(reason: str) -> Problem:
    return Problem("pod_left_behind", "", reason)


def task_failed(task: str, reason: str) -> Problem:
    return Problem("task_failed", f"{task}:", reason)


def no_timings(measurement: str, host: str, arm: str) -> Problem:
    """:param arm: empty if none was asked for"""
    which = f", arm {arm}," if arm else ""
    return Problem(
        "no_timings", f"measurement {measurement} of {host}{which}", "has no timings, so there is nothing to compare"
    )


def timings_unusable(reason: str) -> Problem:
    """:param reason: a problem of the input, as the library `benchmark/` words it"""
    return Problem("timings_unusable", "", reason)


def library_missing(name: str) -> Problem:
    return Problem(
        "library_missing",
        f"the Python library {name}",
        "is missing on the control node: expected what the requirements.txt of kubepin lists",
        "Install it for the Python that runs Ansible.",
    )


def not_measured_before(causes: Sequence[str], run: str) -> Problem:
    """:param causes: the texts of what prevented the measurement
    :param run: its name, with which another run continues it
    """
    why = " ".join(causes)
    return Problem(
        "not_measured_before",
        "the measurement before the switch",
        f"is not complete: {why}" if why else "is not complete",
        f"Fix the cause and run again with -e kubepin_run={run}, which measures only what is missing. To switch the "
        "node without a measurement, set gpu_benchmark_accept_unmeasured.",
        waivable=True,
    )


def labelled(label: str, problem: Problem) -> Problem:
    """The problem, with the label of its measurement in front."""
    return replace(problem, subject=f"{label}: {problem.subject}".rstrip())


def program_missing(folder: str) -> Problem:
    return Problem(
        "benchmark_program_missing",
        f'program "{folder}"',
        "is invalid: expected a folder with the benchmark's Python files",
    )


def namespace_not_ready(namespace: str, seconds: float, state: str) -> Problem:
    """:param state: what it still is or lacks, as a clause"""
    return Problem(
        "namespace_not_ready",
        f"namespace {namespace}",
        f"{state} after {seconds:g} s",
        f"Look at it (`kubectl describe namespace {namespace}`), and check that kube-controller-manager runs.",
    )


def timings_unreadable(path: str, reason: str) -> Problem:
    return Problem("timings_unreadable", f'"{path}"', f"cannot be read: {reason}", "Repair the file, or move it away.")


def timings_not_writable(path: str, reason: str) -> Problem:
    return Problem(
        "timings_not_writable", f'"{path}"', f"cannot be written: {reason}", "Make room there, or name another folder."
    )


def folder_missing(path: str) -> Problem:
    return Problem("folder_missing", f'`folder` "{path}"', "does not exist", "Make it first.")


def option_invalid(name: str, value: object, expected: str) -> Problem:
    """:param name: of the module's option"""
    return Problem(f"{name}_invalid", f'`{name}` "{value}"', f"is invalid: expected {expected}")


def loads_invalid(finding: str) -> Problem:
    return Problem("loads_invalid", "", finding)
