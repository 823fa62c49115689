# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with settings for new nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def no_format(known: Sequence[str]) -> Problem:
    return Problem(
        "format_missing",
        "node_settings_formats",
        "is empty, so there is nothing to write",
        f"Name one or more of {', '.join(known)}: kubepin emit --format {known[0]}.",
    )


def format_unknown(name: str, known: Sequence[str]) -> Problem:
    return Problem("format_unknown", f'format "{name}"', f"is unknown: expected one of {', '.join(known)}")


def name_invalid(name: str) -> Problem:
    return Problem(
        "node_settings_name_invalid",
        f'node_settings_name "{name}"',
        "is invalid: expected at most 40 lower-case letters, digits and hyphens, the first a letter and the last no hyphen, such as "
        "gpu-nodes",
    )


def no_version() -> Problem:
    return Problem(
        "kubelet_version_missing",
        "the kubelet's version",
        "is unknown, and it decides which settings a new node understands",
        "Set node_settings_kubelet_version to the version that new nodes will have, such as 1.36.3.",
    )


def of_node(node: str, problem: Problem) -> Problem:
    """The problem, with the node that has it."""
    return replace(problem, subject=f"{node}: {problem.subject}".rstrip())


def no_kubeadm_patches(name: str, version: str, since: int) -> Problem:
    """:param since: the minor version of 1.x whose kubeadm first patches the kubelet's configuration"""
    return Problem(
        "format_too_new",
        f"format {name}",
        f"cannot be used with kubelet {version}: kubeadm patches the kubelet's configuration from 1.{since} on",
        "Use the format drop-in or cloud-init.",
    )


def no_config_directory(name: str, version: str, since: int) -> Problem:
    """:param since: the minor version of 1.x from which all releases of k3s and RKE2 read config.yaml.d"""
    return Problem(
        "format_too_new",
        f"format {name}",
        f"cannot be used with kubelet {version}: {name} reads config.yaml.d reliably from 1.{since} on",
        f"Upgrade {name} first.",
    )


def no_launch_configuration(name: str, version: str, since: int) -> Problem:
    """:param since: the minor version of 1.x from which the snap takes a configuration file"""
    return Problem(
        "format_too_new",
        f"format {name}",
        f"cannot be used with kubelet {version}: the snap takes a configuration file from 1.{since} on",
        "Refresh the snap to a newer version first.",
    )


def one_option_only(name: str, options: Sequence[str]) -> Problem:
    """:param options: those of the CPU manager policy that are to be set"""
    return Problem(
        "format_cannot_say",
        f"format {name}",
        f"gives each flag only one value, and each policy option needs its own: {', '.join(options)}",
        "Set only one option. Or join the node, and switch it with tune-gpu-nodes.yml.",
    )


def kops_cannot_say(settings: Sequence[str]) -> Problem:
    """:param settings: those for which an instance group has no field"""
    return Problem(
        "format_cannot_say",
        "format kops",
        f"has no field for {', '.join(settings)}",
        "Leave these settings out, or this format.",
    )


def kops_cannot_name_cpus(reserved: str, picked: str) -> Problem:
    """:param picked: the CPUs that the kubelet reserves if it is configured with a number only"""
    return Problem(
        "format_cannot_name_cpus",
        "format kops",
        f"can only say how many CPUs to reserve, and the kubelet would then reserve {picked} instead of {reserved}",
        f"Set cpu_manager_reserved_cpus to {picked}, or leave this format out.",
    )
