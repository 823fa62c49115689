# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade needs on a node: files that can be replaced, and patches that kubeadm can use."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import flag_value
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubeadm import FLAGS_FILE, program_path
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import EXTRA_ARGS_FILES
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import PROGRAMS

_PATCHES_SINCE = 22
"""The first minor version of 1.x whose kubeadm has --patches (kubernetes/kubernetes:
cmd/kubeadm/app/cmd/options/constant.go)."""


def upgrade_obstacles(files: Files, command_line: t.Sequence[str], packaged: bool) -> t.List[Problem]:
    """Everything that prevents replacing the programs and the kubelet's files; changes nothing.

    :param command_line: the kubelet's, with the program first
    :param packaged: whether a package manager replaces the programs, so that their hard links and attributes are its
    """
    programs = [program_path(program) for program in PROGRAMS]
    settings = [FLAGS_FILE, flag_value(command_line, "config"), *EXTRA_ARGS_FILES]
    found = [problem for path in programs for problem in files.obstacles(path, removes=packaged)]
    for path in settings:
        if path and os.path.lexists(path):
            found += files.obstacles(path)
    return list(dict.fromkeys(found))


def patches_problems(directory: str, versions: t.Sequence[str]) -> t.List[Problem]:
    """What keeps `kubeadm upgrade --patches` from working; reads only.

    :param versions: those to upgrade to, whose kubeadm reads the patches
    """
    found = [] if os.path.isdir(directory) else [problems.no_patches_directory(directory)]
    too_old = [version for version in versions if parse_version(version).minor < _PATCHES_SINCE]
    return [*found, *(problems.patches_unknown(version, f"1.{_PATCHES_SINCE}") for version in too_old)]
