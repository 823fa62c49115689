# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what is wrong with the names and types of variables, which Ansible either ignores or ends with a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.problems import batch_invalid, text_given

BATCHES = "kubepin_batches"
SHARED = (
    BATCHES,
    "kubepin_kubeconfig",
    "kubepin_node_name",
    "kubepin_progress_directory",
    "kubepin_read_timeout",
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


def type_problems(values: Mapping[str, object], kinds: Mapping[str, str]) -> list[Problem]:
    """A problem for each variable that is text and must be a list or a dictionary, and for batches that are none.

    ``-e name=[1]`` gives text: Ansible takes only ``-e '{"name": [1]}'`` and files as YAML.

    :param values: the variables of a host
    :param kinds: variable -> ``list`` or ``dict``
    """
    given = {name: value for name, value in values.items() if isinstance(value, str) and value}
    problems = [text_given(name, kinds[name], given[name]) for name in sorted(kinds) if name in given]
    batches = values.get(BATCHES, 1)
    sizes = list(batches) if isinstance(batches, (list, tuple)) else [batches]
    return [*problems, *(batch_invalid(size) for size in sizes or ["[]"] if not _is_batch(size))]


def _is_batch(size: object) -> bool:
    """Whether Ansible's `serial` takes it: a number from 1 on, or a percentage."""
    return not isinstance(size, bool) and bool(re.fullmatch(r"[1-9]\d*%?", str(size), re.ASCII))
