# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: Kubernetes versions, and the upgrade path between two of them, minor by minor."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade import problems

OLDEST = (1, 20)
"""The oldest minor that an upgrade starts from."""

FIRST_WITHOUT_RECONCILE_OF_PINNED = (1, 22)
"""Since this minor the kubelet does not reconcile containers with exclusive CPUs (kubernetes/kubernetes#101771)."""

DEFAULT_BELOW_FIRST_WITHOUT_RECONCILE_OF_PINNED = "1.22.17"

BROKEN = {
    "1.22.0": "its CPU manager gives wrong CPUs to pods with several containers (kubernetes/kubernetes#103952)",
    "1.22.1": "it is not confirmed that its CPU manager is without the fault of 1.22.0 (kubernetes/kubernetes#103952)",
}
"""Versions that an upgrade never uses, and why."""

LAST_PATCHES = {
    20: 15,
    21: 14,
    22: 17,
    23: 17,
    24: 17,
    25: 16,
    26: 15,
    27: 16,
    28: 15,
    29: 15,
    30: 14,
    31: 14,
}
"""Minor -> last patch, for minors that get no more patches; for later ones the operator names the patch."""


class VersionError(TuningError):
    """The text is not a Kubernetes version, or the target version is not supported."""


class Version(t.NamedTuple):
    """A Kubernetes release; pre-releases are not represented."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def line(self) -> t.Tuple[int, int]:
        """Major and minor, for comparing minors."""
        return self.major, self.minor


def parse_version(text: str) -> Version:
    """Parses `v1.22.17` or `1.22.17`; a vendor's suffix (`-gke.1`, `+k3s1`) is dropped.

    :raises VersionError: for anything else
    """
    match = re.fullmatch(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:[-+].*)?", text.strip(), re.ASCII)
    if not match:
        raise VersionError(problems.not_a_version(text))
    return Version(*(int(number) for number in match.groups()))


def choose_target(current: Version, wanted: t.Optional[str]) -> Version:
    """The target version: *wanted* if given; otherwise 1.22.17 for a cluster below 1.22, else the current version.

    :raises VersionError: for an unsupported target or start
    """
    if wanted is None:
        return (
            current
            if current.line >= FIRST_WITHOUT_RECONCILE_OF_PINNED
            else parse_version(DEFAULT_BELOW_FIRST_WITHOUT_RECONCILE_OF_PINNED)
        )
    target = parse_version(wanted)
    if str(target) in BROKEN:
        raise VersionError(
            problems.target_refused(target, BROKEN[str(target)], DEFAULT_BELOW_FIRST_WITHOUT_RECONCILE_OF_PINNED)
        )
    if current.line < OLDEST:
        raise VersionError(problems.start_too_old(current, ".".join(map(str, OLDEST))))
    return target


def path_between(current: Version, target: Version, patches: t.Mapping[str, str]) -> t.List[Version]:
    """The versions of the upgrade path: one for every minor above the current one, ending with the target.

    kubeadm upgrades one minor at a time (cmd/kubeadm/app/phases/upgrade/policy.go). The path is empty if the target is
    not newer.

    :param patches: minor ("1.21") -> version that the operator chose for it
    :raises VersionError: naming every minor without a usable version
    """
    if target <= current:
        return []
    path: t.List[Version] = []
    found: t.List[Problem] = []
    for minor in range(current.minor + 1, target.minor):
        try:
            path.append(_patch_of(minor, patches))
        except VersionError as exc:
            found += exc.problems
    if found:
        raise VersionError(*found)
    return [*path, target]


def _patch_of(minor: int, patches: t.Mapping[str, str]) -> Version:
    line = f"1.{minor}"
    chosen = patches.get(line)
    if chosen is None:
        if minor not in LAST_PATCHES:
            raise VersionError(problems.patch_unknown(line))
        return Version(1, minor, LAST_PATCHES[minor])
    version = parse_version(chosen)
    if version.line != (1, minor):
        raise VersionError(problems.patch_of_other_minor(chosen, line))
    if str(version) in BROKEN:
        raise VersionError(problems.patch_refused(chosen, line, BROKEN[str(version)]))
    return version
