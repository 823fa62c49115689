# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: variables of an inventory that look like kubepin's and are none: Ansible ignores them without a word."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

SHARED = (
    "kubepin_batches",
    "kubepin_kubeconfig",
    "kubepin_node_name",
    "kubepin_progress_directory",
    "kubepin_run",
    "kubepin_runs",
    "kubepin_stop_file",
    "kubepin_upgrade_first",
    "tune_benchmark",
    "tune_benchmark_unchanged",
)
"""Variables that playbooks read and no role documents."""
_FACTS = (
    "kubepin_benchmark",
    "kubepin_benchmarks",
    "kubepin_check",
    "kubepin_comparison",
    "kubepin_node",
    "kubepin_plan",
    "kubepin_probe",
    "kubepin_result",
    "kubepin_started",
    "kubepin_upgrade_plan",
    "kubepin_upgrade_result",
)
_ALIKE = 0.85
"""How alike two names are, from 0 to 1 (difflib), if one is taken for the other with a typing error."""


def misspelt(names: Iterable[str], known_of_role: Mapping[str, Collection[str]]) -> list[str]:
    """A sentence for each of the *names* that begins like kubepin's variables, is none, and is almost one.

    Other unknown names may belong to the site itself.

    :param known_of_role: role -> its variables
    """
    known = {*SHARED, *_FACTS, *(name for names_of_role in known_of_role.values() for name in names_of_role)}
    prefixes = tuple(f"{prefix}_" for prefix in ("kubepin", "tune", *known_of_role))
    return [
        f"variable {name} is not one of kubepin's, and has no effect: did you mean {close[0]}?"
        for name in sorted(set(names) - known)
        if name.startswith(prefixes) and (close := difflib.get_close_matches(name, sorted(known), 1, _ALIKE))
    ]
