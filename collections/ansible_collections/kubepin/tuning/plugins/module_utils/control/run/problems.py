# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with variables of a run."""

from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_KINDS = {"list": ("a list", "[...]"), "dict": ("a dictionary", "{...}")}
_AS_JSON = "On the command line, pass it as JSON ({}), or in a file with -e @FILE: anything else stays text."


def text_given(name: str, kind: str, value: object) -> Problem:
    """:param kind: ``list`` or ``dict``"""
    words, form = _KINDS[kind]
    example = f"-e '{{\"{name}\": {form}}}'"
    return Problem("variable_is_text", f'{name} "{value}"', f"is text: expected {words}", _AS_JSON.format(example))


def batch_invalid(size: object) -> Problem:
    """:param size: of a batch of nodes"""
    return Problem(
        "batches_invalid",
        f'"{size}" in kubepin_batches',
        "is not a number of nodes: expected a whole number from 1 on, or a percentage such as 25%",
        _AS_JSON.format('-e \'{"kubepin_batches": [1, "25%"]}\''),
    )


def report_not_writable(folder: str, reason: str) -> Problem:
    return Problem(
        "report_not_writable",
        f"the report of this run in {folder}",
        f"cannot be written: {reason}",
        "Name another folder in kubepin_runs.",
    )
