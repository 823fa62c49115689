# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: texts in a kubelet's effective configuration that it parses only when it starts, after it has decoded the files.

`common/kubelet/settings` has the rules for settings that kubepin manages; here are those for what it leaves alone.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import MAX_NUMA_NODES, minor_of

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
"""The resources in kubeReserved and systemReserved (cmd/kubelet/app/server.go parseResourceList)."""
TOPOLOGY_OPTIONS = {"prefer-closest-numa-nodes": 26, "max-allowable-numa-nodes": 31}
"""Option of the topology manager -> the minor version that introduced it (KEP-3545, KEP-4622)."""

_SIGNED = r"[-+]?"
_DURATION = re.compile(rf"{_SIGNED}(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)")
_DURATION_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_QUANTITY = re.compile(rf"({_SIGNED})([0-9]*)(?:\.([0-9]*))?((?:[eEinumkKMGTP]+{_SIGNED}[0-9]*)?)")
_SUFFIXES = frozenset(("", *"numkMGTPE", *(f"{letter}i" for letter in "KMGTPE")))
_EXPONENT = re.compile(rf"[eE]({_SIGNED})(?=[0-9])0*([0-9]{{0,19}})")
_CPUSET = re.compile(r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*")
_BOOLEANS = ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False")
_DIGITS = 19
"""More digits are no 64-bit integer; leading zeros aside."""


def is_duration(text: str) -> bool:
    """Whether Go's time.ParseDuration takes the text: signed decimals with units, or 0, within 64 bits of ns."""
    if not _DURATION.fullmatch(text):
        return False
    total = 0.0
    for number, unit in _DURATION_PART.findall(text.lstrip("+-")):
        total += float(number) * _NANOSECONDS[unit]
    return total < 2**63


def is_quantity(text: str) -> bool:
    """Whether resource.ParseQuantity takes the text. It takes ``+``, ``.`` and ``k`` too: digits may be missing."""
    match = _QUANTITY.fullmatch(text)
    if not text or match is None:
        return False
    exponent = _EXPONENT.fullmatch(match[4])
    return match[4] in _SUFFIXES or (exponent is not None and int(exponent[2] or "0") < 2**63)


def is_negative(quantity: str) -> bool:
    """Whether a quantity that `is_quantity` accepts is below 0."""
    match = t.cast("re.Match[str]", _QUANTITY.fullmatch(quantity))
    return match[1] == "-" and bool((match[2] + (match[3] or "")).strip("0"))


def value_problems(effective: Mapping[str, t.Any], version: str) -> list[Problem]:
    """What keeps a kubelet of this version from starting with an effective configuration, from files and flags.

    :param effective: field -> value; kubeReserved, systemReserved and topologyManagerPolicyOptions map text to text
    """
    return [
        *_reservation_problems(effective),
        *_cpuset_problems(effective.get("reservedSystemCPUs") or ""),
        *_topology_option_problems(effective, minor_of(version)),
    ]


def _reservation_problems(effective: Mapping[str, t.Any]) -> list[Problem]:
    """parseResourceList. Before it runs, reservedSystemCPUs replaces what both fields say about `cpu`."""
    found = []
    for name in ("kubeReserved", "systemReserved"):
        for resource, amount in sorted((effective.get(name) or {}).items()):
            if resource not in RESERVABLE:
                found.append(problems.reserved_resource_unknown(name, resource, RESERVABLE))
            elif resource == "cpu" and effective.get("reservedSystemCPUs"):
                continue
            elif not is_quantity(amount):
                found.append(problems.reserved_not_a_quantity(name, resource, amount))
            elif is_negative(amount):
                found.append(problems.reserved_negative(name, resource, amount))
    return found


def _cpuset_problems(reserved: str) -> list[Problem]:
    """k8s.io/utils/cpuset Parse: numbers and ranges, and neither white space nor the kernel's ``0-15:1/8``.

    What is no CPU list at all, `setting_problems` says.
    """
    try:
        cpus = parse_cpuset(reserved)
    except (CpusetError, ValueError):
        return []
    if not reserved or _CPUSET.fullmatch(reserved):
        return []
    return [problems.reserved_cpus_form(reserved, format_cpuset(cpus))]


def _topology_option_problems(effective: Mapping[str, t.Any], minor: int) -> list[Problem]:
    """pkg/kubelet/cm/topologymanager: policy_options.go, and NewManager, which reads no options for the policy none."""
    if effective.get("topologyManagerPolicy", "none") == "none":
        return []
    found = []
    for name, value in sorted((effective.get("topologyManagerPolicyOptions") or {}).items()):
        since = TOPOLOGY_OPTIONS.get(name)
        if since is None:
            found.append(problems.topology_option_unknown(name, sorted(TOPOLOGY_OPTIONS)))
        elif minor < since:
            found.append(problems.topology_option_too_new(name, since, minor))
        elif name == "prefer-closest-numa-nodes" and value not in _BOOLEANS:
            found.append(problems.topology_option_invalid(name, value, "true or false"))
        elif name == "max-allowable-numa-nodes" and not _is_enough(value):
            found.append(
                problems.topology_option_invalid(name, value, f"a whole number from {MAX_NUMA_NODES}, in quotes")
            )
    return found


def _is_enough(text: str) -> bool:
    """Whether the text is a decimal 64-bit integer (strconv.Atoi) of at least MAX_NUMA_NODES."""
    digits = text.removeprefix("+").lstrip("0")
    is_integer = re.fullmatch(r"\+?[0-9]+", text) is not None and len(digits) <= _DIGITS
    return is_integer and MAX_NUMA_NODES <= int(digits or "0") < 2**63
