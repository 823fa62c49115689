# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined

FILTERS = sorted((Path(__file__).parents[4] / "plugins/filter").glob("*.py"))


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., Any]:
    """The value of an expression of a playbook, which names filters in full: Jinja's, without Ansible's own loader."""
    environment = Environment(undefined=StrictUndefined)
    for path in FILTERS:
        plugin = importlib.import_module(f"ansible_collections.kubepin.tuning.plugins.filter.{path.stem}")
        found = plugin.FilterModule().filters()
        environment.filters |= {f"kubepin.tuning.{name}": function for name, function in found.items()}

    def value(expression: str, **variables: Any) -> Any:
        return environment.compile_expression(expression, undefined_to_none=False)(**variables)

    return value
