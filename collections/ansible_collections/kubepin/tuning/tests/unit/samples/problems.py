# SPDX-License-Identifier: GPL-3.0-or-later
"""Every wording of a module of problems, built with made-up values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.installer import Installer
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import Difference

_SAMPLES: dict[str, Any] = {
    "str": "value",
    "object": "value",
    "int": 2,
    "float": 2.5,
    "bool": True,
    "t.Optional[int]": 2,
    "t.Iterable[int]": [0, 1],
    "t.Iterable[str]": ["a", "b"],
    "t.Sequence[int]": [0, 1],
    "t.Sequence[str]": ["a", "b"],
    "t.Mapping[str, object]": {"a": 1},
    "Sequence[str]": ["a", "b"],
    "Iterable[str]": ["a", "b"],
    "Sequence[tuple[str, float]]": [("/a", 2.0), ("/b", -1.0)],
    "Mapping[str, object]": {"paths": ["/a"], "free_mb": 1, "needed_mb": 2},
    "Iterable[Difference]": [Difference("maxPods", "110", "250", "/a")],
    "Cause": Cause("E0101 run.go:74] command failed", "a setting is wrong", "Correct it."),
    "Installer": Installer("kubeadm", "annotation a", "Run it."),
    "Problem": Problem("code", "subject", "finding", "Remedy."),
}
"""Annotation of a parameter -> a value of that type."""

_NAMED = {"reason": "a reason that ends with a full stop.", "remedy": "What to do."}
"""Name of a parameter -> a value of what it holds."""


def a_problem(finding: str) -> Problem:
    """A problem that only has to say this."""
    return Problem("sample", "", finding)


@contextmanager
def refused(*codes: str) -> Iterator[pytest.ExceptionInfo[TuningError]]:
    """A block that must fail with problems of these codes, in this order; others may come between."""
    with pytest.raises(TuningError) as caught:
        yield caught
    found = iter(problem.code for problem in caught.value.problems)
    assert all(code in found for code in codes), f"{codes} are not among {[p.code for p in caught.value.problems]}"


def wordings(module: ModuleType) -> dict[str, Problem]:
    """Name -> what each public function of *module* that returns a problem returns."""
    functions = {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }
    return {
        name: function(*map(_sample, inspect.signature(function).parameters.values()))
        for name, function in functions.items()
        if function.__annotations__["return"] == "Problem"
    }


def _sample(parameter: inspect.Parameter) -> Any:
    return _NAMED.get(parameter.name) or _SAMPLES[parameter.annotation]


def assert_proper(problem: Problem) -> None:
    """A code, and sentences without a gap or a doubled full stop."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", problem.code), problem
    assert problem.finding, problem
    assert problem.text.endswith("."), problem
    for fault in ("..", "  ", " .", " ,", "::", ".:", "None"):
        assert fault not in problem.text, (fault, problem.text)
    assert not re.search(r"\{\w", problem.text), f"a value was not filled in: {problem.text}"
    assert not problem.remedy or (problem.remedy[0].isupper() and problem.remedy.endswith(".")), problem
