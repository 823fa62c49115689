# SPDX-License-Identifier: GPL-3.0-or-later
"""Which running containers have lost their GPU, by which known cause, and on what evidence. Pure; None means unknown.

A device is lost if the container sees its device node but its cgroup denies access ("Operation not permitted").
"""

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import FIRST_WITHOUT_RECONCILE_OF_PINNED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Table
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import (
    CORRECTED,
    KEEPS_DEVICES,
    SKIPS_MISSING_LINKS,
    resizes_in_place,
)

_DELETE = "Delete the pod: nothing gives a running container its GPU back."
REMEDIES: t.Dict[str, str] = {
    "container_update": f"{_DELETE} Against the next time: GPUs through CDI or the device plugin's device specifications; under the"
    " cgroup driver cgroupfs, runc 1.0.0 or newer is enough.",
    "daemon_reload": f"{_DELETE} Against the next time: GPUs through CDI or the device plugin's device specifications, or drain the node"
    " before a daemon-reload (packages do one, too).",
    "dev_char_links": "Run `nvidia-ctk system create-dev-char-symlinks --create-all` now and at every boot (a udev rule), or install"
    " runc 1.1.7 or newer; then delete the pod.",
    "unknown": f"{_DELETE} What is unknown above would tell the cause.",
}


class Device(t.NamedTuple):
    """A device node that a container sees."""

    path: str
    major: int
    minor: int
    link: bool
    """Whether the host has its link in /dev/char."""


class Rule(t.NamedTuple):
    """A rule of a devices cgroup or of a container's specification; None stands for any number."""

    kind: str
    major: t.Optional[int]
    minor: t.Optional[int]
    access: str


class Container(t.NamedTuple):
    """The facts about a container that sees a GPU's device node."""

    namespace: str
    pod: str
    name: str
    id: str
    started: t.Optional[float]
    devices: t.Sequence[Device]
    allowed: t.Optional[t.Sequence[Rule]]
    """The rules of its cgroup; if None, *not_read* holds the reason."""
    not_read: str
    specified: t.Optional[t.Sequence[Rule]]
    """The rules in its specification, as the container runtime wrote it."""
    exclusive: t.Optional[bool]
    """Whether it has exclusive CPUs."""
    node: Node
    """The node, with this container's runc and cgroup driver."""
    reloads: t.Optional[t.Sequence[float]]
    """When systemd reloaded its units since the container started; None if the journal does not reach back that far."""
    kubelet_starts: t.Optional[t.Sequence[float]]
    """When the kubelet was started since then."""
    tried: bool = False
    """Whether *allowed* only says which of *devices* a process in the cgroup may use, as with cgroup v2."""
    mounts: t.Sequence[str] = ()
    """The mount points in its specification."""
    completed: t.Optional[bool] = False
    """Whether NVIDIA's container runtime added the GPUs to the specification, before runc got it."""


class Finding(t.NamedTuple):
    """The result for one cause: it *took* the device, is *ruled_out*, or is *open*."""

    code: str
    verdict: str
    when: float
    text: str


def parse_rules(text: str) -> t.List[Rule]:
    """:param text: a ``devices.list`` (Linux, cgroup-v1/devices)"""
    found = re.findall(r"^([abc]) (\d+|\*):(\d+|\*) ([rwm]+)$", text, re.MULTILINE | re.ASCII)
    return [Rule(kind, _number(major), _number(minor), access) for kind, major, minor, access in found]


def specified_rules(devices: t.Iterable[Table]) -> t.List[Rule]:
    """:param devices: ``linux.resources.devices`` of a container's OCI specification

    :raises Unknown: for values of another type
    """
    return [
        Rule(entry.text("type") or "a", entry.number("major"), entry.number("minor"), entry.text("access") or "rwm")
        for entry in devices
        if entry.flag("allow")
    ]


def allows(rules: t.Iterable[Rule], device: Device) -> bool:
    """Whether any one rule allows opening a character device for reading and writing."""
    return any(
        rule.kind in "ac"
        and rule.major in (None, -1, device.major)
        and rule.minor in (None, -1, device.minor)
        and set("rw") <= set(rule.access)
        for rule in rules
    )


def diagnose(container: Container) -> t.Dict[str, t.Any]:
    """The report on a container that the module gpu_loss_info documents."""
    result: t.Dict[str, t.Any] = {
        "namespace": container.namespace,
        "pod": container.pod,
        "container": container.name,
        "id": container.id,
        "started": moment(container.started),
        "devices": [device._asdict() for device in container.devices],
        "cause": None,
        "remedy": None,
    }
    if container.specified and any(rule.kind == "a" and rule.access == "rwm" for rule in container.specified):
        return {**result, "state": "kept", "evidence": ["it is privileged: its specification allows every device"]}
    if container.allowed is None:
        return {**result, "state": "unknown", "evidence": [container.not_read]}
    granted = _granted(container, container.allowed)
    lost = [device for device in granted if not allows(container.allowed, device)]
    if not lost:
        return {**result, "state": "kept", "evidence": [f"its cgroup allows {_names(granted)}"]}
    if all(device.path in container.mounts for device in lost):
        text = f"{_names(lost)} is there as a volume, which allows nothing by itself; its cgroup does not allow it, and maybe never did"
        return {**result, "state": "unknown", "evidence": [text]}
    findings = [weigh(container, lost) for weigh in (_update, _daemon_reload, _links)]
    took = sorted((finding for finding in findings if finding.verdict == "took"), key=lambda finding: finding.when)
    cause = took[0].code if took else "unknown"
    nothing = "none of these devices, as a process that entered it saw" if container.tried else "no device"
    evidence = [
        f"{_names(lost)} is there, and its cgroup does not allow it",
        f"its cgroup allows {', '.join(map(_rule, container.allowed)) or nothing}",
        f"the container was started {moment(container.started) or 'at an unknown time'}",
        *(f"{finding.code} {_WORDS[finding.verdict]}: {finding.text}" for finding in [*took, *_others(findings)]),
    ]
    return {**result, "state": "lost", "cause": cause, "evidence": evidence, "remedy": REMEDIES[cause]}


def _granted(container: Container, allowed: t.Sequence[Rule]) -> t.List[Device]:
    """The devices that the container got, without those whose nodes NVIDIA's programs made in it: every container may make
    nodes, so that nvidia-smi makes those of all GPUs of the host.

    What a specification names is what was granted. What a hook added goes all at once, so that of devices of which some
    are allowed, the others were never granted.
    """
    named = [device for device in container.devices if allows(container.specified or (), device)]
    if named:
        return named
    return [device for device in container.devices if allows(allowed, device)] or list(container.devices)


def moment(seconds: t.Optional[float]) -> t.Optional[str]:
    """Seconds since 1970 as a UTC timestamp."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


_WORDS = {"took": "takes it", "ruled_out": "does not", "open": "may take it"}


def _others(findings: t.Iterable[Finding]) -> t.List[Finding]:
    return sorted((finding for finding in findings if finding.verdict != "took"), key=lambda finding: finding.verdict)


def _update(container: Container, lost: t.Sequence[Device]) -> Finding:
    """A container update makes runc rewrite its own rules (opencontainers/runc#2994, kubernetes/kubernetes#101771)."""
    code, node = "container_update", container.node
    specified = _specified(container, lost)
    if specified:
        return Finding(code, "ruled_out", 0, "the container's specification names the device, and an update keeps that")
    old = node.runc is not None and node.runc < KEEPS_DEVICES
    if node.cgroup_driver == "cgroupfs" and node.runc is not None and not old:
        text = f"runc {_version(node)} leaves devices alone in an update (1.0.0 and newer), and the driver is cgroupfs"
        return Finding(code, "ruled_out", 0, text)
    if node.policy not in (None, "static"):
        text = f"the kubelet's CPU manager has the policy {node.policy}: it updates no container"
        if resizes_in_place(node):
            return Finding(code, "open", 0, f"{text}, unless the pod was resized in place")
        return Finding(code, "ruled_out", 0, text)
    noisy = node.kubelet is not None and node.kubelet.line < FIRST_WITHOUT_RECONCILE_OF_PINNED
    quiet = node.kubelet is not None and not noisy
    starts = container.kubelet_starts
    if quiet and container.exclusive and starts == []:
        text = f"the container has exclusive CPUs, and the kubelet ({node.kubelet}) was not started since"
        return Finding(code, "ruled_out", 0, text)
    unknown = [
        *(["whether a hook added the device"] if specified is None else []),
        *(["the version of runc"] if node.runc is None and node.cgroup_driver != "systemd" else []),
        *(["the container's cgroup driver"] if node.cgroup_driver is None and not old else []),
        *(["the kubelet's policy"] if node.policy is None else []),
    ]
    if not noisy and container.exclusive is not False:
        unknown += ["the kubelet's version"] if node.kubelet is None else []
        unknown += ["whether the container has exclusive CPUs"] if container.exclusive is None else []
        unknown += ["the kubelet's starts"] if starts is None else []
    if unknown:
        return Finding(code, "open", 0, f"unknown: {', '.join(unknown)}")
    if old:
        behind = (
            f"a hook added the device behind runc's back, and runc {_version(node)} takes it out again in every update"
        )
    else:
        behind = (
            "a hook added the device without systemd's knowledge, and systemd (driver systemd) applies its own rules again"
            " in every update"
        )
    if noisy:
        why = f"kubelet {node.kubelet} with the static policy updates every container every 10 s"
    elif container.exclusive is False:
        why = "the static policy updates a container without exclusive CPUs within 10 s of its start and whenever the shared pool changes"
    else:
        first = min(starts or [0.0])
        text = f"{behind}; the kubelet was started {moment(first)}, and then updates every container once"
        return Finding(code, "took", first, text)
    return Finding(code, "took", container.started or 0, f"{behind}; {why}")


def _daemon_reload(container: Container, lost: t.Sequence[Device]) -> Finding:
    """A reload makes systemd apply its own device rules again (NVIDIA/nvidia-docker#1730)."""
    code, node, reloads = "daemon_reload", container.node, container.reloads
    specified = _specified(container, lost)
    if node.cgroup_driver == "cgroupfs":
        return Finding(code, "ruled_out", 0, "the container's cgroup is not systemd's (driver cgroupfs)")
    if specified:
        return Finding(code, "ruled_out", 0, "the container's specification names the device, so systemd knows it")
    if reloads == []:
        return Finding(code, "ruled_out", 0, "the journal has no daemon-reload since the container started")
    unknown = [
        *(["whether a hook added the device"] if specified is None else []),
        *(["the container's cgroup driver"] if node.cgroup_driver is None else []),
        *(["daemon-reloads since the container started: the journal does not reach back"] if reloads is None else []),
    ]
    if unknown or reloads is None:
        return Finding(code, "open", 0, f"unknown: {', '.join(unknown)}")
    times = ", ".join(str(moment(second)) for second in reloads[:3]) + (" and later" if len(reloads) > 3 else "")
    text = f"a hook added the device without systemd's knowledge (driver systemd), and systemd read its units again {times}"
    return Finding(code, "took", reloads[0], text)


def _links(container: Container, lost: t.Sequence[Device]) -> Finding:
    """runc passes only devices with a link in /dev/char to systemd (opencontainers/runc#3708)."""
    code, node = "dev_char_links", container.node
    specified = _specified(container, lost)
    without = [device for device in lost if not device.link]
    if node.cgroup_driver == "cgroupfs":
        return Finding(code, "ruled_out", 0, "the container's cgroup is not systemd's (driver cgroupfs)")
    if not without:
        return Finding(code, "ruled_out", 0, "each device has its link in /dev/char")
    if specified is False:
        return Finding(
            code, "ruled_out", 0, "the container's specification does not name the device, so runc passes none on"
        )
    if node.runc is not None and not SKIPS_MISSING_LINKS <= node.runc < CORRECTED:
        return Finding(code, "ruled_out", 0, f"runc {_version(node)} needs no links (1.1.3 to 1.1.6 do)")
    unknown = [
        *(["whether the specification names the device"] if specified is None else []),
        *(["the container's cgroup driver"] if node.cgroup_driver is None else []),
        *(["the version of runc"] if node.runc is None else []),
    ]
    if unknown:
        return Finding(code, "open", 0, f"unknown: {', '.join(unknown)}")
    missing = ", ".join(f"/dev/char/{device.major}:{device.minor}" for device in without)
    text = (
        f"{missing} is missing, and runc {_version(node)} gives systemd (driver systemd) no rule for such a device, so that"
        " a daemon-reload or an update of the container takes it"
    )
    return Finding(code, "took", container.started or 0, text)


def _specified(container: Container, lost: t.Sequence[Device]) -> t.Optional[bool]:
    if container.specified is None:
        return None
    return all(allows(container.specified, device) for device in lost) or container.completed


def _version(node: Node) -> str:
    major, minor, patch, release = node.runc or (0, 0, 0, True)
    return f"{major}.{minor}.{patch}" + ("" if release else " (release candidate)")


def _names(devices: t.Iterable[Device]) -> str:
    return ", ".join(f"{device.path} ({device.major}:{device.minor})" for device in devices)


def _rule(rule: Rule) -> str:
    major, minor = ("*" if number is None else number for number in (rule.major, rule.minor))
    return f"{rule.kind} {major}:{minor} {rule.access}"


def _number(text: str) -> t.Optional[int]:
    return None if text == "*" else int(text)
