# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a host probe."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def plan_refused(finding: str) -> Problem:
    """:param finding: what is wrong with the request or the host, and the way out"""
    return Problem("probe_plan_refused", "", finding)


def another_probe(lock: str) -> Problem:
    return Problem(
        "another_probe", "another probe", f"runs on this host right now ({lock} is locked)", "Wait for it to end."
    )


def probe_interrupted(signal: str) -> Problem:
    return Problem(
        "probe_interrupted",
        "the probe",
        f"was ended by {signal}; what was running is removed, the lines so far are kept",
        "Run it again for the rounds that are missing.",
    )


def image_not_pulled(command: str, output: str) -> Problem:
    return Problem(
        "image_not_pulled",
        f"`{command}`",
        f"failed: {output}",
        "Name an image that this host has or can pull, or load it first.",
    )


def engine_failed(command: str, output: str) -> Problem:
    return Problem("engine_failed", f"`{command}`", f"failed: {output}", "Check that the engine runs on this host.")


def containers_not_removed(command: str, output: str) -> Problem:
    return Problem(
        "containers_not_removed",
        "containers of a probe",
        f"cannot be removed: {output}",
        f"Remove them by hand: `{command}`.",
    )


def cgroup_refuses(path: str, value: str, reason: str) -> Problem:
    return Problem(
        "cgroup_refuses",
        path,
        f"does not take '{value}': {reason}",
        "Check that the CPUs are online and in the parent's cpuset, or use a container engine.",
    )


def cgroup_not_removed(path: str, reason: str) -> Problem:
    return Problem(
        "cgroup_not_removed",
        f"the cgroup {path}",
        f"cannot be removed: {reason}",
        f"Remove it by hand: `rmdir {path}`.",
    )


def round_not_started(number: int, arm: str, reason: str) -> Problem:
    return Problem(
        "round_not_started", f"round {number} of {arm}", f"could not be started: {reason}", "Remove the cause."
    )


def output_not_writable(path: str, reason: str) -> Problem:
    return Problem(
        "output_not_writable", path, f"cannot be written: {reason}", "Free space there, or name another file."
    )


def arm_not_as_named(number: int, findings: Sequence[str]) -> Problem:
    return Problem(
        "arm_not_as_named",
        f"round {number}",
        f"was ended, because an arm is not what its name says. {' '.join(findings)}",
    )


def round_timed_out(number: int, arm: str, seconds: float, output: str) -> Problem:
    return Problem(
        "round_timed_out",
        f"round {number} of {arm}",
        f"did not end within {seconds:.0f} s. {output}",
        "Raise timeout.",
    )


def round_failed(number: int, arm: str, code: int, output: str) -> Problem:
    return Problem(
        "round_failed",
        f"round {number} of {arm}",
        f"ended with exit code {code}: {output}",
        "Remove the cause, and run the probe again for the rounds that are missing.",
    )
