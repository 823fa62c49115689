# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with the steps of an upgrade on a node, and with where its programs come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_MAKE_ROOM = "Make room there, and run the playbook again."
_KUBELET_UNTOUCHED = "The kubelet was not touched."


# Where programs and images come from


def archives_missing(version: str, patterns: Sequence[str]) -> Problem:
    return Problem(
        "image_archive_missing",
        f"No image archive of {version}",
        f"is at {', '.join(patterns)} on this node",
        "Put them there, or correct the pattern.",
    )


def archive_invalid(path: str, reason: str) -> Problem:
    return Problem(
        "image_archive_invalid",
        path,
        f"is not an image archive as `docker save` writes it: {reason}",
        "Write it again, and copy it to this node.",
    )


def images_not_loaded(path: str, output: str) -> Problem:
    return Problem(
        "images_not_loaded",
        f"the images in {path}",
        f"cannot be loaded: {output}",
        "Check that containerd runs and has room (`ctr --namespace k8s.io images list`), and run the playbook again.",
    )


def program_missing(path: str) -> Problem:
    return Problem(
        "program_missing",
        path,
        "is not on this node",
        "Put it there together with its checksum file, or correct the folder.",
    )


def program_unreadable(path: str, reason: str) -> Problem:
    return Problem("program_unreadable", path, f"cannot be read on this node: {reason}", "Put the program there.")


def program_not_copied(path: str, folder: str, reason: str) -> Problem:
    return Problem("program_not_copied", path, f"cannot be copied to {folder}: {reason}", _MAKE_ROOM)


def program_of_other_version(program: str, wanted: str, found: str, path: str) -> Problem:
    """:param found: the version that it says it is; empty if it says nothing"""
    return Problem(
        "program_of_other_version",
        f"the {program} that the source has for {wanted}",
        f"says that it is {found or 'nothing'}: `{path}` does not run, or is another version",
        "Correct the source. The installed programs were not touched.",
    )


def checksum_unprotected(program: str, version: str, folder: str) -> Problem:
    return Problem(
        "checksum_unprotected",
        f"{program} {version}",
        f"would come from {folder} over http, and so would its checksum: whoever is on the way can replace both",
        "Use https, or name its SHA-256 in `checksums`.",
    )


def checksum_missing(program: str, version: str, path: str, there: bool) -> Problem:
    """:param there: whether the file exists, and holds no checksum"""
    return Problem(
        "checksum_missing",
        f"{program} {version}",
        f"has no checksum: {path} {'holds no SHA-256' if there else 'is not there'}",
        "Put it there, or name it in `checksums`.",
    )


def checksum_differs(origin: str, found: str, expected: str) -> Problem:
    return Problem(
        "checksum_differs",
        origin,
        f"is not what its checksum says: SHA-256 {found}, expected {expected}",
        "Fetch it again.",
    )


def source_answers(url: str, status: int, reason: str) -> Problem:
    return Problem("source_refuses", url, f"answers {status} {reason} to this node", "Correct the URL.")


def source_unreachable(url: str, reason: str) -> Problem:
    return Problem(
        "source_unreachable",
        url,
        f"cannot be reached from this node: {reason}",
        "Open the way, or use a folder on the nodes.",
    )


# Packages


def not_packaged(programs: Sequence[str]) -> Problem:
    """:param programs: what is wrong with which program, as clauses"""
    return Problem(
        "programs_not_packaged",
        "packages cannot be upgraded on this node:",
        ", ".join(programs),
        "Install the packages of the version that it runs first, or upgrade with kubeadm_upgrade_source: binaries.",
    )


def checksums_of_packages() -> Problem:
    return Problem(
        "checksums_of_packages",
        "kubeadm_upgrade_checksums",
        "are for binaries; packages are verified by their repository",
        "Take them out.",
    )


def repository_unprotected(url: str) -> Problem:
    return Problem(
        "repository_unprotected",
        f"packages would come from {url}",
        "over http and without a signature: whoever is on the way can replace them",
        "Use https, or a repository that is signed, with its key in kubeadm_upgrade_repository_key.",
    )


def repository_key_missing(path: str) -> Problem:
    return Problem(
        "repository_key_missing",
        f"the repository's key {path}",
        "is not on this node",
        "Put it there, or correct kubeadm_upgrade_repository_key.",
    )


def no_package_manager() -> Problem:
    return Problem(
        "no_package_manager",
        "this node",
        "has neither apt-get nor dnf, so that it cannot be upgraded with packages",
        "Use kubeadm_upgrade_source: binaries.",
    )


def repository_too_young(version: str, oldest: str) -> Problem:
    return Problem(
        "repository_too_young",
        f"packages of {version}:",
        f"the community's repositories begin with {oldest}, those of older minors are gone",
        "Name a mirror of your own (kubeadm_upgrade_repository), or use kubeadm_upgrade_source: binaries.",
    )


def packages_missing(names: Sequence[str], version: str, url: str, others: Sequence[str]) -> Problem:
    """:param others: the versions that the repository has instead"""
    has = f"it has {', '.join(others)}" if others else "it has none of any version"
    return Problem(
        "packages_missing",
        f"{', '.join(names)} {version}:",
        f"{url} has no such package ({has})",
        "Put the packages there, name a repository that has them (kubeadm_upgrade_repository), or choose another patch "
        "(kubeadm_upgrade_patches).",
    )


def of_packages(version: str, problem: Problem) -> Problem:
    """The problem, with the version whose packages it is about in front."""
    return replace(problem, subject=f"packages of {version}: {problem.subject}")


def package_command_failed(command: str, output: str) -> Problem:
    return Problem(
        "package_command_failed",
        f"`{command}`",
        f"failed: {output}",
        "Run it on the node by hand, remove the cause, and run the playbook again.",
    )


def package_differs(uri: str) -> Problem:
    return Problem("package_differs", uri, "is not what the repository's index says", "Repair the repository.")


def packages_not_kept() -> Problem:
    return Problem(
        "packages_not_kept",
        "the packages that are installed",
        "cannot be fetched, and without them a failed upgrade could not be undone",
        "Make them available to this node. Nothing was installed.",
    )


def packages_not_put(version: str, folder: str, reason: str) -> Problem:
    return Problem(
        "packages_not_put",
        f"the packages of {version}",
        f"cannot be put into {folder}: {reason}",
        f"{_MAKE_ROOM} Nothing was installed.",
    )


def packages_not_restored(folder: str) -> Problem:
    return Problem("packages_not_restored", "the packages of before", "are not back", f"Install those in {folder}.")


# Steps


def folder_not_made(path: str, reason: str) -> Problem:
    return Problem("folder_not_made", path, f"cannot be made: {reason}", _MAKE_ROOM)


def no_room(path: str, reason: str) -> Problem:
    return Problem("file_not_writable", path, f"cannot be written: {reason}", _MAKE_ROOM)


def kubelet_file_not_writable(path: str, reason: str) -> Problem:
    return Problem("file_not_writable", path, f"cannot be written: {reason}", f"{_MAKE_ROOM} {_KUBELET_UNTOUCHED}")


def no_patches_directory(path: str) -> Problem:
    return Problem(
        "patches_directory_missing",
        f"the folder of kubeadm's patches {path}",
        "is not on this node",
        "Put it there, or correct kubeadm_upgrade_patches_directory.",
    )


def patches_unknown(version: str, since: str) -> Problem:
    """:param since: the first minor whose kubeadm has --patches"""
    return Problem(
        "patches_unknown",
        f"kubeadm {version}",
        f"has no --patches, which comes with {since}",
        f"Leave kubeadm_upgrade_patches_directory unset up to {since}, and set it in a second run.",
    )


def no_etcd_snapshot(url: str, reason: str) -> Problem:
    return Problem(
        "etcd_snapshot_failed",
        "etcd",
        f"gave no snapshot through {url}: {reason}",
        "Nothing was changed. Look at the etcd pod of this node.",
    )


def kubeadm_failed(command: str, output: str, way_back: str) -> Problem:
    return Problem(
        "kubeadm_failed",
        f"`{command}`",
        f"failed: {output}",
        "To go on, remove the cause and run the playbook again: it continues here. kubeadm puts the old manifests back "
        f"where it can. To go back: {_sentence(way_back)}",
    )


def flags_removed(version: str, names: Sequence[str]) -> Problem:
    return Problem(
        "flags_removed",
        f"the kubelet of {version}",
        f"refuses --{', --'.join(names)}, which this node's kubelet runs with",
        f"Move the setting into the kubelet's configuration file, or take the flag out. {_KUBELET_UNTOUCHED}",
    )


def upgrade_undone(version: str, old: str, verified: Sequence[str], way_back: str) -> Problem:
    return Problem(
        "upgrade_undone",
        f"the kubelet of {version}",
        f"did not run: {old} is back and verified ({'; '.join(verified)})",
        f"Remove the cause, and run the playbook again. {_sentence(way_back)}",
    )


def upgrade_not_undone(version: str, old: str, way_back: str) -> Problem:
    return Problem(
        "upgrade_not_undone",
        f"the kubelet of {version}",
        f"did not run, and putting {old} back did not verify either. The node is cordoned",
        _sentence(way_back),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
