# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a version, or with the path from one to another."""

from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

VERSION = "version"


def not_a_version(text: str) -> Problem:
    return Problem(
        VERSION, f'"{text[:60]}"', "is not a Kubernetes version: expected MAJOR.MINOR.PATCH, such as 1.22.17"
    )


def target_refused(target: object, reason: str, instead: str) -> Problem:
    return Problem(VERSION, f"target version {target}", f"is refused: {reason}", f"Ask for {instead}.")


def start_too_old(current: object, oldest: str) -> Problem:
    return Problem(
        VERSION,
        f"a cluster at {current}",
        f"is older than {oldest}, where upgrades can start",
        f"Upgrade it to {oldest} by hand first.",
    )


def patch_unknown(line: str) -> Problem:
    return Problem(
        VERSION,
        "the upgrade path",
        f"includes {line}, whose latest patch kubepin does not know",
        f'Name one in `patches`, such as {{"{line}": "{line}.1"}}.',
    )


def patch_of_other_minor(chosen: str, line: str) -> Problem:
    return Problem(VERSION, "`patches`", f'gives {chosen} for {line}: expected a version of {line}, such as "{line}.1"')


def patch_refused(chosen: str, line: str, reason: str) -> Problem:
    return Problem(VERSION, "`patches`", f"gives {chosen} for {line}, which is refused: {reason}")
